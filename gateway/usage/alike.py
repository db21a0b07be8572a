"""Chunks of a chat stream that differ from each other in their text alone, read many at a time.

In: an event stream's bytes, from the beginning of an event on. Out: notes of the run of chunks at their beginning, and
how long that run is. A provider repeats the same id, model and nulls around every token; what stands around the text of
one chunk is learned from it, and a chunk that begins and ends so needs no parser. It is learned from a chunk that
was parsed, and by putting another text into it: whatever the parser does not find there again is not learned.
"""

from typing import Final

from gateway.usage.chat_answer import read_usual_chunk, text_of_chunk
from gateway.usage.tally import Tally

_FIELD: Final = b"data: "
_EVENT_END: Final = b"\n\n"
_TEXT_KEYS: Final = (b'"content":"', b'"content": "')
_PLAIN: Final = bytes(sign for sign in range(0x20, 0x7F) if sign not in b'"\\')
"""What stands for itself in a JSON string."""
_PLAIN_OR_BEYOND_ASCII: Final = _PLAIN + bytes(range(0x80, 0x100))
_LONGEST_CHUNK_BYTES: Final = 2_048
_MOST_UNUSED: Final = 8
"""So many learned in vain, one after the other, and a stream's chunks are all parsed: some are padded at random."""


class AlikeChunks:
    """Reads the chunks of one stream into its tally."""

    __slots__ = ("_begin", "_between", "_end", "_tally", "_tier", "_unused")

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._begin = self._end = self._between = b""
        """Around the text of an event; between two texts."""
        self._tier = ""
        """The one noted when the last such chunk was parsed: the next one would note its own again."""
        self._unused = 0

    def read(self, data: bytes) -> bool:
        """Note one event's data; False, and nothing noted, unless it is a piece of text and no more."""
        if not read_usual_chunk(self._tally, data):
            return False
        if self._is_alike(data):
            self._tier = self._tally.service_tier
        elif self._unused < _MOST_UNUSED and len(data) <= _LONGEST_CHUNK_BYTES:
            self._learn(data)
        return True

    def read_run(self, stream: bytes) -> int:
        """Note the chunks at the beginning that are like the one learned; how many bytes of the stream they take."""
        begin, between = self._begin, self._between
        if not begin or self._tier != self._tally.service_tier or not stream.startswith(begin):
            return 0
        texts, at = [], len(begin)
        stop = stream.find(b'"', at)
        while stream.startswith(between, stop):
            texts.append(stream[at:stop])
            at = stop + len(between)
            stop = stream.find(b'"', at)
        read = at - len(begin)
        if stream.startswith(self._end, stop):
            texts.append(stream[at:stop])
            read = stop + len(self._end)
        text = b"".join(texts)
        if not texts or not _is_text(texts, text):
            return 0
        if text:
            self._tally.text_bytes += len(text)
            self._tally.token_seen = True
        self._unused = 0
        return read

    def _is_alike(self, data: bytes) -> bool:
        """Whether it would teach what is known: of chunks that came together the first is enough."""
        begin, end = self._begin[len(_FIELD) :], self._end[: -len(_EVENT_END)]
        return (
            bool(begin)
            and data.startswith(begin)
            and data.endswith(end)
            # Further fields may stand between the two.
            and not data[len(begin) : -len(end)].translate(None, _PLAIN)
        )

    def _learn(self, data: bytes) -> None:
        self._unused += 1
        for key in _TEXT_KEYS:
            start = data.find(key) + len(key)
            stop = data.find(b'"', start)
            if start >= len(key) and stop >= 0:
                begin, text, end = data[:start], data[start:stop], data[stop:]
                # Two of these: another text in the chunk may be what this one would become.
                if text.translate(None, _PLAIN) or any(
                    text_of_chunk(begin + tried + end) != tried.decode() for tried in (text, text + b"0")
                ):
                    return
                self._begin, self._end = _FIELD + begin, end + _EVENT_END
                self._between = self._end + self._begin
                self._tier = self._tally.service_tier
                return


def _is_text(texts: list[bytes], joined: bytes) -> bool:
    """Whether each is what stands between the quotes of a JSON string, without escapes."""
    if joined.translate(None, _PLAIN_OR_BEYOND_ASCII):
        return False
    if joined.isascii():
        return True
    try:
        # A sign that came in two halves is broken, though it would be whole if they were put together.
        b" ".join(texts).decode()
    except UnicodeDecodeError:
        return False
    return True
