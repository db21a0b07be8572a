"""The organisations that this gateway knows, by key hash. Pure: merging decides, nothing is read or written.

A record is replaced only by one with a higher version and never removed, so a registry that comes back empty or old
changes nothing here. What is made of a record for serving (effective limits, the index of its rules) is made when the
first request needs it, unless it came along: of a hundred thousand organisations few are in use in any one gateway.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.budgets import OrgBudgets
from gateway.limits import effective
from shared.organisation import Key, Limits, Org
from shared.rules import RuleTable

_NO_LIMITS: Final = Limits()
_NO_TABLES: Final[Mapping[str, RuleTable]] = {}


class Account:
    """One organisation at one version, and what is made of it for serving."""

    __slots__ = ("_budgets", "_rules", "org")

    def __init__(self, org: Org, rules: RuleTable | None = None) -> None:
        self.org = org
        self._rules = rules
        self._budgets: OrgBudgets | None = None

    @property
    def rules(self) -> RuleTable:
        """The index of its rules."""
        if self._rules is None:
            self._rules = RuleTable(self.org.rules)
        return self._rules

    @property
    def budgets(self) -> OrgBudgets:
        """Its budgets by what they are measured by."""
        if self._budgets is None:
            self._budgets = OrgBudgets(self.org.org, self.org.budgets)
        return self._budgets


class Access:
    """What a key gives access to."""

    __slots__ = ("_limits", "account", "key")

    def __init__(self, account: Account, key: Key) -> None:
        self.account = account
        self.key = key
        self._limits: Limits | None = None

    @property
    def org(self) -> Org:
        """Whose key it is."""
        return self.account.org

    @property
    def limits(self) -> Limits:
        """The key's own, and field by field the organisation's where it has none."""
        if self._limits is None:
            self._limits = effective(self.org.limits, self.key.limits)
        return self._limits

    @property
    def is_limited(self) -> bool:
        """Whether it has any."""
        return self.limits != _NO_LIMITS


class Directory:
    """Found by hash in constant time, however many there are."""

    def __init__(self) -> None:
        self._by_name: dict[str, Org] = {}
        self._by_hash: dict[str, Access] = {}
        self.budgeted: set[str] = set()
        """Organisations that have budgets."""
        self.changes = 0
        """Grows whenever what `find` answers may have changed."""

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, key_sha256: str) -> Access | None:
        """The organisation one of whose keys, enabled or not, has this hash."""
        return self._by_hash.get(key_sha256)

    def all(self) -> list[Org]:
        """Every record, at this moment."""
        return list(self._by_name.values())

    def is_news(self, org: Org) -> bool:
        """Whether it would be taken."""
        known = self._by_name.get(org.org)
        return known is None or org.version > known.version

    def merge(self, orgs: Iterable[Org], rules: Mapping[str, RuleTable] = _NO_TABLES) -> list[Org]:
        """Take what is newer than what is known; the records taken. `rules`: indexes that were made beforehand."""
        taken = []
        for org in orgs:
            known = self._by_name.get(org.org)
            if known is not None:
                if org.version <= known.version:
                    continue
                for key in known.keys:
                    # A hash that another organisation has as well is not this one's to take away.
                    if (access := self._by_hash.get(key.sha256)) is not None and access.org is known:
                        del self._by_hash[key.sha256]
            self._by_name[org.org] = org
            (self.budgeted.add if org.budgets else self.budgeted.discard)(org.org)
            account = Account(org, rules.get(org.org))
            for key in org.keys:
                self._by_hash[key.sha256] = Access(account, key)
            taken.append(org)
        self.changes += len(taken)
        return taken
