"""Settings of a Redis server that break what Lectr promises. Pure.

In: what the server says of itself (INFO). Out: one sentence per problem, with its cure.
"""

from collections.abc import Mapping
from typing import Any

EVICTION_SAFE = "noeviction"


def unsafe_servers(infos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same for several servers by their address, which is empty where there is one."""
    return [
        f"{address}: {problem}" if address else problem
        for address, info in sorted(infos.items())
        for problem in unsafe_settings(info)
    ]


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
