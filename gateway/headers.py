"""Heads on their way through: what is forwarded, what stays on its hop, and what a head tells about its sender.

In: raw header fields as pairs of bytes, in wire order. Out: the fields to send on, in the same order, case and number.
Never puts a field's value into an error text: values are credentials.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Final

RawHeaders = Sequence[tuple[bytes, bytes]]

VALUE_LIMIT_BYTES: Final = 1024
"""Longest text of a client that is stored; the rest is cut so that a hostile header cannot fill a disk."""

_HOP_FIELDS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110 7.6.1; the fields that Connection names come on top."""
_REQUEST_HOP_FIELDS: Final = _HOP_FIELDS | {b"trailer", b"proxy-authenticate", b"proxy-authorization", b"expect"}
_NEVER_HOP: Final = frozenset({b"host", b"content-length"})
"""A client that names these in Connection would unframe its own request."""
_SINGLE: Final = (b"host", b"content-length", b"authorization", b"x-lectr-key")
"""Of two different values, one is a trick: which host, which length, whose credentials, who pays?"""
_LECTR_PREFIX: Final = b"x-lectr-"
_HARMLESS: Final = bytes(byte for byte in range(256) if byte not in b"\r\n\0")
_TOUCHED: Final = frozenset({b"host", b"authorization"})
_BEARER: Final = re.compile(rb"[ \t]*bearer[ \t]+([^ \t]+)[ \t]*", re.IGNORECASE)
_KEY_FIELD: Final = {"anthropic": b"x-api-key", "azure": b"api-key"}
_JWT_START: Final = b"eyJ"
"""Base64 of `{"`: every JSON Web Token starts so, and no API key of either provider does."""


class RequestFields:
    """The fields of a request's head, their names lowered once for everybody who looks at them."""

    __slots__ = ("distinct", "names", "raw")

    def __init__(self, raw: RawHeaders) -> None:
        self.raw = raw
        self.names = [name.lower() for name, _ in raw]
        self.distinct = set(self.names)


def _named_by_connection(raw: RawHeaders) -> set[bytes]:
    """Lower-case names of the fields that Connection declares to be for this hop only."""
    named: set[bytes] = set()
    for name, value in raw:
        if name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return named - _NEVER_HOP


def _is_access_token(token: bytes) -> bool:
    """Whether a bearer token is no API key: refused by the providers under their key header, accepted as bearer.

    Entra ID tokens (Azure) and federation tokens (Anthropic) are JWTs; Anthropic's OAuth tokens have their own prefix.
    """
    return token.startswith(b"sk-ant-oat") or (token.startswith(_JWT_START) and b"." in token)


def upstream_headers(  # noqa: C901 - one pass, as it runs for every request
    fields: RequestFields,
    provider: str,
    target_host: str,
    *,
    azure_claude: bool = False,
) -> list[tuple[bytes, bytes]]:
    """The request head for the provider.

    Host is rewritten in its place (or put first), hop-by-hop and `X-Lectr-*` fields are left out, and a bearer key is
    moved to the field that Anthropic or Azure has for keys. It stays as it is when it is an access token, not a bearer
    token at all, or when the client sends that field itself. `azure_claude`: the target is Claude on Azure, which reads
    `x-api-key` (Anthropic's client for it sends both names).
    """
    dropped: AbstractSet[bytes] = _REQUEST_HOP_FIELDS
    if b"connection" in fields.distinct:
        dropped = dropped | _named_by_connection(fields.raw)
    key_field = _KEY_FIELD.get(provider)
    if key_field and (key_field in fields.distinct or b"x-api-key" in fields.distinct):
        key_field = None
    host = target_host.encode("ascii")
    kept: list[tuple[bytes, bytes]] = []
    host_written = False
    for lower, field in zip(fields.names, fields.raw, strict=True):
        if lower in dropped or lower.startswith(_LECTR_PREFIX):
            continue
        if lower not in _TOUCHED:
            kept.append(field)
            continue
        name, value = field
        if lower == b"host":
            if not host_written:
                kept.append((name, host))
                host_written = True
        elif lower == b"authorization" and key_field and (bearer := _BEARER.fullmatch(value)):
            token = bearer[1]
            if _is_access_token(token):
                kept.append((name, value))
                continue
            kept.append((key_field, token))
            if azure_claude:
                kept.append((b"x-api-key", token))
        else:
            kept.append((name, value))
    return kept if host_written else [(b"Host", host), *kept]


