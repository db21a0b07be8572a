"""Every number that a process publishes under /metrics, in one list.

A drop, retry, dead letter or truncation without a line here is a bug. Labels take values from closed sets only
(provider, category, ...): a client-made value as a label would let a flood of values grow memory without bound.
"""

from collections.abc import Iterator
from typing import Literal, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric

from shared.request_totals import RequestTotals

registry = CollectorRegistry()
# The client library would publish a second series beside each counter, with the time of its making.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library leaves it untyped

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# gateway
requests = RequestTotals()
registry.register(requests)
refused = Counter("lectr_gateway_refused", "Requests the gateway refused itself", ["code"], registry=registry)
open_requests = Gauge("lectr_gateway_open_requests", "Requests being served", registry=registry)
client_disconnects = Counter("lectr_gateway_client_disconnects", "Clients that left before the end", registry=registry)
drained = Counter(
    "lectr_gateway_drained",
    "Answers that were to be read to their end although their client had left",
    ["outcome"],
    registry=registry,
)
client_stalls = Counter(
    "lectr_gateway_client_stalls", "Answers cut because the client stopped taking them", registry=registry
)
upstream_truncated = Counter(
    "lectr_gateway_upstream_truncated", "Answers that the provider broke off", ["provider"], registry=registry
)
upstream_connections = Counter(
    "lectr_gateway_upstream_connections", "Connections opened to providers", registry=registry
)
upstream_idle_connections = Gauge(
    "lectr_gateway_upstream_idle_connections",
    "Open connections to providers that wait for a request",
    registry=registry,
)
upstream_connect_faults = Counter(
    "lectr_gateway_upstream_connect_faults",
    "Connections to providers that could not be opened, and names served from an old answer of the resolver",
    ["reason"],
    registry=registry,
)
meter_faults = Counter(
    "lectr_gateway_meter_faults",
    "Answers whose usage could not be read although one was expected",
    ["provider"],
    registry=registry,
)
usage_not_stripped = Counter(
    "lectr_gateway_usage_not_stripped",
    "Answers that may have kept what asking for their usage added to them",
    registry=registry,
)
values_cut = Counter("lectr_gateway_values_cut", "Header or model values cut to 1 KiB", ["field"], registry=registry)
handler_faults = Counter("lectr_gateway_handler_faults", "Defects: exceptions no fault covers", registry=registry)
events_buffered = Gauge("lectr_gateway_events_buffered", "Events not yet accepted by Redis", registry=registry)
events_sent = Counter("lectr_gateway_events_sent", "Events accepted by Redis", registry=registry)
events_unconfirmed = Gauge(
    "lectr_gateway_events_unconfirmed", "Events of this process not known to be in ClickHouse", registry=registry
)
events_reshipped = Counter(
    "lectr_gateway_events_reshipped", "Events sent again because Redis had forgotten them", registry=registry
)
events_dropped = Counter(
    "lectr_gateway_events_dropped",
    "Events lost: journal full, not sent at exit without a journal on disk, or not encodable",
    ["reason"],
    registry=registry,
)
journal_bytes = Gauge("lectr_gateway_journal_bytes", "Size of this process' journal", registry=registry)
journal_waits = Counter(
    "lectr_gateway_journal_waits", "Journal segments made at the moment they were needed", registry=registry
)
journal_disk_faults = Counter(
    "lectr_gateway_journal_disk_faults",
    "The disk refused a journal segment; events are kept in memory meanwhile. Or the journal's folder is gone, or that "
    "of a dead gateway could not be read",
    ["reason"],
    registry=registry,
)
journal_torn = Counter(
    "lectr_gateway_journal_torn", "Records that a process was killed in, before their answers ended", registry=registry
)
journal_damaged = Counter(
    "lectr_gateway_journal_damaged", "Journal files with a part that cannot be read", registry=registry
)
journal_newer = Gauge(
    "lectr_gateway_journal_newer", "Dead boots here whose events only a newer release can ship", registry=registry
)
boot_ended_elsewhere = Gauge(
    "lectr_gateway_boot_ended_elsewhere",
    "1 if another process took a copy of this one's journal, and said that it had ended",
    registry=registry,
)
push_retries = Counter("lectr_gateway_push_retries", "Frames pushed again", ["reason"], registry=registry)
registry_orgs = Gauge("lectr_gateway_registry_orgs", "Organisations known", registry=registry)
rule_faults = Counter(
    "lectr_gateway_rule_faults", "Requests whose rule failed, and that went unchanged", registry=registry
)
failovers = Counter(
    "lectr_gateway_failovers", "Tries that failed with another one left", ["provider"], registry=registry
)
spending_refreshes = Counter(
    "lectr_gateway_spending_refreshes", "Looks at what was spent of budgets", ["outcome"], registry=registry
)
budget_decisions = Counter(
    "lectr_gateway_budget_decisions", "Requests over a budget, by what becomes of them", ["outcome"], registry=registry
)
credentials_missing = Gauge(
    "lectr_gateway_credentials_missing", "References to provider keys that lead nowhere here", registry=registry
)
credentials_late = Gauge(
    "lectr_gateway_credentials_late", "References to provider keys whose disk does not answer", registry=registry
)
registry_refreshes = Counter("lectr_gateway_registry_refreshes", "Registry reads", ["outcome"], registry=registry)
registry_bad_records = Counter("lectr_gateway_registry_bad_records", "Registry records not readable", registry=registry)
registry_incomplete = Gauge(
    "lectr_gateway_registry_incomplete",
    "1 while Redis is not known to hold every organisation: until an ingestor marks it",
    registry=registry,
)
registry_given_back = Counter(
    "lectr_gateway_registry_given_back",
    "Registry records that Redis had lost before they were logged, and got back from this gateway",
    registry=registry,
)
registry_ahead = Gauge(
    "lectr_gateway_registry_ahead",
    "Registry records that only this gateway's disk has, newer than Redis's when all of it was read last",
    registry=registry,
)

