"""The organisations that this gateway knows, by key hash. Pure: merging decides, nothing is read or written.

A record is replaced only by one with a higher version and never removed, so a registry that comes back empty or old
changes nothing here.
"""

from collections.abc import Iterable

import msgspec

from shared.organisation import Key, Org


class Access(msgspec.Struct, frozen=True, gc=False):
    """What a key gives access to."""

    org: Org
    key: Key


class Directory:
    """Found by hash in constant time, however many there are."""

    def __init__(self) -> None:
        self._by_name: dict[str, Org] = {}
        self._by_hash: dict[str, Access] = {}
        self.changes = 0
        """Grows whenever what `find` answers may have changed."""

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, key_sha256: str) -> Access | None:
        """The organisation one of whose keys, enabled or not, has this hash."""
        return self._by_hash.get(key_sha256)

    def all(self) -> list[Org]:
        """Every record, for the copy on disk."""
        return list(self._by_name.values())

    def merge(self, orgs: Iterable[Org]) -> list[Org]:
        """Take what is newer than what is known; the records taken."""
        taken = []
        for org in orgs:
            known = self._by_name.get(org.org)
            if known is not None:
                if org.version <= known.version:
                    continue
                for key in known.keys:
                    self._by_hash.pop(key.sha256, None)
            self._by_name[org.org] = org
            for key in org.keys:
                self._by_hash[key.sha256] = Access(org, key)
            taken.append(org)
        self.changes += len(taken)
        return taken
