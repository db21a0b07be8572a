"""What goes wrong in the registry, as faults of the API. Pure."""

from typing import Final

from dashboard import clickhouse, registry
from dashboard.api import faults
from dashboard.api.faults import Fault
from dashboard.api.operations import PREFIX
from dashboard.declared.plan import PlanFault
from dashboard.read_only import RegistryReadOnly
from shared.registry import RegistryFault

RETRY_AFTER_S: Final = 5
_KINDS: Final[dict[type[RegistryFault], type[Fault]]] = {
    RegistryFault: faults.InvalidValue,
    registry.UnknownOrg: faults.OrgNotFound,
    registry.UnknownRecord: faults.RecordNotFound,
    registry.OrgExists: faults.OrgExists,
    registry.RecordExists: faults.RecordExists,
    registry.VersionConflict: faults.VersionConflict,
    registry.UnreadableRecord: faults.RecordUnreadable,
    RegistryReadOnly: faults.RegistryReadOnly,
    PlanFault: faults.PlanRefused,
}
_FIXES: Final[dict[type[RegistryFault], str]] = {
    registry.UnknownOrg: f"; create it with POST {PREFIX}/orgs",
    registry.OrgExists: f"; make a new key with POST {PREFIX}/orgs/{{org}}/keys/{{key}}/rotate",
}


def fault_of(error: RegistryFault | registry.RegistryUnavailable | clickhouse.ClickHouseFault) -> Fault:
    """The same as a fault. One of a class that is not known here is one of the class that it is made of."""
    if isinstance(error, clickhouse.ClickHouseFault):
        # What it refuses now it refuses until somebody grants it, or migrates.
        again_s = RETRY_AFTER_S if isinstance(error, clickhouse.ClickHouseUnavailable) else None
        return faults.ClickHouseUnavailable(str(error), retry_after_s=again_s)
    if isinstance(error, registry.RegistryUnavailable):
        return faults.RegistryUnavailable(str(error), retry_after_s=RETRY_AFTER_S)
    kind = next(base for base in type(error).__mro__ if base in _KINDS)
    # A hint is in the words of the command line; here its place is taken by one in those of HTTP.
    fix = _FIXES.get(kind, "") if error.hint else ""
    return _KINDS[kind](f"{error.message}{fix}", field=error.field)
