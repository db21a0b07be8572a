"""Sentinel: a real server with two replicas, watched by three Sentinels, carries the registry and the events."""

from collections.abc import Iterator

import pytest

from shared.environment import SecretUrl
from shared.redis_client import close_redis, info_of_all, is_watched, open_redis
from shared.redis_settings import unsafe_servers
from tests.parts import admin, fetch, wait_until
from tests.redis_servers import ask, start_sentinels
from tests.redis_site import PARTITIONS, Site, start_site
from tests.registry_site import DEADLINE_S


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("sentinel")
    with start_sentinels(directory / "redis") as servers, start_site(directory, servers) as started:
        yield started


def test_requests_become_rows(site: Site) -> None:
    """Every request is one row, the ingestor owns all partitions and says that it is ready."""
    for number in range(20):
        assert site.send(f"plain-{number}") == 200
    site.wait_stored()
    status, body = fetch(f"{site.lectr.ingestor.ops_url}/readyz")
    assert status == 200, body
    assert body.count(b"owner") == PARTITIONS


def test_a_rotated_key_is_in_effect_by_push(site: Site) -> None:
    """The change is pushed: old key refused, new one taken."""
    new = admin(site.servers.url, "org", "rotate-key", "acme")["key"]
    wait_until(lambda: site.send("rotated", key=site.lectr.key) == 401, deadline_s=DEADLINE_S)
    site.lectr.key = new
    assert site.send("after-rotation") == 200


async def test_a_master_that_would_not_notice_its_end_is_said_to_be_unsafe(site: Site) -> None:
    """Without min-replicas-to-write a former master grants leases beside the new one: said by gateway and ingestor."""
    (master,) = site.servers.writable()
    client = open_redis(SecretUrl(site.servers.url), connect_timeout_s=5, reply_timeout_s=5)
    try:
        safe = unsafe_servers(await info_of_all(client), watched=is_watched(client))
        ask(master, "CONFIG", "SET", "min-replicas-to-write", "0")
        unsafe = unsafe_servers(await info_of_all(client), watched=is_watched(client))
    finally:
        ask(master, "CONFIG", "SET", "min-replicas-to-write", "1")
        await close_redis(client)
    assert safe == []
    assert len(unsafe) == 1
    assert "set it to 1 and min-replicas-max-lag" in unsafe[0]


def test_a_failover_under_load_loses_and_doubles_nothing(site: Site) -> None:
    """The server that holds everything is killed; in the end each answered request is one row; keys still change."""
    (victim,) = site.servers.writable()
    with site.load("failover"):
        wait_until(lambda: any(name.startswith("failover") for name in site.stored()))
        site.servers.kill(victim)
        before = len(site.answered)
        wait_until(lambda: len(site.answered) > before + 50)
    site.wait_stored()
    new = admin(site.servers.url, "org", "rotate-key", "acme")["key"]
    wait_until(lambda: site.send("rotated", key=site.lectr.key) == 401, deadline_s=DEADLINE_S)
    assert site.send("after-failover", key=new) == 200
