"""The registry's records in Redis: read, and changed one at a time, each change stored, pushed and noted in one step.

In: an edit, a function from an organisation to what it becomes. Out: the new record. An edit is done again if somebody
else changed something meanwhile, so that of two edits at the same moment none is lost.
"""

import copy
import importlib.resources
import secrets
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

import msgspec

from dashboard.changes import logged_versions
from dashboard.clickhouse import ClickHouse, ClickHouseFault
from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.organisation import Org
from shared.redis_client import REDIS_ERRORS, open_blocking
from shared.registry import (
    CHANGES_CHANNEL,
    COMPLETE_KEY,
    LOG_KEY,
    MOST_RECORD_BYTES,
    ORGS_KEY,
    VERSION_KEY,
    VERSIONS_KEY,
    RegistryFault,
    check_org_name,
    decode_org,
    encode_org,
    version_of,
)

Edit = Callable[[Org], Org]
T = TypeVar("T")
_NO_MARK: Final = "Redis lacks the mark that its registry is whole: it is new, or was emptied"
_INGESTOR: Final = "an ingestor fills it from the log in ClickHouse, and marks it, within seconds"

_NAMED: Final = 10
"""Of what is lost, in a fault about it."""
_SOCKET_TIMEOUT_S: Final = 5.0
_CHANGE: Final = importlib.resources.files("dashboard").joinpath("change.lua").read_text(encoding="utf-8")


class RegistryUnavailable(Exception):
    """Redis does not answer; nothing was changed, or it is unknown whether it was."""


class RegistryIncomplete(RegistryUnavailable):
    """Redis has lost organisations and has not got them back yet, or may have and nobody can tell; nothing was changed.

    What is made then would take the place of what comes back, and a list would be taken for all there is.
    """


class UnknownOrg(RegistryFault):
    """There is no organisation of this name."""


class OrgExists(RegistryFault):
    """There is one already."""


class VersionConflict(RegistryFault):
    """It is not the version any more that the caller saw."""


class UnknownRecord(RegistryFault):
    """The organisation has no key, rule, budget or resource of this name."""


class RecordExists(RegistryFault):
    """The organisation has one of this name already."""


class UnreadableRecord(RegistryFault):
    """What Redis holds of an organisation is no record."""


