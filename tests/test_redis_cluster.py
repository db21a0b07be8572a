"""Redis Cluster: three real primaries with a replica each carry the registry and the events."""

from collections.abc import Iterator

import pytest

from shared.environment import SecretUrl
from shared.redis_client import Script, close_redis, home_of, info_of_all, open_redis
from shared.redis_settings import unsafe_servers
from shared.stream import Partition
from tests.parts import admin, fetch, wait_until
from tests.redis_servers import ask, start_cluster
from tests.redis_site import PARTITIONS, Site, start_site
from tests.registry_site import DEADLINE_S


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("cluster")
    with start_cluster(directory / "redis") as servers, start_site(directory, servers) as started:
        yield started


def test_requests_become_rows(site: Site) -> None:
    """Every request is one row, the ingestor owns all partitions and says that it is ready."""
    for number in range(20):
        assert site.send(f"plain-{number}") == 200
    site.wait_stored()
    status, body = fetch(f"{site.lectr.ingestor.ops_url}/readyz")
    assert status == 200, body
    assert body.count(b"owner") == PARTITIONS


def test_partitions_are_spread_over_the_servers(site: Site) -> None:
    """Eight partitions use all three servers, and the keys of each are on one."""
    owners = {site.servers.owner_of(Partition(index).lease) for index in range(PARTITIONS)}
    assert owners == set(site.servers.writable())
    for index in range(PARTITIONS):
        partition = Partition(index)
        keys = {partition.stream, partition.accepted, partition.done, partition.seen, partition.dead}
        assert len({site.servers.owner_of(key) for key in keys}) == 1


def test_a_rotated_key_is_in_effect_by_push(site: Site) -> None:
    """The change is pushed through whichever server it was written to: old key refused, new one taken."""
    new = admin(site.servers.url, "org", "rotate-key", "acme")["key"]
    wait_until(lambda: site.send("rotated", key=site.lectr.key) == 401, deadline_s=DEADLINE_S)
    site.lectr.key = new
    assert site.send("after-rotation") == 200
    assert [org["org"] for org in admin(site.servers.url, "org", "list")] == ["acme"]


async def test_every_primary_is_asked_for_its_settings(site: Site) -> None:
    """What is wrong with the settings of one server of several is said with its address."""
    port = site.servers.writable()[1]
    ask(port, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    client = open_redis(SecretUrl(site.servers.url), connect_timeout_s=5, reply_timeout_s=5)
    try:
        problems = unsafe_servers(await info_of_all(client))
    finally:
        await close_redis(client)
        ask(port, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert [problem.partition(": ")[0] for problem in problems] == [f"127.0.0.1:{port}"]


async def test_a_script_is_taught_to_its_own_server_alone(site: Site) -> None:
    """A server that does not know a script gets it, and no other one, which may be away, is asked."""
    client = open_redis(SecretUrl(site.servers.url), connect_timeout_s=5, reply_timeout_s=5)
    try:
        script = Script(client, f"return {{KEYS[1], '{site.partition.index}'}}")
        asked = [await script(keys=[Partition(3).done]) for _ in range(2)]
        node = (await home_of(client, Partition(3).done))["target_nodes"]
        others = [port for port in site.servers.writable() if port != node.port]
        known = [ask(port, "SCRIPT EXISTS", script._sha)[0] for port in (node.port, *others)]
    finally:
        await close_redis(client)
    assert asked == [[Partition(3).done.encode(), str(site.partition.index).encode()]] * 2
    assert known == [True, False, False]


def test_a_failover_under_load_loses_and_doubles_nothing(site: Site) -> None:
    """The primary that holds the gateway's partition is killed; in the end each answered request is one row."""
    victim = site.servers.owner_of(site.partition.stream)
    with site.load("failover"):
        wait_until(lambda: any(name.startswith("failover") for name in site.stored()))
        site.servers.kill(victim)
        before = len(site.answered)
        wait_until(lambda: len(site.answered) > before + 50)
    site.wait_stored()
    assert site.servers.owner_of(site.partition.stream) != victim
