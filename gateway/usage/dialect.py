"""What every dialect answers. A dialect has no state: it notes what it sees in the Tally that it is given."""

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.usage.sse import UsualEvents
from gateway.usage.tally import Tally
from shared.event import Usage


class Dialect(Protocol):
    """How one family of endpoints reports."""

    @property
    def estimable(self) -> bool:
        """Whether an answer without usage was billed by its text."""

    @property
    def marks_end(self) -> bool:
        """Whether its event streams end with a marker, so that a clean end without one is a broken answer."""

    def reads(self, media_type: str) -> bool:
        """Return whether an answer of this type can tell something."""

    def ignores(self, event_name: bytes) -> bool:
        """Return whether events of this name can be passed over unparsed."""

    def read_event(self, tally: Tally, event: Mapping[str, Any]) -> None:
        """Note one event of a stream."""

    def usual_events(self, tally: Tally) -> UsualEvents | None:
        """Return what reads the commonest events of one stream, None where all are read whole."""

    def read_usual_document(self, tally: Tally, data: bytes) -> bool:
        """Note a JSON answer of the commonest kind without building all of it; False, and nothing noted, for others."""

    def read_document(self, tally: Tally, document: Mapping[str, Any]) -> None:
        """Note a whole JSON answer."""

    def usage(self, tally: Tally) -> Usage | None:
        """Return what was reported, None if nothing was."""


def is_readable(media_type: str) -> bool:
    """Return whether the bytes are worth parsing where only JSON and events tell something (not sound, not text)."""
    return media_type == "text/event-stream" or "json" in media_type