gateway_tasks = Gauge("lectr_gateway_tasks", "asyncio tasks alive in the process", registry=registry)
worker_restarts = Counter(
    "lectr_gateway_worker_restarts", "Workers (LECTR_WORKERS) that ended and were started again", registry=registry
)

# ingestor
registry_changes_stored = Counter(
    "lectr_ingestor_registry_changes_stored", "Changes of the registry stored in its log", registry=registry
)
registry_changes_unreadable = Counter(
    "lectr_ingestor_registry_changes_unreadable", "Changes on the stream that no log can hold", registry=registry
)
registry_records_restored = Counter(
    "lectr_ingestor_registry_records_restored", "Records that Redis had lost and got back", registry=registry
)
ingestor_registry_bad_records = Counter(
    "lectr_ingestor_registry_bad_records", "Registry records not readable", registry=registry
)
events_stored = Counter("lectr_ingestor_events_stored", "Rows confirmed by ClickHouse", registry=registry)
events_unpriced = Counter("lectr_ingestor_events_unpriced", "Rows stored with cost NULL", ["reason"], registry=registry)
batches = Counter("lectr_ingestor_batches", "Batches inserted and committed", registry=registry)
batches_replayed = Counter(
    "lectr_ingestor_batches_replayed", "Pending batches taken over and repeated", registry=registry
)
batch_splits = Counter(
    "lectr_ingestor_batch_splits", "Batches cut in two as their content was refused", registry=registry
)
events_clamped = Counter(
    "lectr_ingestor_events_clamped", "Rows stored with a value brought into its column's range", registry=registry
)
insert_retries = Counter("lectr_ingestor_insert_retries", "Inserts repeated", ["reason"], registry=registry)
insert_seconds = Histogram("lectr_ingestor_insert_seconds", "Duration of an insert", registry=registry)
redis_retries = Counter("lectr_ingestor_redis_retries", "Redis commands repeated", registry=registry)
dead_letters = Counter(
    "lectr_ingestor_dead_letters", "Entries moved to the dead-letter stream", ["reason"], registry=registry
)
events_repeated = Counter(
    "lectr_ingestor_events_repeated", "Events skipped because ClickHouse already has them", registry=registry
)
ingestors = Gauge("lectr_ingestor_members", "Ingestors that live, this one included", registry=registry)
redis_unsafe = Gauge(
    "lectr_ingestor_redis_unsafe_settings", "Settings of Redis that break the promise of delivery", registry=registry
)
gateway_redis_unsafe = Gauge(
    "lectr_gateway_redis_unsafe_settings", "Settings of Redis that break the promise of delivery", registry=registry
)
events_missing = Gauge(
    "lectr_ingestor_events_missing",
    "Sequence numbers that no event, dead letter or gateway accounts for, of gateways that are still known",
    ["partition"],
    registry=registry,
)
events_vanished = Counter(
    "lectr_ingestor_events_vanished", "Events that Redis had accepted and lost, expected again", registry=registry
)
complete_up_to_unix_s = Gauge(
    "lectr_ingestor_complete_up_to_unix_seconds",
    "Every request recorded before is stored or a dead letter, by the gateways' clocks",
    ["partition"],
    registry=registry,
)
housekeeping_faults = Counter(
    "lectr_ingestor_housekeeping_faults", "Reports of progress that were left out", ["reason"], registry=registry
)
schema_faults = Counter(
    "lectr_ingestor_schema_faults",
    "Looks at the database that found a table or view missing or of another form",
    registry=registry,
)
rollup_hours_differing = Gauge(
    "lectr_ingestor_rollup_hours_differing",
    "Hours of the last days, over and complete, in which the rollup says something else than the table",
    registry=registry,
)
rollup_hours_waiting = Gauge(
    "lectr_ingestor_rollup_hours_waiting",
    "Hours that are over and not compared, as the data is not known to be complete up to their ends",
    registry=registry,
)
rollup_hours_made_anew = Counter(
    "lectr_ingestor_rollup_hours_made_anew", "Hours of the rollup made anew from the table", registry=registry
)
rollup_hours_doubled = Counter(
    "lectr_ingestor_rollup_hours_doubled",
    "Times that an hour made anew counted twice what was stored meanwhile, and was to be made anew again",
    registry=registry,
)
recoveries = Counter(
    "lectr_ingestor_recoveries",
    "Times that the marks in Redis were replaced by what ClickHouse has",
    ["reason"],
    registry=registry,
)
batches_given_up = Counter(
    "lectr_ingestor_batches_given_up",
    "Recorded batches whose entries are gone or refused: their events come again, or are stored already",
    registry=registry,
)
lease_changes = Counter("lectr_ingestor_lease_changes", "Partitions gained or lost", ["change"], registry=registry)
stream_entries = Gauge("lectr_ingestor_stream_entries", "Frames waiting", ["partition"], registry=registry)
ingestor_tasks = Gauge("lectr_ingestor_tasks", "asyncio tasks alive in the process", registry=registry)
last_progress_unix_s = Gauge(
    "lectr_ingestor_last_progress_unix_seconds", "When the worker last read or stored something", registry=registry
)

