"""Redis clients for every process, whatever LECTR_REDIS_URL points to: one server, a Cluster, or Sentinels.

In: the URL, and the caller's timeouts. Out: a client with the commands of redis-py that asks nothing by itself.
The driver of a cluster follows moved slots by itself; a call that fails makes it read the topology anew before the next
one, and whether there is a next one is the caller's business.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import LockError, NoPermissionError, NoScriptError, RedisClusterException, RedisError

from shared.environment import SecretUrl, SettingsFault
from shared.redis_url import RedisAddress, RedisKind, redis_address

__all__ = [
    "REDIS_ERRORS",
    "AsyncRedis",
    "LockError",
    "NoPermissionError",
    "Redis",
    "Script",
    "Subscription",
    "close_redis",
    "home_of",
    "info_of",
    "info_of_all",
    "is_watched",
    "open_blocking",
    "open_redis",
    "ping_all",
    "subscribe_near",
]

AsyncRedis = redis.asyncio.Redis
Redis = redis.Redis
Subscription = redis.asyncio.client.PubSub
# redis-py leaves these untyped.
_asyncio: Any = redis.asyncio
_blocking: Any = redis
REDIS_ERRORS: Final = (RedisError, RedisClusterException, OSError)
"""What a call may raise: the driver's cluster errors are a family of their own; OSError covers time-outs."""
_OF_ONE_SERVER: Final = frozenset({"host", "port", "path", "connection_class"})


