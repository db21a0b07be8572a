"""The tables on a ClickHouse cluster: one shard, any number of replicas. Pure.

In: the statements of the migrations, as a single server takes them. Out: the same for every replica, with engines that
replicate, and the settings under which an insert is kept by a majority and a question sees what a majority keeps.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from ingestor.faults import MigrationFault

SETTINGS: Final = {
    # An insert is answered when a majority of the replicas has it.
    "insert_quorum": "auto",
    # One after the other: only then is there a replica that has everything, and a question can tell whether it is this.
    "insert_quorum_parallel": 0,
    "insert_quorum_timeout": 60_000,
    # Refused by a replica that lacks something (REPLICA_IS_NOT_IN_QUORUM), and repeated.
    "select_sequential_consistency": 1,
    "distributed_ddl_task_timeout": 60,
}
"""Of every statement sent to a cluster."""
_HEAD: Final = re.compile(
    r"(?P<verb>CREATE (TABLE IF NOT EXISTS|OR REPLACE VIEW|MATERIALIZED VIEW IF NOT EXISTS)|ALTER TABLE)"
    r" (?P<name>[a-z_]+)\b"
)
_ENGINE: Final = re.compile(r"^ENGINE = (?P<kind>[A-Za-z]*MergeTree)(\((?P<arguments>[a-z_, ]+)\))?", re.MULTILINE)
_SOURCE: Final = re.compile(r"\b(?P<word>FROM|JOIN|TO) (?P<name>[a-z_]+)\b")


def shape_problem(cluster: str, shards: Mapping[str, int], macros: AbstractSet[str]) -> str:
    """What is wrong with a server, empty if nothing is: `shards` of each cluster that it knows, and its macros."""
    said = f"LECTR_CLICKHOUSE_CLUSTER={cluster!r}"
    if cluster not in shards:
        return f"{said}: no such cluster there; it knows {', '.join(sorted(shards)) or 'none'}"
    if shards[cluster] != 1:
        return f"{said}: has {shards[cluster]} shards; name a cluster of one shard, with as many replicas as you like"
    if missing := {"shard", "replica"} - macros:
        return f"{said}: the server lacks the macro {' and '.join(sorted(missing))}; add it to <macros> of every server"
    return ""


def database_statement(database: str, cluster: str) -> str:
    """Create the database, on every server of the cluster if there is one."""
    return f"CREATE DATABASE IF NOT EXISTS `{database}`{_everywhere(cluster)}"


def drop_view_statement(database: str, view: str, cluster: str) -> str:
    """Drop a view, on every server of the cluster if there is one."""
    return f"DROP VIEW IF EXISTS `{database}`.{view}{_everywhere(cluster)}"


def alter_statement(database: str, table: str, cluster: str, change: str) -> str:
    """Change a table, on every server of the cluster if there is one; for people to run."""
    return f"ALTER TABLE {database}.{table}{_everywhere(cluster)} {change}"


def for_cluster(statements: Sequence[str], *, cluster: str, database: str, tables: frozenset[str]) -> list[str]:
    """The statements as a cluster takes them; `tables` are all that are ours. Raises MigrationFault."""
    return [_rendered(statement, cluster, database, tables) for statement in statements]


def tables_in(statements: Sequence[str]) -> frozenset[str]:
    """The tables and views that the statements make or change."""
    return frozenset(head["name"] for statement in statements if (head := _HEAD.match(statement)))


def _everywhere(cluster: str) -> str:
    return f" ON CLUSTER `{cluster}`" if cluster else ""


def _rendered(statement: str, cluster: str, database: str, tables: frozenset[str]) -> str:
    head = _HEAD.match(statement)
    engines = _ENGINE.findall(statement)
    if head is None or len(engines) != ("TABLE IF" in head["verb"]):
        raise MigrationFault(f"no form for a cluster is known of: {statement[:60]!r}")
    name = head["name"]
    path = f"'/clickhouse/tables/{{shard}}/{database}/{name}', '{{replica}}'"

    def engine(found: re.Match[str]) -> str:
        arguments = f", {found['arguments']}" if found["arguments"] else ""
        return f"ENGINE = Replicated{found['kind']}({path}{arguments})"

    def source(found: re.Match[str]) -> str:
        # Other replicas run this with another database as their current one.
        return f"{found['word']} `{database}`.{found['name']}" if found["name"] in tables else found[0]

    body = _SOURCE.sub(source, _ENGINE.sub(engine, statement[head.end() :]))
    return f"{head['verb']} `{database}`.{name} ON CLUSTER `{cluster}`{body}"