# dashboard
dashboard_requests = Counter(
    "lectr_dashboard_requests", "Requests answered, by status class", ["status"], registry=registry
)
dashboard_refused = Counter("lectr_dashboard_refused", "Requests refused or failed", ["code"], registry=registry)
dashboard_handler_faults = Counter(
    "lectr_dashboard_handler_faults", "Defects: exceptions no fault covers", registry=registry
)
registry_file_looks = Counter(
    "lectr_dashboard_registry_file_looks",
    "Times that the registry was compared with the file that declares it, or that file was faulty",
    ["outcome"],
    registry=registry,
)
registry_file_faulty = Gauge(
    "lectr_dashboard_registry_file_faulty",
    "1 while the file that declares the registry cannot be taken as it is",
    registry=registry,
)


class _Families:
    """The numbers of one process: the other's would stand at zero for ever, and alarm whoever watches them."""

    def __init__(self, process: str) -> None:
        self._prefix = f"lectr_{process}_"

    def collect(self) -> Iterator[Metric]:
        """The metric families whose names say that they are this process' own."""
        return (family for family in registry.collect() if family.name.startswith(self._prefix))


def exposition(process: Literal["gateway", "ingestor", "dashboard"]) -> bytes:
    """All numbers of a process in Prometheus' text format."""
    return generate_latest(cast("CollectorRegistry", _Families(process)))