class Registry:
    """The operator's side of the registry. `actor` is who changes it, as the log shows.

    `clickhouse`, where the log is, is asked what a Redis without its mark has lost; where it is not known, such a Redis
    is asked for nothing but organisations that it has.
    """

    def __init__(self, redis_url: SecretUrl, *, actor: str, clickhouse: ClickHouse | None = None) -> None:
        self._shown_url = str(redis_url)
        self.actor = actor
        self.clickhouse = clickhouse
        self._must_be_whole = True
        try:
            self._redis = open_blocking(redis_url, timeout_s=_SOCKET_TIMEOUT_S)
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
        if self.clickhouse is not None:
            self.clickhouse.close()

    def as_actor(self, actor: str) -> Self:
        """The same registry, on the same connections, for changes by somebody else."""
        other = copy.copy(self)
        other.actor = actor
        return other

    def as_it_is(self) -> Self:
        """The same registry for whoever knows by other means what should be there: nothing that it lost is missed."""
        other = copy.copy(self)
        other._must_be_whole = False  # noqa: SLF001 - of this class
        return other

    def mark_whole(self) -> None:
        """All that should be there is there, and need not be looked for. Raises RegistryUnavailable."""
        try:
            self._redis.set(COMPLETE_KEY, secrets.token_hex(8), nx=True)
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def check(self) -> None:
        """Whether Redis answers. Raises RegistryUnavailable."""
        try:
            self._redis.get(VERSION_KEY)
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def orgs(self) -> list[Org]:
        """All organisations by name. Raises RegistryIncomplete, RegistryUnavailable, RegistryFault."""
        records = self._whole(lambda: self._redis.hgetall(ORGS_KEY))
        return sorted((_read(name, record) for name, record in records.items()), key=lambda org: org.org)

    def page(self, after: str, limit: int) -> tuple[list[Org], str | None]:
        """The next organisations by name behind `after`, and what to ask for next, None at the end.

        Raises RegistryIncomplete, RegistryUnavailable, RegistryFault.
        """
        return self._whole(lambda: self._behind(after.encode(), limit))

    def _behind(self, after: bytes, limit: int) -> tuple[list[Org], str | None]:
        known: Any = self._redis.hkeys(ORGS_KEY)  # bytes, as this client decodes nothing
        names = sorted(name for name in known if name > after)
        here = names[:limit]
        records = self._redis.hmget(ORGS_KEY, here) if here else []
        orgs = [_read(name, record) for name, record in zip(here, records, strict=True) if record is not None]
        return orgs, here[-1].decode(errors="replace") if len(names) > limit else None

    def org(self, name: str) -> Org:
        """One organisation. Raises UnknownOrg, RegistryIncomplete, RegistryUnavailable, RegistryFault."""
        check_org_name(name)
        try:
            record = self._redis.hget(ORGS_KEY, name)
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None
        if record is None:
            # Once more, as it may have been on its way back.
            record = self._whole(lambda: self._redis.hget(ORGS_KEY, name), name)
        if record is None:
            raise UnknownOrg(f"org {name!r} does not exist", hint=f"create it with: org create {name}")
        return _read(name, record)

    def create(self, org: Org, action: str) -> Org:
        """Store a new organisation; its version is set here.

        Raises OrgExists, RegistryIncomplete, RegistryUnavailable, RegistryFault.
        """
        check_org_name(org.org)

        def make(known: Org | None) -> Org:
            if known is not None:
                raise OrgExists(f"org {org.org!r} exists", hint=f"rotate its key with: org rotate-key {org.org}")
            if not self._redis.exists(COMPLETE_KEY):
                self._check_nothing_lost(org.org)
            return org

        return self._change(org.org, make, action)

    def edit(self, name: str, edit: Edit, action: str, *, version: int | None = None) -> Org:
        """Change an organisation; `version`: only if it still is this one.

        `action` is what the log says was done, never with a secret in it. Raises UnknownOrg, VersionConflict,
        RegistryIncomplete, RegistryUnavailable, RegistryFault and whatever the edit raises.
        """
        check_org_name(name)

        def make(known: Org | None) -> Org:
            org = self.org(name) if known is None else known
            if version is not None and org.version != version:
                raise VersionConflict(f"org {name!r} is at version {org.version}, not {version}: read it again")
            return edit(org)

        return self._change(name, make, action)

    def _change(self, name: str, make: Callable[[Org | None], Org], action: str) -> Org:
        try:
            while True:
                record = self._redis.hget(ORGS_KEY, name)
                highest = self._redis.get(VERSION_KEY) or b"0"
                known = None if record is None else _read(name, record)
                org = make(known)
                if org == known:
                    return org
                now_ms = unix_ms()
                # Time-based, so that it still grows after Redis lost its memory.
                org = msgspec.structs.replace(org, version=max(max(version_of(highest), org.version) + 1, now_ms))
                new = encode_org(org)
                if len(new) > MOST_RECORD_BYTES:
                    raise RegistryFault(
                        f"org {name!r} would take {len(new)} bytes, and {MOST_RECORD_BYTES} is the most: remove rules"
                    )
                # Nothing is stored that nobody could read.
                decode_org(new)
                fields = ("org", name, "version", org.version, "at_ms", now_ms, "actor", self.actor, "action", action)
                keys = (ORGS_KEY, VERSION_KEY, VERSIONS_KEY, LOG_KEY)
                arguments = (name, record or b"", highest, new, org.version, CHANGES_CHANNEL, *fields, "record", new)
                if self._redis.eval(_CHANGE, len(keys), *keys, *arguments) == b"done":
                    return org
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def _whole(self, read: Callable[[], T], name: str = "") -> T:
        """What is read of a registry, or organisation, that was whole before and after. Raises RegistryIncomplete."""
        try:
            while True:
                mark = self._redis.get(COMPLETE_KEY)
                if mark is None:
                    self._check_nothing_lost(name)
                found = read()
                if self._redis.get(COMPLETE_KEY) == mark:
                    return found
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def _check_nothing_lost(self, name: str = "") -> None:
        """Against the log: of one organisation, or of all (''). Raises RegistryIncomplete."""
        if not self._must_be_whole:
            return
        if self.clickhouse is None:
            raise RegistryIncomplete(
                f"{_NO_MARK}; {_INGESTOR}: wait for it, or set LECTR_CLICKHOUSE_URL, so that the log can be asked"
            )
        try:
            logged = logged_versions(self.clickhouse, name)
        except ClickHouseFault as fault:
            raise RegistryIncomplete(f"{_NO_MARK}, and what the log has is not known: {fault}") from None
        # Behind the log: what is changed meanwhile is no loss.
        held = self._versions(name)
        lost = sorted(org for org, version in logged.items() if held.get(org, 0) < version)
        if lost:
            named = ", ".join(map(repr, lost[:_NAMED])) + (", …" if len(lost) > _NAMED else "")
            raise RegistryIncomplete(f"Redis has lost organisations ({len(lost)}: {named}); {_INGESTOR}: wait for it")

    def _versions(self, name: str) -> dict[str, int]:
        """Those that Redis has: of one organisation, or of all ('')."""
        if name:
            return {name: int(self._redis.zscore(VERSIONS_KEY, name) or 0)}
        found: Any = self._redis.zrange(VERSIONS_KEY, 0, -1, withscores=True)
        return {org.decode(errors="replace"): int(version) for org, version in found}

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"Redis at {self._shown_url} does not answer ({type(error).__name__}); start it, or set LECTR_REDIS_URL"
        )


def _read(name: bytes | str, record: bytes | str) -> Org:
    try:
        return decode_org(record)
    except RegistryFault as fault:
        known_as = name if isinstance(name, str) else name.decode(errors="replace")
        raise UnreadableRecord(
            f"org {known_as!r}: {fault}; remove it from the Redis hash {ORGS_KEY}: what the log has of it comes back "
            "within a minute"
        ) from None
