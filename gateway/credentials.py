"""Provider keys that belong to an installation, not to a client: looked up where the registry says, kept in memory.

In: references, `env:NAME` or `file:/path`. Out: secrets by reference. Files are read again with every poll, so that a
key which was replaced on disk needs no restart. A reference that leads nowhere is said and counted, and the rules that
need it leave their requests alone. The environment's own settings are not for providers: names of LECTR_ lead nowhere.
"""

import os
import stat
import threading
from collections.abc import Iterable, Mapping
from typing import Final

from shared import counters
from shared.environment import PREFIX, Secret, process_environment
from shared.logs import get_log
from shared.organisation import Org

_LONGEST_BYTES: Final = 8 * 1024
_log = get_log("credentials")


class Credentials:
    """All that any organisation refers to."""

    def __init__(self) -> None:
        self._found: dict[str, Secret | None] = {}
        self._looking = threading.Lock()

    def of(self, org: Org) -> Mapping[str, Secret]:
        """An organisation's keys that are here, by provider."""
        found = {provider: self._found.get(reference) for provider, reference in org.credentials.items()}
        return {provider: secret for provider, secret in found.items() if secret is not None}

    def look_up(self, orgs: Iterable[Org]) -> None:
        """Find what these refer to and was not looked for yet. Reads files: not for the event loop."""
        self._look({reference for org in orgs for reference in org.credentials.values()} - self._found.keys())

    def look_again(self) -> None:
        """Find everything anew."""
        self._look(set(self._found))

    def _look(self, references: Iterable[str]) -> None:
        with self._looking:
            for reference in references:
                known, found = self._found.get(reference), _read(reference)
                if found is None and (known is not None or reference not in self._found):
                    _log.error("credential_missing", reference=reference, fix="set it where this gateway runs")
                if found is not None or known is None:
                    # A file that is being replaced is away for a moment: what was in it still counts.
                    self._found[reference] = found
            counters.credentials_missing.set(sum(secret is None for secret in self._found.values()))


def _read_file(place: str) -> bytes:
    """What a file begins with. Raises OSError, ValueError; waits for nobody, as a pipe's writer may never come."""
    with open(place, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a file")
        return file.read(_LONGEST_BYTES)


def _open_at_once(place: str, flags: int) -> int:
    return os.open(place, flags | os.O_NONBLOCK)


def _read(reference: str) -> Secret | None:
    kind, _, place = reference.partition(":")
    try:
        if kind == "env":
            text = "" if place.startswith(PREFIX) else process_environment().get(place, "")
        elif kind == "file":
            text = _read_file(place).decode("ascii")
        else:
            return None
    except (OSError, ValueError):
        return None
    text = text.strip()
    # Whatever else stands there would end the header field it is sent in.
    return Secret(text) if text and text.isascii() and text.isprintable() and " " not in text else None
