"""Token counts of a mock answer, as a pure function of the request.

In: the decoded request body and the requested model. Out: TokenCounts. Never looks at a clock or at earlier requests.

The formula (every number is an int):

    prompt_bytes   = sum of the UTF-8 lengths of all strings below the body's PROMPT_FIELDS, except strings that stand
                     at the keys in NOT_TEXT; an integer inside a list (embedding input given as tokens) counts 4 bytes
    input_tokens   = 4 + prompt_bytes // 4                       (inclusive of cached tokens)
    visible_tokens = 8 + input_tokens % 13, at most the request's own output limit (at least 1)
    reasoning      = 16 + input_tokens % 16 when the request asks for it or the model always thinks, else 0
    cache_read     = with an Anthropic `cache_control` anywhere in the body: input_tokens // 2
                     otherwise, from 1,024 input tokens on: input_tokens // 2 rounded down to a multiple of 128, else 0
    cache_write    = with `cache_control`: input_tokens // 4, else 0
    output_tokens  = visible_tokens + reasoning

One visible token is one streamed text piece, so a stream has exactly visible_tokens content events.
Audio uploads: seconds = 1 + file_bytes // 16,000; input_tokens = 10 * seconds. Images: 272 output tokens each.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from deploy.local.providers import ANSWER_MARKER

PROMPT_FIELDS: Final = (
    "system",
    "instructions",
    "messages",
    "input",
    "prompt",
    "contents",
    "systemInstruction",
    "content",
    "requests",
)
NOT_TEXT: Final = frozenset({"role", "type", "id", "model", "cache_control", "signature"})
LIMIT_FIELDS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
REASONING_FIELDS: Final = ("reasoning_effort", "reasoning", "thinking")
ALWAYS_THINKING: Final = re.compile(r"(openai/)?gpt-(5|6|oss)|o[134](-|$)|(models/)?gemini-(2\.5|3|4)|qwen/qwen3")
FILLER: Final = (
    "says",
    "the",
    "façade",
    "of",
    "a",
    "quiet",
    "machine",
    "in",
    "東京",
    "answers",
    "every",
    "call",
    "alike",
)

CACHED_FROM_TOKENS: Final = 1024
TOKENS_PER_IMAGE: Final = 272
AUDIO_BYTES_PER_SECOND: Final = 16_000
AUDIO_TOKENS_PER_SECOND: Final = 10


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one call used. input_tokens includes the cache parts; reasoning comes on top of visible_tokens."""

    input_tokens: int
    visible_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_is_1h: bool = False
    limited: bool = False
    """The request's own output limit cut the answer."""

    @property
    def output_tokens(self) -> int:
        """Everything that is billed as output: visible text and reasoning."""
        return self.visible_tokens + self.reasoning_tokens

    @property
    def total_tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    @property
    def uncached_input_tokens(self) -> int:
        """Input as Anthropic reports it: without what the cache read or wrote."""
        return max(0, self.input_tokens - self.cache_read_tokens - self.cache_write_tokens)


class TokenOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts ordered through a behaviour: `input` includes cache, `output` reasoning; absent keeps the formula."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None


def prompt_bytes(body: Mapping[str, Any]) -> int:
    """Return the UTF-8 length of all prompt text in the body (see the module's formula)."""
    return sum(sum(_lengths(body[field])) for field in PROMPT_FIELDS if field in body)


def count_tokens(body: Mapping[str, Any], model: str = "") -> TokenCounts:
    """Return the counts for a JSON body. `model` is the requested name, from the path where the body has none."""
    nested = body.get("generateContentRequest")
    source = nested if isinstance(nested, Mapping) else body
    input_tokens = 4 + prompt_bytes(source) // 4
    wanted = 8 + input_tokens % 13
    limit = _output_limit(source)
    visible = wanted if limit is None else max(1, min(wanted, limit))
    cached, lasting = _cache_control(source)
    if cached:
        cache_read, cache_write = input_tokens // 2, input_tokens // 4
    else:
        cache_read = input_tokens // 2 // 128 * 128 if input_tokens >= CACHED_FROM_TOKENS else 0
        cache_write = 0
    return TokenCounts(
        input_tokens=input_tokens,
        visible_tokens=visible,
        reasoning_tokens=16 + input_tokens % 16 if _thinks(source, model) else 0,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cache_write_is_1h=lasting,
        limited=visible < wanted,
    )


