"""Events as real traffic makes them: many features, models and SDKs, unique request ids, streams, caches, failures.

Figures are drawn from a seeded dice, so two runs price and store the same rows.
"""

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.event import Event, Usage

START_MS: Final = 1_795_000_000_000
_SPACING_MS: Final = 3
"""A million events come from about an hour of traffic."""
_FEATURES: Final = 50
_FAILED_SHARE: Final = 0.1
_ID_SIGNS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Model:
    """A model as clients ask for it and as its provider answers."""

    provider: str
    asked: str
    answered: str
    endpoint: str
    finish: str
    tier: str
    id_head: str
    id_length: int


def _chat(provider: str, asked: str, answered: str, id_length: int = 29) -> Model:
    return Model(provider, asked, answered, "/v1/chat/completions", "stop", "default", "chatcmpl-", id_length)


def _claude(asked: str, answered: str) -> Model:
    return Model("anthropic", asked, answered, "/v1/messages", "end_turn", "standard", "req_", 24)


def _gemini(name: str) -> Model:
    return Model("gemini", name, name, "/v1beta/openai/chat/completions", "stop", "", "", 22)


_MODELS: Final = (
    _chat("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    _chat("openai", "gpt-4o", "gpt-4o-2024-08-06"),
    _chat("openai", "gpt-5", "gpt-5-2025-08-07"),
    _chat("openai", "o3", "o3-2025-04-16"),
    _claude("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    _claude("claude-opus-4-8", "claude-opus-4-8"),
    _claude("claude-3-haiku-20240307", "claude-3-haiku-20240307"),
    _chat("groq", "llama-3.3-70b-versatile", "llama-3.3-70b-versatile", 36),
    _chat("groq", "llama-3.1-8b-instant", "llama-3.1-8b-instant", 36),
    _gemini("gemini-2.5-flash"),
    _gemini("gemini-2.5-pro"),
    _chat("azure", "team-deployment", "gpt-4o-mini-2024-07-18"),
)
_SDKS: Final = ("openai-python/3.54.0", "openai-js/6.1.0", "anthropic-python/2.12.1", "langchain-openai/1.0.2", "", "")
_TASKS: Final = ("", "", "summarize", "classify", "extract", "reasoning")
_Failure = tuple[int, str, Literal["provider", "gateway", "client"]]
_FAILURES: Final[tuple[_Failure, ...]] = (
    (429, "rate_limit", "provider"),
    (500, "provider_error", "provider"),
    (504, "timeout", "gateway"),
    (499, "client_disconnect", "client"),
    (400, "invalid_request", "client"),
)


def traffic(count: int, *, first_seq: int = 0, seed: int = 7) -> Iterator[Event]:
    """`count` events of one gateway from `first_seq` on."""
    dice = random.Random(f"{seed}-{first_seq}")
    for seq in range(first_seq, first_seq + count):
        model = dice.choice(_MODELS)
        streaming = dice.random() < 0.5
        failed = dice.random() < _FAILED_SHARE
        yield Event(
            seq=seq,
            ts_ms=START_MS + seq * _SPACING_MS + dice.randrange(500),
            org=f"org-{dice.randrange(5)}",
            method="POST",
            endpoint=model.endpoint,
            feature=f"feature-{dice.randrange(_FEATURES)}",
            task=dice.choice(_TASKS),
            provider=model.provider,
            provider_source=dice.choice(("header", "path", "model", "model")),
            model_requested=model.asked,
            streaming=streaming,
            request_bytes=dice.randrange(200, 60_000),
            overhead_us=dice.randrange(150, 900),
            client_retry_count=int(dice.random() < 0.05),
            sdk=dice.choice(_SDKS),
            message_count=dice.randrange(1, 30),
            content_bytes=dice.randrange(100, 50_000),
            max_tokens=dice.choice((0, 0, 1_024, 4_096, 8_192)),
            tools_present=dice.random() < 0.3,
            structured_output=dice.random() < 0.1,
            marks=("provider_unknown",) if dice.random() < 0.02 else (),
            **(_failure(dice) if failed else _answer(dice, model, streaming=streaming)),
        )


def _failure(dice: random.Random) -> dict[str, Any]:
    status, category, source = dice.choice(_FAILURES)
    return {
        "status": status,
        "error_category": category,
        "error_source": source,
        "response_bytes": dice.randrange(100, 500),
        "latency_us": dice.randrange(1_000, 30_000_000),
    }


def _answer(dice: random.Random, model: Model, *, streaming: bool) -> dict[str, Any]:
    first_us = dice.randrange(90_000, 900_000)
    return {
        "status": 200,
        "model_actual": model.answered,
        "finish_reason": model.finish if dice.random() < 0.9 else "length",
        "usage": _usage(dice, model),
        "usage_source": "provider" if dice.random() < 0.95 else "estimated",
        "service_tier": model.tier if model.provider != "groq" else "on_demand",
        "response_bytes": dice.randrange(500, 40_000),
        "latency_us": first_us + dice.randrange(100_000, 9_000_000),
        "ttfb_us": first_us,
        "ttft_us": first_us + dice.randrange(1_000, 90_000) if streaming else -1,
        "client_stall_us": dice.randrange(1, 5_000) if streaming and dice.random() < 0.2 else 0,
        "provider_request_id": model.id_head + "".join(dice.choices(_ID_SIGNS, k=model.id_length)),
    }


def _usage(dice: random.Random, model: Model) -> Usage:
    written = model.provider == "anthropic" and dice.random() < 0.3
    return Usage(
        input_uncached_tokens=dice.randrange(5, 8_000),
        input_cache_read_tokens=dice.randrange(1_024, 20_000) if dice.random() < 0.4 else 0,
        input_cache_write_5m_tokens=dice.randrange(1_024, 5_000) if written else 0,
        output_text_tokens=dice.randrange(1, 1_500),
        output_reasoning_tokens=dice.randrange(4_000) if model.asked in {"gpt-5", "o3", "gemini-2.5-pro"} else 0,
        web_search_requests=int(model.asked.startswith("claude-opus") and dice.random() < 0.05),
    )
