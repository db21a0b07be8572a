"""The usual chat answers, read into typed fields instead of building all of them: most answers are such.

In: an event's data, or a whole document. Out: notes, or False (and nothing noted) for one that has more to tell, is
oddly typed or contradicts itself; chat.py reads that as a whole. A stream has hundreds of usual chunks and one or two
others.
"""

from typing import Annotated, Final, Literal

import msgspec

from gateway.usage.counts import MAX_COUNT
from gateway.usage.reading import known_label
from gateway.usage.tally import Tally, utf8_bytes
from shared.event import Usage


class _Message(msgspec.Struct, gc=False):
    """A message, or a piece of one, that holds nothing but text."""

    content: str | None = None
    reasoning: object = None
    reasoning_content: object = None
    refusal: Literal[""] | None = None
    tool_calls: Annotated[list[object], msgspec.Meta(max_length=0)] | None = None
    function_call: None = None
    audio: None = None


class _ChunkChoice(msgspec.Struct, gc=False):
    delta: _Message
    finish_reason: object = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_ChunkChoice]
    model: str = ""
    service_tier: str | None = None
    usage: object = None
    error: object = None
    x_groq: object = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    # Other spellings of the same: openai_usage.py knows which counts.
    input_tokens_details: None = None
    input_token_details: None = None
    output_tokens_details: None = None
    output_token_details: None = None


class _AnswerChoice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_AnswerChoice]
    usage: _Usage
    model: str = ""
    service_tier: str | None = None
    error: object = None
    x_groq: object = None


_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_NO_DETAILS: Final = _Details()


def read_usual_chunk(tally: Tally, data: bytes) -> bool:
    """Note a chunk that holds a piece of text."""
    try:
        chunk = _decode_chunk(data)
    except (ValueError, RecursionError):
        return False
    if len(chunk.choices) != 1 or chunk.usage or chunk.error or chunk.x_groq:
        return False
    choice = chunk.choices[0]
    delta = choice.delta
    if choice.finish_reason or delta.reasoning or delta.reasoning_content:
        return False
    if text := delta.content:
        tally.text_bytes += len(text) if text.isascii() else utf8_bytes(text)
        tally.token_seen = True
    if not tally.model:
        tally.note_model(chunk.model)
    if chunk.service_tier and chunk.service_tier != tally.service_tier:
        tally.note_tier(chunk.service_tier)
    return True


def text_of_chunk(data: bytes) -> str | None:
    """The text that a chunk's only choice holds; None if there is none, or not one."""
    try:
        choices = _decode_chunk(data).choices
    except (ValueError, RecursionError):
        return None
    return choices[0].delta.content if len(choices) == 1 else None


def read_usual_answer(tally: Tally, data: bytes) -> bool:
    """Note an answer of one text and its usage."""
    # Gemini's usage has figures in its total alone.
    if tally.provider == "gemini":
        return False
    try:
        answer = _decode_answer(data)
    except (ValueError, RecursionError):
        return False
    if len(answer.choices) != 1 or answer.error or answer.x_groq:
        return False
    choice = answer.choices[0]
    if choice.message.reasoning or choice.message.reasoning_content:
        return False
    usage = _disjoint(answer.usage)
    if usage is None:
        return False
    tally.note_text(choice.message.content)
    tally.model = known_label(answer.model)
    tally.finish_reason = known_label(choice.finish_reason)
    tally.service_tier = known_label(answer.service_tier)
    tally.usage = usage
    tally.reported_is_final = tally.finish_reason != ""
    return True


def _disjoint(raw: _Usage) -> Usage | None:
    """Disjoint counts; None when parts exceed their whole, which openai_usage.py settles."""
    if raw.prompt_tokens_details is None and raw.completion_tokens_details is None:
        if not (0 <= raw.prompt_tokens <= MAX_COUNT and 0 <= raw.completion_tokens <= MAX_COUNT):
            return None
        return Usage(input_uncached_tokens=raw.prompt_tokens, output_text_tokens=raw.completion_tokens)
    inward, outward = raw.prompt_tokens_details or _NO_DETAILS, raw.completion_tokens_details or _NO_DETAILS
    cached, written = inward.cached_tokens or 0, inward.cache_write_tokens or 0
    audio, image = inward.audio_tokens or 0, inward.image_tokens or 0
    reasoning = outward.reasoning_tokens or 0
    audio_out, image_out = outward.audio_tokens or 0, outward.image_tokens or 0
    uncached = raw.prompt_tokens - cached - written - audio - image
    text = raw.completion_tokens - reasoning - audio_out - image_out
    parts = (uncached, cached, written, audio, image, text, reasoning, audio_out, image_out)
    if min(parts) < 0 or max(raw.prompt_tokens, raw.completion_tokens) > MAX_COUNT:
        return None
    return Usage(
        input_uncached_tokens=uncached,
        input_cache_read_tokens=cached,
        input_cache_write_other_tokens=written,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_text_tokens=text,
        output_reasoning_tokens=reasoning,
        output_audio_tokens=audio_out,
        output_image_tokens=image_out,
    )
