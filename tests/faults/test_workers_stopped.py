"""Two thousand requests over fifty connections, and both workers stopped under load: every answer is one row."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.canaries import provider_key
from tests.lectr import chat
from tests.mock_process import mock_process
from tests.parts import (
    Gateway,
    Ingestor,
    admin,
    migrate,
    running,
    select,
    start_clickhouse,
    start_redis,
    upstreams_of,
    wait_until,
)

REQUESTS = 2_000
CONNECTIONS = 50
STOP_INGESTOR_AT, STOP_GATEWAY_AT = 900, 1_700
FEATURES = ("search", "chat", "triage", "")
MODELS = ("gpt-4o-mini", "claude-sonnet-4-5", "llama-3.3-70b-versatile", "gemini-2.5-flash")


class Client:
    """Sends requests until all are asked or the gateway is gone, and counts whole answers by feature."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.head = {"X-Lectr-Key": key, "Authorization": f"Bearer {provider_key('load')}"}
        self.asked = 0
        self.answers: dict[str, int] = {}
        self.refused = 0
        self.broken = 0

    @property
    def answered(self) -> int:
        return sum(self.answers.values())

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector, headers=self.head) as session:
            await asyncio.gather(*(self._worker(session) for _ in range(CONNECTIONS)))

    async def _worker(self, session: aiohttp.ClientSession) -> None:
        while self.asked < REQUESTS:
            number, self.asked = self.asked, self.asked + 1
            feature = FEATURES[number % len(FEATURES)]
            stream: dict[str, Any] = {"stream": True} if number % 3 == 0 else {}
            body = json.dumps(chat(MODELS[number % 7 % len(MODELS)], **stream)).encode()
            head = {"Content-Type": "application/json", **({"X-Lectr-Feature": feature} if feature else {})}
            try:
                async with session.post(f"{self.url}/v1/chat/completions", data=body, headers=head) as answer:
                    await answer.read()
                    if answer.status != 200:
                        self.refused += 1
                        continue
            except aiohttp.ClientConnectionError:
                self.refused += 1
                continue
            except aiohttp.ClientPayloadError:
                self.broken += 1
                continue
            name = feature or "untagged"
            self.answers[name] = self.answers.get(name, 0) + 1


async def stop_at(client: Client, answers: int, stop: Any) -> None:
    """Call `stop` once that many answers were received."""
    async with asyncio.timeout(60):
        pause = asyncio.Event()
        while client.answered < answers:
            try:
                await asyncio.wait_for(pause.wait(), 0.002)
            except TimeoutError:
                continue
    stop()


@pytest.mark.timeout(180)
async def test_every_answer_is_one_row(tmp_path: Path) -> None:
    """Rows in ClickHouse = answers received, no id twice, although both workers got SIGTERM under load."""
    redis, redis_url = start_redis(tmp_path / "redis")
    clickhouse, clickhouse_url = start_clickhouse(tmp_path / "clickhouse")
    with running(redis), running(clickhouse), mock_process() as mock:
        migrate(clickhouse_url)
        key = admin(redis_url, "org", "create", "acme", clickhouse_url=clickhouse_url)["key"]
        ingestor = Ingestor(tmp_path, redis_url, clickhouse_url).wait()
        gateway = Gateway(tmp_path, redis_url, upstreams_of(mock.url)).wait()
        client = Client(gateway.url, key)
        with running(ingestor), running(gateway):
            async with asyncio.TaskGroup() as group:
                group.create_task(client.run())
                group.create_task(stop_at(client, STOP_INGESTOR_AT, ingestor.process.terminate))
                group.create_task(stop_at(client, STOP_GATEWAY_AT, gateway.process.terminate))
            assert await asyncio.to_thread(gateway.process.wait, 30) == 0
            assert await asyncio.to_thread(ingestor.process.wait, 30) == 0
        assert STOP_GATEWAY_AT <= client.answered < REQUESTS
        assert client.broken == 0
        after = Ingestor(tmp_path, redis_url, clickhouse_url).wait()
        with running(after):
            query = (
                "SELECT feature, count() AS requests, uniqExact(event_id) AS ids FROM lectr.requests "
                "WHERE status = 200 AND error_category = '' GROUP BY feature"
            )

            def look() -> dict[str, tuple[int, int]]:
                found = {row["feature"]: (row["requests"], row["ids"]) for row in select(clickhouse_url, query)}
                return found if sum(requests for requests, _ in found.values()) >= client.answered else {}

            stored = await asyncio.to_thread(wait_until, look, deadline_s=60)
    assert stored == {feature: (count, count) for feature, count in client.answers.items()}
    print(f"answers {client.answered}, rows {sum(n for n, _ in stored.values())}, refused after stop {client.refused}")
