"""What an answer cost, read from its bytes while they pass by.

The path, in reading order:

    open_meter -> endpoints (which dialect speaks here, or none)
      feed     -> encodings (decode a copy) -> sse | bounded (events, or one document) -> jsontext
               -> alike | chat | responses | messages | generate | media (a dialect notes what it saw in a Tally)
      finish   -> the dialect, openai_usage (disjoint counts) -> verdict (reported, estimated, absent) -> Reading

The guarantee: `feed` never raises, whatever the bytes are; a meter's memory is bounded (bounded.py); no text of an
answer or of an error outlives the `feed` call that it came with, except inside the document that is still incomplete,
and what stands around the text of a stream's chunks, as long as the stream (alike.py).

The traps: a stream is what the answer's content-type says, not what the request asked for. Usage objects replace each
other, they are never added up. GET /responses/{id} repeats a usage that was counted when the response was created.
"""

from functools import lru_cache
from typing import Final

from gateway.usage.endpoints import dialect_of
from gateway.usage.meter import AnswerMeter, SilentMeter
from gateway.usage.reading import NO_READING, Call, Meter, Reading
from gateway.usage.request_id import request_id_of
from gateway.usage.tally import Tally
from gateway.usage.verdict import reading_of

__all__ = ["NO_READING", "Call", "Meter", "Reading", "SilentMeter", "open_meter", "read_whole", "request_id_of"]


def open_meter(call: Call, status: int, content_type: str, content_encoding: str) -> Meter:
    """Return the meter for one answer, from its status and two of its header values ('' when absent).

    Answers that cannot tell anything (redirects, endpoints without usage, sound and plain text) get a meter that
    ignores the bytes.
    """
    dialect = dialect_of(call)
    media_type = _known_media_type(content_type) if len(content_type) <= _LONGEST_KNOWN else _media_type(content_type)
    failed = status >= 400  # noqa: PLR2004 - HTTP's own boundary
    answered = 200 <= status < 300  # noqa: PLR2004 - HTTP's own boundary
    if not failed and (not answered or dialect is None or not dialect.reads(media_type)):
        return SilentMeter(has_content=answered and dialect is not None)
    return AnswerMeter(call, dialect, status, media_type, content_encoding)


def read_whole(call: Call, status: int, content_type: str, body: bytes) -> Reading | None:
    """The reading of a plain JSON answer that came in one piece, without a meter; None for one that needs a meter."""
    dialect = dialect_of(call)
    if dialect is None or status != 200 or not content_type.startswith("application/json"):  # noqa: PLR2004 - HTTP's own
        return None
    tally = Tally(call.provider)
    if not dialect.read_usual_document(tally, body):
        return None
    return reading_of(call, dialect, tally, ended=True, legible=True)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


_LONGEST_KNOWN: Final = 64
_known_media_type: Final = lru_cache(maxsize=256)(_media_type)
