"""Synthetic traffic for the demo: several features on five providers, streamed and not, some of it failing.

In: the gateway's address and a key. Out: requests, a burst first and then a steady trickle, until cancelled.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Final

import aiohttp

_BURST_REQUESTS: Final = 400
_BURST_CONNECTIONS: Final = 16
_PAUSE_S: Final = 0.5
_PATH: Final = "/v1/chat/completions?mock=may-fail"
"""The query is for the mock providers: some of this traffic fails, and nobody else's."""

# feature, task, model, stream, share of the traffic
_MIX: Final = (
    ("onboarding-assistant", "generation", "gpt-4o-mini", True, 20),
    ("onboarding-assistant", "generation", "gpt-5.4", True, 5),
    ("support-triage", "classification", "gpt-4o", False, 20),
    ("support-reply", "generation", "claude-sonnet-4-5", True, 12),
    ("contract-extraction", "extraction", "claude-opus-4-8", False, 4),
    ("search-summaries", "summarisation", "gemini-2.5-flash", False, 12),
    ("voice-notes", "summarisation", "llama-3.3-70b-versatile", True, 10),
    ("planner", "reasoning", "o3", False, 4),
    ("back-office", "extraction", "gpt-4o", False, 6),
    ("prototype", "", "gpt-6.2-astra", False, 2),
    ("", "", "gpt-4o-mini", False, 7),
)
_WORDS: Final = (
    "please",
    "look",
    "at",
    "the",
    "order",
    "from",
    "last",
    "week",
    "and",
    "tell",
    "customer",
    "what",
    "next",
)


def request_of(choice: random.Random) -> tuple[dict[str, str], bytes]:
    """One request of the mix: extra headers and body."""
    feature, task, model, stream, _ = choice.choices(_MIX, weights=[row[4] for row in _MIX])[0]
    headers = {"Content-Type": "application/json"}
    if feature:
        headers["X-Lectr-Feature"] = feature
    if task:
        headers["X-Lectr-Task"] = task
    if feature == "back-office":
        headers["X-Lectr-Provider"] = "azure"
    text = " ".join(choice.choices(_WORDS, k=choice.randint(10, 400)))
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if stream:
        body["stream"] = True
        if choice.random() < 0.8:  # noqa: PLR2004 - most clients ask for usage, some do not
            body["stream_options"] = {"include_usage": True}
    return headers, json.dumps(body).encode()


async def drive(gateway_url: str, key: str, say: Callable[[str], None]) -> None:
    """Make traffic until cancelled."""
    choice = random.Random()  # noqa: S311 - traffic, not secrets
    head = {"X-Lectr-Key": key, "Authorization": "Bearer demo"}
    async with aiohttp.ClientSession(headers=head) as session:

        async def one() -> None:
            headers, body = request_of(choice)
            try:
                async with session.post(f"{gateway_url}{_PATH}", headers=headers, data=body) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                say(f"traffic: a request failed: {type(error).__name__}")

        async def some() -> None:
            for _ in range(_BURST_REQUESTS // _BURST_CONNECTIONS):
                await one()

        await asyncio.gather(*(some() for _ in range(_BURST_CONNECTIONS)))
        say(f"traffic     {_BURST_REQUESTS} requests made, and now two a second")
        while True:
            await asyncio.gather(one(), asyncio.sleep(_PAUSE_S))
