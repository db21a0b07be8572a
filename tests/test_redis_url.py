"""LECTR_REDIS_URL for a cluster and for Sentinels: what is read from it, and how a wrong one is refused."""

import subprocess
from typing import Any

import pytest

from shared.environment import Secret, SecretUrl, SettingsFault
from shared.redis_client import close_redis, open_redis
from shared.redis_url import RedisAddress, RedisKind, redis_address
from tests.parts import ROOT, clean_environ, python


@pytest.mark.parametrize(
    ("url", "nodes", "driver_url"),
    [
        ("redis+cluster://h:6379", (("h", 6379),), "redis://h:6379"),
        ("redis+cluster://h1:1,10.0.0.2:2/", (("h1", 1), ("10.0.0.2", 2)), "redis://h1:1"),
        ("redis+cluster://u:p%40@h1:1,h2:2/0", (("h1", 1), ("h2", 2)), "redis://u:p%40@h1:1"),
        (
            "rediss+cluster://[::1]:1,[::2]:2?ssl_ca_certs=a.pem",
            (("::1", 1), ("::2", 2)),
            "rediss://[::1]:1?ssl_ca_certs=a.pem",
        ),
    ],
)
def test_a_cluster_is_named_by_its_servers(url: str, nodes: tuple[tuple[str, int], ...], driver_url: str) -> None:
    """Every server named is a place to begin; account and options are the driver's, for all servers alike."""
    assert redis_address(SecretUrl(url)) == RedisAddress(kind=RedisKind.CLUSTER, nodes=nodes, url=SecretUrl(driver_url))


@pytest.mark.parametrize(
    ("url", "service", "driver_url", "account"),
    [
        ("redis+sentinel://h:26379/events", "events", "redis://h:26379/0", ("", "")),
        ("redis+sentinel://u:p@h:26379,h2:2/my-master/3", "my-master", "redis://u:p@h:26379/3", ("", "")),
        ("rediss+sentinel://h:1/a%2Fb/?sentinel_username=s&sentinel_password=t%26&client_name=x", "a/b",
         "rediss://h:1/0?client_name=x", ("s", "t&")),
    ],
)  # fmt: skip
def test_a_service_is_named_by_its_sentinels(url: str, service: str, driver_url: str, account: tuple[str, str]) -> None:
    """The path names the service and the database; the account before the hosts is the server's, not the Sentinels'."""
    address = redis_address(SecretUrl(url))
    assert (address.kind, address.service, address.url) == (RedisKind.SENTINEL, service, SecretUrl(driver_url))
    assert (address.sentinel_user, address.sentinel_password) == (Secret(account[0]), Secret(account[1]))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+cluster://", "give every server with its port"),
        ("redis+cluster://h1,h2", "give every server with its port"),
        ("redis+cluster://h1:1,h2", "give every server with its port"),
        ("redis+cluster://h1:1,", "give every server with its port"),
        ("redis+cluster://h1:0", "give every server with its port"),
        ("redis+cluster://h1:65536", "give every server with its port"),
        ("redis+cluster://h1:1/2", "database 0 only"),
        ("redis+cluster://h1:1?db=2", "database 0 only"),
        ("redis+cluster://h1:1#x", "%23"),
        ("redis+sentinel://h1:1", "the path is the service"),
        ("redis+sentinel://h1:1/", "the path is the service"),
        ("redis+sentinel://h1:1/0", "the path is the service"),
        ("redis+sentinel://h1:1/events/x", "the path is the service"),
        ("redis+sentinel://h1/events", "give every server with its port"),
        ("unix+cluster://h1:1", "expected redis or redis+cluster or"),
        ("redis+clusters://h1:1", "expected redis or redis+cluster or"),
        ("redis://h1:1,h2:2/0", "expected redis or redis+cluster or"),
    ],
)
def test_a_wrong_url_is_refused_with_the_fix(url: str, reason: str) -> None:
    """The refusal begins with the variable and says what to give instead."""
    with pytest.raises(SettingsFault, match=r"^LECTR_REDIS_URL=") as refused:
        redis_address(SecretUrl(url))
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("url", ["redis+cluster://:secret@127.0.0.1:1", "redis+sentinel://:secret@127.0.0.1:1/events"])
def test_servers_that_are_away_are_named_by_the_command_line(url: str) -> None:
    """Exit code 2 and one line with the URL, its password starred."""
    environ = clean_environ(LECTR_REDIS_URL=url)
    command = python("dashboard", "org", "list")
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"Redis at {url.replace(':secret', '***')} does not answer" in done.stderr


async def test_tls_is_spoken_to_every_server() -> None:
    """With rediss+… the servers and the Sentinels are spoken to over TLS, each with its own account."""
    cluster: Any = open_redis(SecretUrl("rediss+cluster://u:p@h:1"), connect_timeout_s=1, reply_timeout_s=1)
    url = "rediss+sentinel://u:p@h:1/events/2?sentinel_username=s&sentinel_password=t&ssl_cert_reqs=none"
    service: Any = open_redis(SecretUrl(url), connect_timeout_s=1, reply_timeout_s=1)
    try:
        assert cluster.get_connection_kwargs()["connection_class"].__name__ == "SSLConnection"
        assert service.connection_pool.connection_class.__name__ == "SentinelManagedSSLConnection"
        (sentinel,) = service.connection_pool.sentinel_manager.sentinels
        assert sentinel.connection_pool.connection_class.__name__ == "SSLConnection"
        pools = (service.connection_pool.connection_kwargs, sentinel.connection_pool.connection_kwargs)
        assert [(pool["username"], pool["password"], pool["db"]) for pool in pools] == [("u", "p", 2), ("s", "t", 0)]
    finally:
        await close_redis(cluster)
        await close_redis(service)
