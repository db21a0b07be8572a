"""Provider keys that belong to an installation, not to a client: looked up where the registry says, kept in memory.

In: references, `env:NAME` or `file:/path`, and what was found there. Out: secrets by reference. A reference that leads
nowhere is said and counted, and the rules that need it leave their requests alone. The environment's own settings are
not for providers: names of LECTR_ lead nowhere. Whoever reads files (gateway/credential_reader.py) may be kept waiting;
whoever asks here is not.
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
    """All that any organisation refers to. Safe to be used by several threads."""

    def __init__(self) -> None:
        self._found: dict[str, Secret | None] = {}
        self._missing: set[str] = set()
        self._late: set[str] = set()
        self._changing = threading.Lock()

    def of(self, org: Org) -> Mapping[str, Secret]:
        """An organisation's keys that are here, by provider."""
        found = {provider: self._found.get(reference) for provider, reference in org.credentials.items()}
        return {provider: secret for provider, secret in found.items() if secret is not None}

    def new_in(self, orgs: Iterable[Org]) -> set[str]:
        """What these refer to and was not looked for yet."""
        return {name for org in orgs for name in org.credentials.values() if name not in self._found}

    def files(self) -> list[str]:
        """The references to files among all that was looked for."""
        with self._changing:
            return [reference for reference in self._found if is_file(reference)]

    def take(self, reference: str, found: Secret | None) -> None:
        """This was found there, or nothing."""
        with self._changing:
            known, late = self._found.get(reference), reference in self._late
            if found is None and (late or known is not None or reference not in self._found):
                _log.error("credential_missing", reference=reference, fix="set it where this gateway runs")
            elif late:
                _log.info("credential_read", reference=reference)
            self._late.discard(reference)
            # A file that is being replaced is away for a moment: what was in it still counts.
            self._keep(reference, known if found is None else found)

    def late(self, reference: str) -> None:
        """Whoever reads it waits: what was found there before counts until it answers, else it is missing."""
        with self._changing:
            if reference not in self._late:
                _log.error(
                    "credential_late", reference=reference, fix="its disk does not answer; it is taken once it does"
                )
            self._late.add(reference)
            self._keep(reference, self._found.get(reference))

    def _keep(self, reference: str, secret: Secret | None) -> None:
        self._found[reference] = secret
        (self._missing.add if secret is None else self._missing.discard)(reference)
        counters.credentials_missing.set(len(self._missing))
        counters.credentials_late.set(len(self._late))


def is_file(reference: str) -> bool:
    """Whether reading it may take time."""
    return reference.startswith("file:")


def read(reference: str) -> Secret | None:
    """What is there now. Of a file, not for the event loop: a disk may never answer."""
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


def _read_file(place: str) -> bytes:
    """What a file begins with. Raises OSError, ValueError; waits for no pipe's writer, who may never come."""
    with open(place, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a file")
        return file.read(_LONGEST_BYTES)


def _open_at_once(place: str, flags: int) -> int:
    return os.open(place, flags | os.O_NONBLOCK)
