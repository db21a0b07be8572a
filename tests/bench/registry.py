"""What a large registry costs a gateway: `python -m tests.bench.registry` prints it for 100,000 organisations.

A real Redis with so many organisations of two keys each, a real gateway, and the same of an empty registry beside it:
start, memory, pushes, polls, and for how long requests waited meanwhile. Look-ups are measured in this process.
"""

import argparse
import gc
import random
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from gateway.auth import authenticate, hash_of_key
from gateway.directory import Directory
from shared.organisation import Key, Limits, Org, Rule, Target
from shared.registry import (
    COMPLETE_KEY,
    ORGS_KEY,
    VERSION_KEY,
    VERSIONS_KEY,
    encode_org,
    hash_key,
)
from tests.bench.processes import cpu_ns, rss_bytes
from tests.bench.progress import say
from tests.mock_process import MockProcess, mock_process
from tests.parts import wait_until
from tests.raw_http import connect, read_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, ask, metric, sites

if TYPE_CHECKING:
    from redis import Redis

SIZES: Final = (1_000, 10_000, 100_000)
KEYS_EACH: Final = 2
LOOKUPS: Final = 50_000
ROUNDS: Final = 9
PUSHES: Final = 20
POLL_S: Final = 0.1
POLLED_S: Final = 5.0
HOSTILE_RULES: Final = 10_000
_ORGS_PER_WRITE: Final = 1_000
_MOST_WAIT_S: Final = 300.0
_EVERY_S: Final = 0.002


def key_of(org: int, key: int) -> str:
    return f"lc_key_{org:08d}-{key}-{'x' * 33}"


def org_number(number: int, version: int = 1) -> Org:
    """An organisation as they usually are."""
    keys = tuple(
        Key(name=f"key-{key}", sha256=hash_key(key_of(number, key)), shown=key_of(number, key)[:13], created_ms=1)
        for key in range(KEYS_EACH)
    )
    return Org(org=f"org-{number:08d}", version=version, keys=keys, limits=Limits(requests_per_s=100))


def fill(redis: "Redis", orgs: int) -> int:
    """So many organisations in Redis; the bytes of their records."""
    numbers, size_bytes = iter(range(orgs)), 0
    while some := list(islice(numbers, _ORGS_PER_WRITE)):
        records: dict[Any, Any] = {f"org-{number:08d}": encode_org(org_number(number, number + 1)) for number in some}
        size_bytes += sum(map(len, records.values()))
        pipeline = redis.pipeline(transaction=False)
        pipeline.hset(ORGS_KEY, mapping=records)
        pipeline.zadd(VERSIONS_KEY, {f"org-{number:08d}": number + 1 for number in some})
        pipeline.execute()
    redis.set(VERSION_KEY, orgs)
    redis.set(COMPLETE_KEY, "bench")
    return size_bytes


class Waits:
    """Requests that the gateway answers itself, one after the other: how long the longest waited, in ms."""

    def __init__(self) -> None:
        self._ms: list[float] = [0.0]
        self._ended = threading.Event()

    @contextmanager
    def of(self, url: str) -> Iterator["Waits"]:
        self._ms[1:] = []
        self._ended.clear()
        sender = threading.Thread(target=self._send, args=(url,))
        sender.start()
        try:
            yield self
        finally:
            self._ended.set()
            sender.join()

    def _send(self, url: str) -> None:
        with connect(url) as client:
            client.settimeout(_MOST_WAIT_S)
            while not self._ended.wait(_EVERY_S):
                started_s = time.monotonic()
                client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
                read_until(client, b"}}")
                self._ms.append((time.monotonic() - started_s) * 1_000)

    def __str__(self) -> str:
        return f"requests meanwhile: median {median(self._ms):.1f} ms, longest {max(self._ms):.0f} ms"


