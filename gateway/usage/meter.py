"""The meters: one that reads an answer, one that lets it pass.

In: an answer's encoded bytes as they come. Out: a Reading at the end. Never raises on bytes, never touches them: what
is decoded is a copy.
"""

from typing import Any

from gateway.usage import estimate
from gateway.usage.bounded import WHOLE_LIMIT_BYTES, BoundedBytes, Excerpt
from gateway.usage.dialect import Dialect
from gateway.usage.encodings import Decoder, EncodingFault, open_decoder
from gateway.usage.errors import category_of_answer, category_of_status, error_in
from gateway.usage.jsontext import decode_document, decode_series, decode_value, salvage
from gateway.usage.reading import Call, Reading
from gateway.usage.sse import EventScanner
from gateway.usage.tally import Tally
from gateway.usage.verdict import reading_of

_DONE = b"[DONE]"


class SilentMeter:
    """For answers that cannot tell anything: it only knows whether they broke off."""

    faulted = False
    ended = False

    def __init__(self, *, has_content: bool) -> None:
        """`has_content`: the bytes are the model's own output, as sound or as plain text."""
        self._has_content = has_content
        self.token_seen = False

    def feed(self, chunk: bytes) -> None:
        """Let the bytes pass."""
        if chunk and self._has_content:
            self.token_seen = True

    def finish(self, *, complete: bool) -> Reading:
        """Return a reading without usage."""
        return reading_of(None, None, Tally(""), ended=complete, legible=True)


class AnswerMeter:
    """Reads a stream of events or one JSON document, in whatever encoding."""

    __slots__ = (
        "_body",
        "_call",
        "_decoder",
        "_dialect",
        "_failed",
        "_legible",
        "_only_piece",
        "_received",
        "_scanner",
        "_status",
        "_tally",
        "faulted",
    )

    def __init__(
        self, call: Call, dialect: Dialect | None, status: int, media_type: str, content_encoding: str
    ) -> None:
        self._call = call
        self._status = status
        self._failed = category_of_status(status) != ""
        # An error's usage does not count, and without a dialect only errors are read.
        self._dialect = None if self._failed else dialect
        self._tally = Tally(call.provider)
        self._scanner: EventScanner | None = None
        if media_type == "text/event-stream":
            usual = None if self._dialect is None else self._dialect.usual_events(self._tally)
            self._scanner = EventScanner(self._take_event, usual)
        self._only_piece = b""
        """The document, if it came in one piece; from the second on they are all in `_body`."""
        self._body: BoundedBytes | None = None
        self._received = False
        self._legible = True
        self._decoder: Decoder | None = None
        self.faulted = False
        if content_encoding:
            try:
                self._decoder = open_decoder(content_encoding)
            except EncodingFault:
                self._legible = False

    @property
    def token_seen(self) -> bool:
        """Whether the first piece of content has come."""
        return self._tally.token_seen or (self._received and self._scanner is None and not self._failed)

    @property
    def ended(self) -> bool:
        """Whether the dialect's own end marker came."""
        return self._tally.ended

    def feed(self, chunk: bytes) -> None:
        """Take the next encoded bytes."""
        if not chunk:
            return
        self._received = True
        if not self._legible:
            return
        if self._decoder is None:
            self._take_decoded(chunk)
            return
        try:
            for piece in self._decoder.decode(chunk):
                self._take_decoded(piece)
        except EncodingFault:
            self._legible = False

    def finish(self, *, complete: bool) -> Reading:
        """Return the reading."""
        tally = self._tally
        if self._scanner is None:
            ended = self._read_body(complete=complete) or complete
        else:
            unreadable = tally.unreadable
            self._scanner.close()
            if not complete:
                # Half an event is no riddle when the transfer broke off.
                tally.unreadable = unreadable
            unmarked = self._dialect is None or not self._dialect.marks_end or not self._legible
            ended = tally.ended or (complete and unmarked)
        if self._failed:
            tally.error_category = tally.error_category or category_of_status(self._status)
        reading = reading_of(self._call, self._dialect, tally, ended=ended, legible=self._legible)
        unread = tally.unreadable or not self._legible
        self.faulted = complete and unread and self._dialect is not None and reading.usage_source != "provider"
        return reading

    def _take_decoded(self, piece: bytes) -> None:
        if self._scanner is not None:
            self._scanner.feed(piece)
        elif self._body is not None:
            self._body.add(piece)
        elif not self._only_piece and len(piece) <= WHOLE_LIMIT_BYTES:
            self._only_piece = piece
        else:
            self._body = BoundedBytes()
            self._body.add(self._only_piece)
            self._body.add(piece)

    def _take_event(self, name: bytes, data: bytes | Excerpt) -> None:
        if isinstance(data, Excerpt):
            event: Any = salvage(data)
        elif data.startswith(_DONE):
            self._tally.ended = True
            return
        elif self._dialect is not None and self._dialect.ignores(name):
            return
        else:
            event = decode_value(data)
        self._read(event, is_event=True)

    def _read_body(self, *, complete: bool) -> bool:
        """Read the collected document; return whether it is whole."""
        body: bytes | Excerpt = self._only_piece
        size_bytes = len(body)
        if self._body is not None:
            size_bytes = self._body.size_bytes
            body = self._body.take()
        if isinstance(body, Excerpt):
            self._read(salvage(body), is_event=False)
            self._tally.unreadable = self._tally.reported is None
            return False
        if self._dialect is not None and self._dialect.read_usual_document(self._tally, body):
            return True
        document = decode_document(body)
        if document is not None or complete or not self._legible:
            self._read(document, is_event=False)
            return document is not None
        if body.lstrip().startswith(b"["):
            self._read(decode_series(body), is_event=False)
        elif self._dialect is not None:
            self._tally.text_bytes = max(size_bytes - estimate.ENVELOPE_BYTES, 0)
        return False

    def _read(self, value: Any, *, is_event: bool) -> None:
        """Note what was parsed; an array counts as its elements."""
        if self._failed:
            if error_in(value) or not is_event:
                self._tally.error_category = category_of_answer(self._status, value)
            if isinstance(value, dict):
                self._tally.note_request_id(value.get("request_id"))
            return
        readable = False
        for document in value if isinstance(value, list) else (value,):
            if isinstance(document, dict) and self._dialect is not None:
                readable = True
                if is_event:
                    self._dialect.read_event(self._tally, document)
                else:
                    self._dialect.read_document(self._tally, document)
        self._tally.unreadable = self._tally.unreadable or not readable
