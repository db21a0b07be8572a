"""The fields `model` and `stream` of a multipart form, while its bytes are still arriving.

In: the Content-Type and the bytes received so far. Out: the fields' values once they are complete. Looks only at the
parts' heads: what a file contains is skipped, and only the form's own boundary ends it.
"""

import re
from typing import Final

from gateway.headers import clean_value

_PARAMETER: Final = re.compile(r"[ \t]*;[ \t]*([\w!#$%&'*+.^`|~-]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^;\s]*))")
_DISPOSITION: Final = re.compile(r"^content-disposition[ \t]*:[ \t]*form-data", re.IGNORECASE | re.MULTILINE)
_BOUNDARY_LIMIT: Final = 256
"""RFC 2046 allows 70; what is longer than this is no boundary but an attack on the search."""
_PART_HEAD_LIMIT_BYTES: Final = 16_384
_PADDING_LIMIT_BYTES: Final = 256
_MODEL_LIMIT_BYTES: Final = 8_192
"""Beyond it the field is no model name; the search gives up instead of buffering."""
_FLAG_LIMIT_BYTES: Final = 16
"""Beyond it a field is neither true nor false."""
_TRUE: Final = frozenset({b"true", b"1", b"yes", b"on"})
"""In lower case: forms have no booleans, and what reads them at a provider takes all of these."""


def _parameters(text: str, start: int) -> dict[str, str]:
    """Parameters after a media type or disposition, names in lower case, first one wins."""
    found: dict[str, str] = {}
    while match := _PARAMETER.match(text, start):
        quoted = match[2]
        found.setdefault(match[1].lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3])
        start = match.end()
    return found


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a `multipart/form-data` Content-Type; None when it is another type or has none."""
    media_type = content_type.partition(";")[0]
    if media_type.strip().lower() != "multipart/form-data":
        return None
    boundary = _parameters(content_type, len(media_type.rstrip())).get("boundary", "")
    return boundary.encode("utf-8", "replace") if 0 < len(boundary) <= _BOUNDARY_LIMIT else None


class ModelField:
    """A search that continues where it stopped: call `scan` with the growing buffer, each time from its first byte.

    `finished` says that no later byte can change the answer. Content is searched once, however often `scan` is called.
    `value_start` and `value_end` are the value's place in the buffer, each -1 until it was seen.

    With `and_stream` it goes on behind the model's value, up to the first file there, for the field `stream`: `stream`
    then says whether the form asks for one. What stands behind that file is not seen, as it is not waited for.
    """

    def __init__(self, content_type: str, *, and_stream: bool = False) -> None:
        boundary = boundary_of(content_type)
        self._delimiter = b"\r\n--" + (boundary or b"")
        self._position = 0
        self._at_start = True
        self.finished = boundary is None
        self.model: str | None = None
        self.stream = False
        self._stream_due = and_stream
        self.value_start = self.value_end = -1

    def scan(self, buffer: bytes | bytearray) -> str | None:
        """The model's name when the buffer holds all of it, else None. Bounded to 1 KiB of valid UTF-8."""
        while not self.finished and self._step(buffer):
            pass
        return self.model

    def _after_delimiter(self, buffer: bytes | bytearray) -> int:
        """The first byte after the next delimiter; -1 when it has not arrived. A search in vain is not repeated."""
        opening = self._delimiter[2:]
        if self._at_start:
            if len(buffer) < len(opening):
                return -1
            if buffer.startswith(opening):
                return len(opening)
        found = buffer.find(self._delimiter, self._position)
        if found < 0:
            self._position = max(self._position, len(buffer) - len(self._delimiter) + 1)
            self._at_start = False
            return -1
        return found + len(self._delimiter)

    def _go_on_from(self, position: int) -> bool:
        self._position = position
        self._at_start = False
        return True

    def _step(self, buffer: bytes | bytearray) -> bool:
        """Go past one delimiter and the head behind it. False: finished, or more bytes are needed."""
        after = self._after_delimiter(buffer)
        if after < 0 or len(buffer) < after + 2:
            return False
        return self._finish() if buffer[after : after + 2] == b"--" else self._read_head(buffer, after)

    def _read_head(self, buffer: bytes | bytearray, after: int) -> bool:
        line_end = buffer.find(b"\r\n", after, after + _PADDING_LIMIT_BYTES)
        if line_end < 0 and len(buffer) < after + _PADDING_LIMIT_BYTES:
            return False
        if line_end < 0 or buffer[after:line_end].strip(b" \t"):
            return self._go_on_from(after)  # a line that only begins like the delimiter is content
        head_end = buffer.find(b"\r\n\r\n", line_end, line_end + _PART_HEAD_LIMIT_BYTES)
        if head_end < 0:
            return len(buffer) >= line_end + _PART_HEAD_LIMIT_BYTES and self._finish()
        return self._read_part(_field_name(bytes(buffer[line_end:head_end])), buffer, head_end)

    def _read_part(self, name: str | None, buffer: bytes | bytearray, head_end: int) -> bool:
        if name == "model" and self.model is None:
            return self._read_value(buffer, head_end + 4)
        if name == "stream" and self._stream_due:
            return self._read_stream(buffer, head_end + 4)
        if name is None and self.model is not None:
            return self._finish()
        return self._go_on_from(head_end + 2)

    def _read_value(self, buffer: bytes | bytearray, start: int) -> bool:
        self.value_start = start
        # The blank line's end can be the delimiter's beginning: then there is no value.
        end = buffer.find(self._delimiter, start - 2, start + _MODEL_LIMIT_BYTES)
        if end >= 0:
            self.value_end = max(start, end)
            self.model = clean_value(bytes(buffer[start:end]).decode("utf-8", "replace"))[0]
            return self._go_on_from(end) if self._stream_due else self._finish()
        return len(buffer) >= start + _MODEL_LIMIT_BYTES and self._finish()

    def _read_stream(self, buffer: bytes | bytearray, start: int) -> bool:
        limit = start + _FLAG_LIMIT_BYTES + len(self._delimiter)
        end = buffer.find(self._delimiter, start - 2, limit)
        if end < 0 and len(buffer) < limit:
            return False
        self._stream_due = False
        self.stream = end >= 0 and bytes(buffer[start:end]).strip().lower() in _TRUE
        return self._go_on_from(start - 2) if self.model is None else self._finish()

    def _finish(self) -> bool:
        self.finished = True
        return False


def _field_name(head: bytes) -> str | None:
    """The name of a plain field by its part's head; None for a part with a file name, which is a file."""
    text = head.decode("utf-8", "replace")
    disposition = _DISPOSITION.search(text)
    if not disposition:
        return ""
    parameters = _parameters(text, disposition.end())
    return None if "filename" in parameters or "filename*" in parameters else parameters.get("name", "")


def multipart_model(buffer: bytes | bytearray, content_type: str) -> str | None:
    """The model's name in a form of which the buffer is the beginning; None when it is not (yet) complete in it."""
    return ModelField(content_type).scan(buffer)
