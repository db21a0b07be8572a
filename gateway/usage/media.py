"""Endpoints whose output is not a conversation: embeddings, images, transcriptions, speech, moderations.

In: parsed events or the whole answer. Out: notes. Nothing is ever estimated here: vectors, pictures and sound have no
text to estimate from.
"""

from collections.abc import Mapping
from typing import Any

from gateway.usage.counts import mapping
from gateway.usage.dialect import is_readable
from gateway.usage.errors import SERVER_ERROR, STREAM_ERROR, category_of_error
from gateway.usage.openai_usage import OutputKind, usage_of
from gateway.usage.tally import Tally
from shared.event import Usage


class Media:
    """One such endpoint; `output_kind` is what its output tokens are, `counted` whether it is billed at all."""

    estimable = False

    def __init__(self, output_kind: OutputKind = "text", *, counted: bool = True, marks_end: bool = False) -> None:
        self._output_kind: OutputKind = output_kind
        self._counted = counted
        self.marks_end = marks_end

    def reads(self, media_type: str) -> bool:
        """Read JSON and events; sound, subtitles and plain transcripts tell nothing."""
        return is_readable(media_type)

    def ignores(self, event_name: bytes) -> bool:
        """Pass over previews of pictures."""
        return event_name.endswith(b".partial_image")

    def read_event(self, tally: Tally, event: Mapping[str, Any]) -> None:
        """Note an event: `*.delta`, then `*.done` or `*.completed` with the usage."""
        kind = event.get("type")
        if event.get("error") or kind == "error":
            tally.error_category = category_of_error(event.get("error") or event, otherwise=STREAM_ERROR)
            tally.ended = True
            return
        tally.token_seen = True
        self._read(tally, event)
        if isinstance(kind, str) and kind.endswith((".done", ".completed")):
            tally.ended = True

    def usual_events(self, _tally: Tally) -> None:
        """Read every event as a whole."""

    def read_usual_document(self, _tally: Tally, _data: bytes) -> bool:
        """Read every document as a whole."""
        return False

    def read_document(self, tally: Tally, document: Mapping[str, Any]) -> None:
        """Note a whole answer."""
        if document.get("error"):
            tally.error_category = category_of_error(document["error"], otherwise=SERVER_ERROR)
        self._read(tally, document)

    def usage(self, tally: Tally) -> Usage | None:
        """Return tokens, or the duration of what was transcribed."""
        return None if tally.reported is None else usage_of(tally.reported, output_kind=self._output_kind)

    def _read(self, tally: Tally, document: Mapping[str, Any]) -> None:
        tally.note_model(document.get("model"))
        tally.note_tier(document.get("service_tier"))
        tally.note_request_id(mapping(document.get("x_groq")).get("id"))
        if not self._counted:
            return
        usage = document.get("usage")
        if usage and isinstance(usage, dict):
            tally.reported = usage
            tally.reported_is_final = True
        elif "duration" in document:
            # Verbose transcriptions without a usage object (Groq, whisper) name the length of the sound.
            tally.reported = {"seconds": document["duration"]}
            tally.reported_is_final = True
