"""What the ingestor's tests share: events, the gateway's own push, stores of their own, and questions to them."""

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from ingestor.migrate import migrate as migrate_here
from ingestor.settings import ClickHouseAddress, clickhouse_address
from shared.environment import SecretUrl
from shared.event import Event, Usage
from shared.stream import Partition, encode_event, encode_frame
from tests.parts import (
    PATIENCE_S,
    ROOT,
    Ingestor,
    Part,
    clean_environ,
    execute,
    fetch,
    migrate,
    python,
    running,
    select,
    start_clickhouse,
    start_redis,
    wait_until,
)

EAGER = {"LECTR_LEASE_MS": "1000", "LECTR_BATCH_MAX_AGE_MS": "50"}
TS_MS = 1_795_000_000_000
"""2026-11-18 11:06:40 UTC."""
DAY_MS = 86_400_000
MODELS = (
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5-20250929"),
    ("groq", "llama-3.3-70b-versatile"),
    ("gemini", "gemini-2.5-flash"),
    ("azure", "gpt-4o-mini"),
)


def address(clickhouse_url: str, database: str) -> ClickHouseAddress:
    return clickhouse_address(SecretUrl(f"{clickhouse_url}/{database}"))


def new_database(clickhouse_url: str) -> None:
    """The database `lectr` as a new installation has it, whatever was there."""
    execute(clickhouse_url, "DROP DATABASE IF EXISTS lectr SYNC")
    asyncio.run(migrate_here(address(clickhouse_url, "lectr")))


def event(seq: int = 0, **changes: Any) -> Event:
    """A plain successful request."""
    plain: dict[str, Any] = {
        "ts_ms": TS_MS + seq,
        "org": "acme",
        "method": "POST",
        "endpoint": "/v1/chat/completions",
        "feature": "search",
        "provider": "openai",
        "provider_source": "model",
        "model_requested": "gpt-4o-mini",
        "model_actual": "gpt-4o-mini",
        "status": 200,
        "usage": Usage(input_uncached_tokens=1_000, output_text_tokens=100),
        "usage_source": "provider",
        "latency_us": 1_500_000,
    }
    return Event(seq=seq, **{**plain, **changes})


def some_events(count: int, *, first_seq: int = 0, seed: int = 7) -> list[Event]:
    """Events over two days, several features and providers, some failed and some without usage."""
    dice = random.Random(f"{seed}-{first_seq}")
    events = []
    for seq in range(first_seq, first_seq + count):
        provider, model = dice.choice(MODELS)
        failed = dice.random() < 0.1
        usage = Usage(
            input_uncached_tokens=dice.randrange(5_000),
            input_cache_read_tokens=dice.randrange(500),
            output_text_tokens=dice.randrange(900),
        )
        stream = dice.random() < 0.5
        known: dict[str, Any] = {"usage": usage, "usage_source": dice.choice(("provider", "estimated"))}
        unknown: dict[str, Any] = {"status": 504, "error_source": "gateway", "error_category": "timeout"}
        events.append(
            event(
                seq,
                ts_ms=TS_MS + dice.randrange(2 * DAY_MS),
                feature=dice.choice(("search", "chat", "untagged")),
                provider=provider,
                model_actual=model,
                streaming=stream,
                latency_us=dice.randrange(9_000_000),
                ttft_us=dice.randrange(900_000) if stream and not failed else -1,
                **({"usage": Usage(), "usage_source": "absent", **unknown} if failed else known),
            )
        )
    return events


class Pusher:
    """Puts frames on a partition's stream exactly as gateways do: with their script."""

    def __init__(self, redis_url: str, partition: int = 0) -> None:
        self.partition = Partition(partition)
        self.client = redis.Redis.from_url(redis_url)
        self._push = self.client.register_script((ROOT / "gateway" / "push.lua").read_text("utf-8"))

    def push(self, source: int, events: Sequence[Event], *, frame_events: int = 100, floor: int = 0) -> None:
        """Append events of consecutive numbers as a gateway would that expects to be the first to send them."""
        for start in range(0, len(events), frame_events):
            part = events[start : start + frame_events]
            frame = encode_frame(source, part[0].seq, "gw-test", [encode_event(item) for item in part])
            self.push_frame(source, frame, part[0].seq, len(part), expected_seq=part[0].seq, floor=floor)

    def push_frame(
        self, source: int, frame: bytes, first_seq: int, count: int, *, expected_seq: int, floor: int = 0
    ) -> int:
        """One call of the gateways' script; what Redis expects next."""
        return int(
            self._push(
                keys=[self.partition.stream, self.partition.accepted, self.partition.ended],
                args=[source, floor, expected_seq, first_seq, count, frame],
            )
        )

    def lose_first(self) -> None:
        """Take the oldest entry away, as nobody should."""
        self.client.xtrim(self.partition.stream, maxlen=self.waiting() - 1, approximate=False)

    def waiting(self) -> int:
        return int(self.client.xlen(self.partition.stream))

    def dead(self) -> list[dict[bytes, bytes]]:
        found: Any = self.client.xrange(self.partition.dead)
        return [fields for _, fields in found]

    def marks(self) -> dict[int, str]:
        """What is taken care of, per source, as Redis keeps it."""
        found: Any = self.client.hgetall(self.partition.done)
        return {int(source): text.decode() for source, text in found.items() if source not in {b"run", b"writes"}}