def count_audio(file_bytes: int) -> TokenCounts:
    """Return the counts of an audio upload of that many bytes."""
    return TokenCounts(input_tokens=AUDIO_TOKENS_PER_SECOND * audio_seconds(file_bytes), visible_tokens=8)


def audio_seconds(file_bytes: int) -> int:
    """Return the invented length of an audio file, in whole seconds."""
    return 1 + file_bytes // AUDIO_BYTES_PER_SECOND


def count_images(body: Mapping[str, Any]) -> TokenCounts:
    """Return the counts of an image generation: the prompt, and a fixed price per image."""
    number = body.get("n")
    images = number if isinstance(number, int) and number > 0 else 1
    return TokenCounts(input_tokens=count_tokens(body).input_tokens, visible_tokens=TOKENS_PER_IMAGE * images)


def override_counts(counts: TokenCounts, ordered: TokenOverride) -> TokenCounts:
    """Return the counts with the ordered numbers in place of the formula's."""
    reasoning = counts.reasoning_tokens if ordered.reasoning is None else ordered.reasoning
    output = counts.visible_tokens + reasoning if ordered.output is None else ordered.output
    return TokenCounts(
        input_tokens=counts.input_tokens if ordered.input is None else ordered.input,
        visible_tokens=max(0, output - reasoning),
        reasoning_tokens=min(reasoning, output),
        cache_read_tokens=counts.cache_read_tokens if ordered.cache_read is None else ordered.cache_read,
        cache_write_tokens=counts.cache_write_tokens if ordered.cache_write is None else ordered.cache_write,
        cache_write_is_1h=counts.cache_write_is_1h,
        limited=counts.limited,
    )


def answer_pieces(counts: TokenCounts) -> tuple[str, ...]:
    """Return the invented answer: the marker, then filler words, one piece per visible token of the formula."""
    words = (FILLER[index % len(FILLER)] for index in range(counts.visible_tokens - 1))
    return (ANSWER_MARKER, *(f" {word}" for word in words))


def split_text(text: str) -> tuple[str, ...]:
    """Cut an ordered answer into streamable pieces whose concatenation is the text."""
    return tuple(re.findall(r"\s*\S+(?:\s+$)?|\s+$", text))


def _lengths(prompt: Any) -> Iterator[int]:
    """Yield the byte length of every text below the value, without recursion: a hostile body may be deeply nested."""
    waiting = [prompt]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            waiting += [inner for name, inner in value.items() if name not in NOT_TEXT]
        elif isinstance(value, list):
            numbers = sum(isinstance(inner, int) and not isinstance(inner, bool) for inner in value)
            yield 4 * numbers
            waiting += value


def _output_limit(body: Mapping[str, Any]) -> int | None:
    config = body.get("generationConfig")
    candidates = [body.get(field) for field in LIMIT_FIELDS]
    if isinstance(config, Mapping):
        candidates.append(config.get("maxOutputTokens"))
    return next((value for value in candidates if isinstance(value, int) and not isinstance(value, bool)), None)


def _thinks(body: Mapping[str, Any], model: str) -> bool:
    if ALWAYS_THINKING.match(model):
        return True
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") == "disabled":
        return False
    return any(body.get(field) for field in REASONING_FIELDS)


def _cache_control(body: Mapping[str, Any]) -> tuple[bool, bool]:
    """Tell whether a cache_control stands anywhere in the body, and whether one of them lasts an hour."""
    found = lasting = False
    waiting: list[Any] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            mark = value.get("cache_control")
            if isinstance(mark, Mapping):
                found, lasting = True, lasting or mark.get("ttl") == "1h"
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found, lasting
