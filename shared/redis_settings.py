"""Settings of a Redis server that break what Lectr promises. Pure.

In: what the server says of itself (INFO). Out: one sentence per problem, with its cure.
"""

from collections.abc import Mapping
from typing import Any

EVICTION_SAFE = "noeviction"


def unsafe_servers(infos: Mapping[str, Mapping[str, Any]], *, watched: bool = False) -> list[str]:
    """The same for several servers by their address, empty where there is one; `watched` are those with Sentinels."""
    return [
        f"{address}: {problem}" if address else problem
        for address, info in sorted(infos.items())
        for problem in (*unsafe_settings(info), *(_unsafe_under_sentinels(info) if watched else ()))
    ]


def _unsafe_under_sentinels(info: Mapping[str, Any]) -> list[str]:
    # Said only where both settings are above zero.
    if "role" not in info or any(name in info for name in ("min_slaves_good_slaves", "min_replicas_good_replicas")):
        return []
    problem = (
        "min-replicas-to-write is 0: for seconds after a failover the former master goes on granting leases, and two "
        "ingestors may store the same events; set it to 1 and min-replicas-max-lag to half of LECTR_LEASE_MS or less"
    )
    return [problem]


def unsafe_settings(info: Mapping[str, Any]) -> list[str]:
    """What is wrong with a server for the event stream; empty if nothing is, or if it does not say."""
    problems = []
    policy = str(info.get("maxmemory_policy", EVICTION_SAFE))
    if policy != EVICTION_SAFE:
        problems.append(
            f"maxmemory-policy is {policy}: a full Redis would drop events and marks, which then have to come again "
            "from the gateways' journals; set it to noeviction"
        )
    if str(info.get("aof_enabled", "1")) == "0":
        problems.append(
            "appendonly is off: a Redis that restarts forgets the registry, and the events that it held have to come "
            "again from the gateways' journals; set appendonly yes"
        )
    return problems
