"""Where the conformance tests run: one raw provider, one real gateway before it, one organisation, and a real Redis."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from shared.event import Event
from shared.stream import FIELD_FRAME, Partition, decode_frame
from tests.canaries import provider_key
from tests.conformance.client import Answer, RawClient
from tests.conformance.provider import AFTER, RawProvider
from tests.parts import Gateway, admin, running, start_redis, wait_until
from tests.registry_operator import mark_whole

AUTHORIZATION = f"Bearer {provider_key('conformance')}".encode()


@dataclass(frozen=True)
class Pair:
    """The answers of one request that was sent twice."""

    direct: Answer
    relayed: Answer


class Site:
    """A gateway and the provider behind it."""

    def __init__(self, provider: RawProvider, gateway: Gateway, redis_url: str, key: str) -> None:
        self.provider = provider
        self.gateway = gateway
        self.key = key.encode()
        self._redis_url = redis_url

    @property
    def pid(self) -> int:
        return self.gateway.process.pid

    def client(self, *, receive_buffer_bytes: int = 0) -> RawClient:
        """A new connection to the gateway."""
        host, _, port = self.gateway.url.removeprefix("http://").rpartition(":")
        return RawClient((host, int(port)), receive_buffer_bytes=receive_buffer_bytes)

    def direct_client(self) -> RawClient:
        """A new connection to the provider."""
        return RawClient(self.provider.address)

    def request(
        self,
        start: str = "GET /v1/models HTTP/1.1",
        *lines: bytes,
        body: bytes = b"",
        feature: str = "conformance",
    ) -> bytes:
        """A request's bytes: these header lines after the usual ones, then this body; no framing is added."""
        usual = (
            b"Host: gateway.test",
            b"X-Lectr-Key: " + self.key,
            b"X-Lectr-Feature: " + feature.encode(),
            b"Authorization: " + AUTHORIZATION,
        )
        return b"\r\n".join((start.encode("latin-1"), *usual, *lines)) + b"\r\n\r\n" + body

    def twice(self, request: bytes, *, method: str = "GET") -> Pair:
        """Send the request to the provider itself, and through the gateway; check that the way is free afterwards."""
        with self.direct_client() as client:
            client.send(request)
            direct = client.answer(method)
        with self.client() as client:
            client.send(request)
            relayed = client.answer(method)
            assert not relayed.broken, f"broken off: {relayed}"
            if relayed.closes:
                assert client.rest() == (b"", "closed")
            else:
                self.assert_free(client)
        return Pair(direct, relayed)

    def relayed(self, request: bytes, *, method: str = "GET") -> Answer:
        """Send the request through the gateway alone; its answer, whole or not."""
        with self.client() as client:
            client.send(request)
            return client.answer(method)

    def assert_free(self, client: RawClient | None = None) -> None:
        """Assert that another request works, with no stray byte before or after its answer."""
        if client is None:
            with self.client() as fresh:
                self.assert_free(fresh)
            return
        client.send(self.request("GET /v1/after HTTP/1.1"))
        answer = client.answer()
        assert (answer.status, answer.broken) == (200, ""), answer
        assert answer.body == AFTER
        assert not client.wire.waiting

    def events(self, feature: str) -> list[Event]:
        """The events that reached Redis for a feature."""
        with redis.Redis.from_url(self._redis_url) as client:
            entries: Any = client.xrange(Partition(0).stream)
        frames = [decode_frame(fields[FIELD_FRAME]) for _, fields in entries if FIELD_FRAME in fields]
        return [event for frame in frames for event in frame.events if event.feature == feature]

    def event(self, feature: str) -> Event:
        """Wait for the feature's one event."""
        (event,) = wait_until(lambda: self.events(feature))
        return event


def fault_of(answer: Answer) -> str:
    """The code of an error of the gateway's own, whose shape is checked (SPEC section 5)."""
    assert answer.head.values(b"content-type") == [b"application/json"], answer
    document = json.loads(answer.body)
    assert set(document) == {"error"}, document
    assert set(document["error"]) == {"message", "type", "code"}, document
    assert all(isinstance(value, str) and value for value in document["error"].values()), document
    assert not re.search(r"Traceback|\.py|lc_key_|sk-", document["error"]["message"]), document
    code: str = document["error"]["code"]
    return code


class Sites:
    """Gateways with different settings before one provider and one Redis."""

    def __init__(self, directory: Path, provider: RawProvider, redis_url: str) -> None:
        self._directory = directory
        self._provider = provider
        self._redis_url = redis_url
        mark_whole(redis_url)
        self._key: str = admin(redis_url, "org", "create", "acme")["key"]
        admin(redis_url, "azure", "set", "acme", "--endpoint", f"{provider.url}/azure", "--api-version", "2024-10-21")

    @contextmanager
    def start(self, name: str, **settings: str) -> Iterator[Site]:
        """A gateway of its own."""
        base = f"{self._provider.url}/v1"
        upstreams = {f"LECTR_UPSTREAM_{each}": base for each in ("OPENAI", "ANTHROPIC", "GROQ", "GEMINI")}
        gateway = Gateway(self._directory / name, self._redis_url, upstreams, **settings)
        with running(gateway):
            yield Site(self._provider, gateway.wait(), self._redis_url, self._key)


@contextmanager
def start_sites(directory: Path) -> Iterator[Sites]:
    """Redis, the provider, and what starts gateways."""
    part, redis_url = start_redis(directory / "redis")
    with running(part), RawProvider() as provider:
        yield Sites(directory, provider, redis_url)