def response_headers(raw: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The provider's head for the client: all of it but the hop's own fields.

    Content-Length stays (the bytes are the same, and HEAD and 304 carry it without a body) unless the hop was chunked.
    """
    dropped = _HOP_FIELDS | _named_by_connection(raw)
    if any(name.lower() == b"transfer-encoding" for name, _ in raw):
        dropped |= {b"content-length"}
    return [(name, value) for name, value in raw if name.lower() not in dropped]


def check_head(fields: RequestFields) -> str | None:
    """Why this request head is malformed (answer 400), or None. The reason never repeats a value."""
    raw = fields.raw
    if b"".join(chain.from_iterable(raw)).translate(None, _HARMLESS):
        return "a header field contains CR, LF or NUL"
    if len(fields.distinct) == len(raw) and b"transfer-encoding" not in fields.distinct:
        return None
    seen: dict[bytes, bytes] = {}
    for name, value in raw:
        lower = name.lower()
        if lower in _SINGLE and seen.setdefault(lower, value) != value:
            return f"several different {lower.decode()} header fields"
        if lower == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                return "a transfer-encoding other than chunked"
            seen[lower] = value
    if b"transfer-encoding" in seen and b"content-length" in seen:
        return "both content-length and transfer-encoding"
    return None


def clean_value(raw: str, limit_bytes: int = VALUE_LIMIT_BYTES) -> tuple[str, bool]:
    """A client's text as it may be stored: valid UTF-8 of at most so many bytes, and whether something was cut off.

    Header text may hold undecodable bytes and JSON text half a surrogate pair; both become U+FFFD.
    """
    cut = len(raw) > limit_bytes
    text = raw[:limit_bytes] if cut else raw
    if text.isascii():
        return text, cut
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = re.sub("[\ud800-\udfff]", "\ufffd", text).encode()
    if len(data) > limit_bytes:
        return data[:limit_bytes].decode("utf-8", "ignore"), True
    return data.decode(), cut


_VERSION: Final = r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}"
_STAINLESS_AGENT: Final = re.compile(
    rf"(?:Async)?(?:Azure)?(OpenAI|Anthropic|Groq)/(Python|JS|Go|Java|Ruby) ({_VERSION})"
)
_PRODUCT_AGENT: Final = re.compile(
    rf"(google-genai-sdk|langchain-(?:openai|anthropic|groq|google-genai)|litellm|pydantic-ai"
    rf"|ai-sdk/(?:openai|openai-compatible|anthropic|groq|google|azure))/({_VERSION})"
)
_STAINLESS_LANGUAGE: Final = re.compile(r"python|js|go|java|kotlin|ruby|csharp|php")


def sdk_of(headers: Mapping[str, str]) -> str:
    """Name and version of the client's SDK, `openai-python/3.54.0`; empty when it is none of those known here.

    `headers` maps lower-case names to first values. The name is from a closed set and the version is short, whatever
    a client sends.
    """
    agent = headers.get("user-agent", "")
    if found := _STAINLESS_AGENT.match(agent):
        return f"{found[1].lower()}-{found[2].lower()}/{found[3]}"
    if found := _PRODUCT_AGENT.search(agent[:256]) or _PRODUCT_AGENT.search(headers.get("x-goog-api-client", "")[:256]):
        return f"{found[1]}/{found[2]}"
    # An application that sets its own user-agent still has the SDK's other headers.
    language = headers.get("x-stainless-lang", "")
    version = headers.get("x-stainless-package-version", "")
    if _STAINLESS_LANGUAGE.fullmatch(language) and re.fullmatch(_VERSION, version):
        return f"stainless-{language}/{version}"
    return ""


def retry_count_of(headers: Mapping[str, str]) -> int:
    """How often the SDK has tried this request before, 0 to 999; 0 when it does not say."""
    count = headers.get("x-stainless-retry-count", "0")
    return int(count) if count != "0" and re.fullmatch(r"[0-9]{1,3}", count) else 0