class EagerIngestor(Ingestor):
    module = "tests.eager_ingestor"


@dataclass
class Stores:
    """A Redis of a test's own and an empty database, whose engine it may share with other tests."""

    directory: Path
    redis: Part
    redis_url: str
    clickhouse_url: str
    pusher: Pusher

    def ingestor(self, name: str = "ingestor", **settings: str) -> Ingestor:
        """A started ingestor; stopped with the stores."""
        return Ingestor(self.directory / name, self.redis_url, self.clickhouse_url, LECTR_INSTANCE=name, **settings)

    def eager(self, **settings: str) -> Ingestor:
        """The same, with short rounds and short batches."""
        urls = self.redis_url, self.clickhouse_url
        return EagerIngestor(self.directory / "eager", *urls, **{**EAGER, **settings})

    def crashing(self, step: str, **settings: str) -> Part:
        """An ingestor that kills itself with SIGKILL at a step of its way."""
        environ = clean_environ(
            **{
                "LECTR_OPS_LISTEN": "127.0.0.1:0",
                "LECTR_REDIS_URL": self.redis_url,
                "LECTR_CLICKHOUSE_URL": f"{self.clickhouse_url}/lectr",
                "LECTR_LEASE_MS": "1000",
                "LECTR_BATCH_MAX_AGE_MS": "100",
                **settings,
            }
        )
        return Part("crashing", python("tests.ingestor_crash", step), environ, self.directory / "crashing")

    def restart_redis(self) -> None:
        port = int(self.redis_url.rpartition(":")[2].partition("/")[0])
        self.redis, self.redis_url = start_redis(self.directory / "redis", port)

    def select(self, query: str) -> list[dict[str, Any]]:
        return select(self.clickhouse_url, query)

    def figures(self) -> tuple[int, int]:
        """Rows, and distinct events among them."""
        row = self.select("SELECT count() AS n, uniqExact(event_id) AS ids FROM lectr.requests")[0]
        return row["n"], row["ids"]

    def wait_drained(self, deadline_s: float = PATIENCE_S) -> None:
        """Until the stream is empty, which is when everything is stored or buried."""
        wait_until(lambda: self.pusher.waiting() == 0, deadline_s=deadline_s)


@dataclass
class OwnStores(Stores):
    """Stores with an engine that nobody else uses: a test may kill it and start it again."""

    clickhouse: Part

    def restart_clickhouse(self) -> None:
        port = int(self.clickhouse_url.rpartition(":")[2])
        self.clickhouse, self.clickhouse_url = start_clickhouse(self.directory / "clickhouse", port)


@contextlib.contextmanager
def stores_in(directory: Path, clickhouse_url: str) -> Iterator[Stores]:
    """A Redis that ends with the block, and the database made anew in an engine that stays."""
    redis_part, redis_url = start_redis(directory / "redis")
    pusher = Pusher(redis_url)
    made = Stores(directory, redis_part, redis_url, clickhouse_url, pusher)
    try:
        new_database(clickhouse_url)
        yield made
    finally:
        pusher.client.close()
        made.redis.kill()


@contextlib.contextmanager
def stores(directory: Path) -> Iterator[OwnStores]:
    """Migrated stores, ended with the block."""
    redis_part, redis_url = start_redis(directory / "redis")
    clickhouse_part, clickhouse_url = start_clickhouse(directory / "clickhouse")
    pusher = Pusher(redis_url)
    made = OwnStores(directory, redis_part, redis_url, clickhouse_url, pusher, clickhouse_part)
    try:
        migrate(clickhouse_url)
        yield made
    finally:
        pusher.client.close()
        made.redis.kill()
        made.clickhouse.kill()


@contextlib.contextmanager
def serving(ingestor: Ingestor) -> Iterator[Ingestor]:
    """Wait until it serves, and stop it at the end."""
    with running(ingestor):
        yield ingestor.wait()


def readiness(ingestor: Ingestor) -> tuple[int, dict[str, Any]]:
    """/readyz as status and body."""
    status, body = fetch(f"{ingestor.ops_url}/readyz")
    return status, json.loads(body)


def metric(ingestor: Ingestor, name: str) -> float:
    """The sum over a metric's label sets."""
    lines = fetch(f"{ingestor.ops_url}/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))