class Script:
    """A Lua script. A server that does not know it gets its text, and no other server is asked."""

    def __init__(self, client: AsyncRedis, text: str) -> None:
        self._client = client
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, *, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run it on the server of its keys, which are all of one slot. Raises REDIS_ERRORS."""
        try:
            return await cast("Any", self._client.evalsha(self._sha, len(keys), *keys, *args))
        except NoScriptError:
            return await cast("Any", self._client.eval(self._text, len(keys), *keys, *args))


def open_redis(url: SecretUrl, *, connect_timeout_s: float, reply_timeout_s: float) -> AsyncRedis:
    """An asyncio client that repeats nothing; it connects at the first command. Raises SettingsFault."""
    address = redis_address(url)
    retry = AsyncRetry(NoBackoff(), 0)
    waits: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": reply_timeout_s,
        "retry": retry,
    }
    try:
        if address.kind is RedisKind.SINGLE:
            client = AsyncRedis.from_url(url.reveal(), **waits)
            # Connections are made on first use; an option in the URL that none takes is to be seen now.
            client.connection_pool.make_connection()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
            return client
        parsed = _asyncio.connection.parse_url(address.url.reveal())
        _asyncio.ConnectionPool(**parsed, **waits).make_connection()
        options = _options(parsed)
        if address.kind is RedisKind.SENTINEL:
            sentinels = _asyncio.Sentinel(address.nodes, sentinel_kwargs=_sentinel_options(address, options) | waits)
            return cast("AsyncRedis", sentinels.master_for(address.service, **options | waits))
        nodes = [_asyncio.cluster.ClusterNode(host, port) for host, port in address.nodes]
        # It has the commands of the other client.
        return cast("AsyncRedis", _asyncio.RedisCluster(startup_nodes=nodes, **options | waits))
    except (TypeError, ValueError, RedisClusterException) as error:
        raise SettingsFault(f"LECTR_REDIS_URL={url}: {error}") from None


def open_blocking(url: SecretUrl, *, timeout_s: float) -> Redis:
    """A client that blocks, and repeats as redis-py does. Raises SettingsFault; of a cluster, REDIS_ERRORS as well."""
    address = redis_address(url)
    waits: dict[str, Any] = {"socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}
    try:
        if address.kind is RedisKind.SINGLE:
            client = Redis.from_url(url.reveal(), **waits)
            client.connection_pool.make_connection()
            return client
        parsed = _blocking.connection.parse_url(address.url.reveal())
        _blocking.ConnectionPool(**parsed, **waits).make_connection()
        options = _options(parsed)
        if address.kind is RedisKind.SENTINEL:
            sentinels = _blocking.Sentinel(address.nodes, sentinel_kwargs=_sentinel_options(address, options) | waits)
            return cast("Redis", sentinels.master_for(address.service, **options | waits))
        nodes = [_blocking.cluster.ClusterNode(host, port) for host, port in address.nodes]
    except (TypeError, ValueError) as error:
        raise SettingsFault(f"LECTR_REDIS_URL={url}: {error}") from None
    return cast("Redis", _blocking.RedisCluster(startup_nodes=nodes, **options | waits))


async def close_redis(client: AsyncRedis) -> None:
    """Close a client and all its connections."""
    await client.aclose()
    any_client: object = client
    if isinstance(any_client, redis.asyncio.RedisCluster):
        # One that has just lost a server closes nothing by itself.
        await any_client.nodes_manager.aclose()
        await any_client.nodes_manager.aclose("startup_nodes")
    elif is_watched(client):
        await cast("Any", client.connection_pool).sentinel_manager.aclose()


def is_watched(client: AsyncRedis) -> bool:
    """Whether Sentinels say which server to ask."""
    any_client: object = client
    pool = None if isinstance(any_client, redis.asyncio.RedisCluster) else client.connection_pool
    return isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool)


async def home_of(client: AsyncRedis, key: str) -> dict[str, Any]:
    """Keyword arguments that send a command to the server of a key, where there are several. Raises REDIS_ERRORS."""
    any_client: object = client
    if not isinstance(any_client, redis.asyncio.RedisCluster):
        return {}
    await any_client.initialize()
    return {"target_nodes": any_client.get_node_from_key(key)}


async def info_of(client: AsyncRedis, key: str) -> Mapping[str, Any]:
    """What the server of a key says of itself. Raises REDIS_ERRORS."""
    return await client.info("everything", **await home_of(client, key))


async def info_of_all(client: AsyncRedis) -> Mapping[str, Mapping[str, Any]]:
    """What each server that is written to says of itself, by its address; one needs none. Raises REDIS_ERRORS."""
    any_client: object = client
    if not isinstance(any_client, redis.asyncio.RedisCluster):
        return {"": await client.info("everything")}
    await any_client.initialize()
    return {node.name: await client.info("everything", target_nodes=node) for node in any_client.get_primaries()}


async def ping_all(client: AsyncRedis) -> None:
    """Ask every server that is written to whether it is there. Raises REDIS_ERRORS."""
    any_client: object = client
    cluster = isinstance(any_client, redis.asyncio.RedisCluster)
    await client.ping(**{"target_nodes": redis.RedisCluster.PRIMARIES} if cluster else {})


async def subscribe_near(client: AsyncRedis, key: str, channel: str) -> Subscription:
    """A subscription at the server of a key; in a cluster every server passes every message on. Raises REDIS_ERRORS."""
    any_client: object = client
    node = {}
    if isinstance(any_client, redis.asyncio.RedisCluster):
        # The driver notices a server that is gone by a command only, and then looks for its successor.
        await client.exists(key)
        node = {"node": any_client.get_node_from_key(key)}
    pubsub = client.pubsub(ignore_subscribe_messages=True, **node)
    try:
        await pubsub.subscribe(channel)
    except BaseException:
        await pubsub.aclose()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        raise
    return pubsub


def _options(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the URL as clients of several servers take them: a flag for TLS in place of a class."""
    tls = {"ssl": True} if "connection_class" in parsed else {}
    return {name: value for name, value in parsed.items() if name not in _OF_ONE_SERVER} | tls


def _sentinel_options(address: RedisAddress, options: Mapping[str, Any]) -> dict[str, Any]:
    """Sentinels have accounts of their own, and the same TLS."""
    account = {"username": address.sentinel_user.reveal(), "password": address.sentinel_password.reveal()}
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    return tls | {name: value for name, value in account.items() if value}
