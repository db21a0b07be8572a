"""One understood request, the input of every dialect, and the Reply every dialect gives back.

In and out: plain records. Never touches the network or a clock; `sequence` and `created_s` come from the caller.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from deploy.local.providers.models import answered_model
from deploy.local.providers.reading import Upload
from deploy.local.providers.routing import Route
from deploy.local.providers.tokens import TokenCounts

Headers = tuple[tuple[str, str], ...]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A routed, authenticated and decoded request with the answer it will get."""

    route: Route
    body: Mapping[str, Any]
    uploads: tuple[Upload, ...] = ()
    requested_model: str = ""
    counts: TokenCounts
    pieces: tuple[str, ...]
    """The answer text, one piece per streamed event."""
    sequence: int
    """Number of the request in this process, used for ids."""
    created_s: int
    version: str = ""
    """The anthropic-version header."""

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    @property
    def model(self) -> str:
        """The model name the response shows."""
        return answered_model(self.route.provider, self.requested_model)

    @property
    def streams(self) -> bool:
        """The request asks for a stream (JSON true, or the word in a multipart field)."""
        # A tuple, because the value may be unhashable.
        return self.body.get("stream") in (True, "true")

    @property
    def includes_usage(self) -> bool:
        """The request asks for usage in a chat stream."""
        options = self.body.get("stream_options")
        return isinstance(options, Mapping) and bool(options.get("include_usage"))

    def object_id(self, prefix: str) -> str:
        """Return an id that is stable for this request, such as `chatcmpl-mock00000007`."""
        return f"{prefix}mock{self.sequence:08d}"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer before behaviours apply. `pieces` are sent one by one: one per SSE event, or one for a whole body."""

    status: int = 200
    content_type: str
    pieces: tuple[bytes, ...]
    failure_event: bytes = b""
    """What this provider sends when its stream fails midway; empty where it just closes."""
    extra_headers: Headers = ()


def json_reply(document: Any, *, status: int = 200, indent: int | None = None) -> Reply:
    """Return a JSON body. Some providers pretty-print theirs."""
    encoded = msgspec.json.encode(document)
    if indent is not None:
        encoded = msgspec.json.format(encoded, indent=indent)
    return Reply(status=status, content_type="application/json", pieces=(encoded,))


def data_event(document: Any, *, name: str = "") -> bytes:
    """Return one SSE event with the document as compact JSON, named if a name is given."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%sdata: %s\n\n" % (head, msgspec.json.encode(document))