class Counted(str):
    """A hash that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def comparisons_of(directory: Directory, hashes: Iterable[str]) -> int:
    """How often these hashes, all of them known, are compared with others when they are looked up."""
    Counted.compared = 0
    assert all(directory.find(Counted(one)) is not None for one in hashes)
    return Counted.compared


def measure_lookups() -> Iterator[dict[str, float]]:
    """CPU per look-up, from the head's hash to the key's limits, medians of rounds; and comparisons."""
    draw = random.Random(1)
    for size in SIZES:
        directory = Directory()
        directory.merge(org_number(number) for number in range(size))
        gc.collect()
        hashes = [hash_of_key(key_of(draw.randrange(size), draw.randrange(KEYS_EACH))) for _ in range(LOOKUPS)]
        strangers = [hash_of_key(f"nobody {number}") or "" for number in range(LOOKUPS)]
        found, missed = [], []
        for _ in range(ROUNDS):
            started_ns = time.thread_time_ns()
            for wanted in hashes:
                authenticate(wanted, directory)
            found.append((time.thread_time_ns() - started_ns) / LOOKUPS)
            started_ns = time.thread_time_ns()
            for wanted in strangers:
                directory.find(wanted)
            missed.append((time.thread_time_ns() - started_ns) / LOOKUPS)
        yield {
            "orgs": size,
            "found_ns": median(found),
            "missed_ns": median(missed),
            "comparisons": comparisons_of(directory, filter(None, hashes)) / LOOKUPS,
        }


def show_lookups(rows: Iterable[dict[str, float]]) -> None:
    """Print them."""
    print("look-up of a key, CPU ns (median of rounds; found and not found), comparisons:")
    for row in rows:
        print(
            f"  {row['orgs']:>7,} organisations: {row['found_ns']:6.0f} {row['missed_ns']:6.0f}"
            f"{row['comparisons']:8.2f}",
            flush=True,
        )


def started(site: Site, name: str, **settings: str) -> float:
    """Start a gateway and wait until it serves; how long that took, in s."""
    started_s = time.monotonic()
    gateway = site.start(name, **settings)
    wait_until(lambda: "lectr gateway listening" in gateway.output, deadline_s=_MOST_WAIT_S, every_s=0.005)
    taken_s = time.monotonic() - started_s
    gateway.wait()
    return taken_s


def measure(site: Site, orgs: int) -> None:
    """All of one size."""
    with site.client() as redis:
        size_bytes = fill(redis, orgs)
    print(f"\n{orgs:,} organisations, {size_bytes / 1e6:.1f} MB of records:")
    name = f"gateway-{orgs}"
    print(f"  start from Redis: {started(site, name, LECTR_REGISTRY_POLL_S=NEVER_S):.2f} s", flush=True)
    gateway = site.started[-1]
    wait_until(lambda: metric(gateway, "lectr_gateway_registry_orgs") == orgs, deadline_s=_MOST_WAIT_S)
    print(f"  memory: {rss_bytes(gateway.process.pid) / 1e6:.0f} MB, {cpu_ns(gateway.process.pid) / 1e9:.2f} s of CPU")
    waits = Waits()
    with waits.of(gateway.url):
        pushed_ms = pushes(site)
    print(f"  push, from the edit on: median {median(pushed_ms):.1f} ms, longest {max(pushed_ms):.0f} ms; {waits}")
    with waits.of(gateway.url):
        print(f"  everything read again by another mark: {read_again(site):.2f} s; {waits}", flush=True)
    with waits.of(gateway.url):
        print(f"a change behind them is obeyed {push_all(site, orgs):.3f} s after the last; {waits}", flush=True)
    gateway.terminate()
    polled = site.start(name, LECTR_REGISTRY_POLL_S=str(POLL_S)).wait()
    reads = 'lectr_gateway_registry_refreshes_total{outcome="read"}'
    wait_until(lambda: metric(polled, reads) >= 2, deadline_s=_MOST_WAIT_S)
    before, before_ns = metric(polled, reads), cpu_ns(polled.process.pid)
    threading.Event().wait(POLLED_S)
    spent_ms, count = (cpu_ns(polled.process.pid) - before_ns) / 1e6, metric(polled, reads) - before
    print(f"  poll that finds nothing: {spent_ms / count:.2f} ms of CPU, what an idle gateway does else included")
    polled.terminate()
    copied_s = started(site, name, LECTR_REGISTRY_POLL_S=NEVER_S, LECTR_REDIS_URL="redis://127.0.0.1:1/0")
    copy = site.directory / name / "state" / "registry.jsonl"
    print(f"  start from the copy on disk ({copy.stat().st_size / 1e6:.1f} MB): {copied_s:.2f} s", flush=True)
    site.started[-1].terminate()


def pushes(site: Site) -> list[float]:
    """Milliseconds from the beginning of an edit until a gateway obeys it."""
    gateway, found = site.started[-1], []
    operator = Operator(site.redis_url)
    try:
        key = operator.create_org("edited")[1]
        wait_until(lambda: ask(gateway, key) == 200)
        for number in range(PUSHES):
            enabled = bool(number % 2)
            started_s = time.monotonic()
            operator.set_enabled("edited", enabled=enabled)
            wait_until(lambda status=200 if enabled else 401: ask(gateway, key) == status, every_s=0.001)  # type: ignore[misc]
            found.append((time.monotonic() - started_s) * 1_000)
    finally:
        operator.close()
    return found


def read_again(site: Site) -> float:
    """Seconds until a gateway has read all: the mark changes, and an organisation without a push tells the end."""
    gateway = site.started[-1]
    operator = Operator(site.redis_url)
    reads = 'lectr_gateway_registry_refreshes_total{outcome="read"}'
    try:
        with site.client() as redis:
            before = metric(gateway, reads)
            redis.set(COMPLETE_KEY, "another")
            redis.client_kill_filter(_type="pubsub")
            started_s = time.monotonic()
            wait_until(lambda: metric(gateway, reads) > before, deadline_s=_MOST_WAIT_S, every_s=0.005)
            return time.monotonic() - started_s
    finally:
        operator.close()


def push_all(site: Site, orgs: int) -> float:
    """Seconds from the first push until the last of a change of every organisation (2,000 at most) is obeyed."""
    gateway, many = site.started[-1], min(orgs, 2_000)
    operator = Operator(site.redis_url)
    try:
        key = operator.create_org("last")[1]
        wait_until(lambda: ask(gateway, key) == 200)
        started_s = time.monotonic()
        for number in range(many):
            operator.set_enabled(f"org-{number:08d}", enabled=False)
        edited_s = time.monotonic() - started_s
        operator.set_enabled("last", enabled=False)
        wait_until(lambda: ask(gateway, key) == 401, deadline_s=_MOST_WAIT_S, every_s=0.001)
        print(f"  {many} edits of others in a row took {edited_s:.2f} s; ", end="")
        return time.monotonic() - started_s - edited_s
    finally:
        operator.close()


def measure_hostile(site: Site) -> None:
    """A push of a record as large as they may be, and the first request that needs its rules."""
    print("\na record of 10,000 rules pushed to a gateway that serves others:")
    site.start("hostile", LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    gateway = site.started[-1]
    for what, length in (("short texts", 10), ("long texts", 700)):
        rules = tuple(
            Rule(name=f"r{number}", feature=f"f{number}", model="x" * length + f"{number}*", target=Target(model="y"))
            for number in range(HOSTILE_RULES)
        )
        org = Org(org="hostile", version=int(time.time() * 1000), keys=org_number(10**7).keys, rules=rules)
        waits = Waits()
        with waits.of(gateway.url), site.client() as redis:
            before = metric(gateway, 'lectr_gateway_registry_refreshes_total{outcome="pushed"}')
            redis.publish("lectr:registry:changes", encode_org(org))
            wait_until(
                lambda seen=before: metric(gateway, 'lectr_gateway_registry_refreshes_total{outcome="pushed"}') > seen  # type: ignore[misc]
            )
        print(f"  {what}, {len(encode_org(org)) / 1e6:.1f} MB: taken; {waits}")
        with waits.of(gateway.url):
            wait_until(lambda: ask(gateway, key_of(10**7, 0)) == 200, every_s=0.005)
        print(f"  {what}: first requests of the organisation; {waits}", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orgs", type=int, default=SIZES[-1])
    orgs = parser.parse_args().orgs
    show_lookups(measure_lookups())
    with mock_process() as mock:
        for size in (0, orgs):
            measure_one(mock, size)
        with tempfile.TemporaryDirectory() as folder, sites(Path(folder), mock) as site:
            measure_hostile(site)


def measure_one(mock: MockProcess, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, sites(Path(folder), mock) as site:
        say(f"{size:,} organisations")
        measure(site, size)


if __name__ == "__main__":
    main()
