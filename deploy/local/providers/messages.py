"""Anthropic's Messages API: messages (whole and streamed) and count_tokens.

In: a Call. Out: a Reply. Keeps Anthropic's habits: JSON padded with spaces before the closing brace, `ping` events,
usage split over message_start (input side, provisional output) and message_delta (cumulative, final), no [DONE].
"""

from typing import Any, Final

import msgspec

from deploy.local.providers import ANSWER_MARKER
from deploy.local.providers.call import Call, Reply, json_reply
from deploy.local.providers.failures import failure, stream_failure
from deploy.local.providers.usage import messages_cache_split, messages_usage

SAMPLING_REFUSED_FROM: Final = "2026-10-21"
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def messages(call: Call) -> Reply:
    """Answer POST /messages."""
    refusal = _refusal(call)
    if refusal:
        return failure(call.route, 400, refusal, sequence=call.sequence)
    if call.streams:
        return _stream(call)
    content: list[dict[str, Any]] = [{"type": "text", "text": call.text}]
    if call.counts.reasoning_tokens:
        content.insert(0, {"type": "thinking", "thinking": _thought(), "signature": "bW9jaw=="})
    usage = {**messages_usage(call.counts), **messages_cache_split(call.counts)}
    return json_reply({**_message(call, usage), "content": content, "stop_reason": _stop(call)})


def count_messages_tokens(call: Call) -> Reply:
    """Answer POST /messages/count_tokens."""
    return json_reply({"input_tokens": call.counts.input_tokens})


def _refusal(call: Call) -> str:
    if "stream_options" in call.body:
        return "stream_options: Extra inputs are not permitted"
    if not isinstance(call.body.get("max_tokens"), int):
        return "max_tokens: Field required"
    refused = [name for name in ("temperature", "top_p", "top_k") if name in call.body]
    if call.version >= SAMPLING_REFUSED_FROM and refused:
        return f"{refused[0]}: not supported by API version {call.version}"
    return ""


def _message(call: Call, usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": call.model,
        "id": call.object_id("msg_"),
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _stream(call: Call) -> Reply:
    provisional = {**messages_usage(call.counts), **messages_cache_split(call.counts), "output_tokens": 1}
    provisional.pop("output_tokens_details", None)
    start = {"type": "message_start", "message": _message(call, provisional)}
    events: list[dict[str, Any]] = []
    block = 0
    if call.counts.reasoning_tokens:
        events += _block(
            block,
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": _thought()}, {"type": "signature_delta", "signature": "bW9jaw=="}],
        )
        block += 1
    texts = [{"type": "text_delta", "text": piece} for piece in call.pieces]
    events += _block(block, {"type": "text", "text": ""}, texts)
    delta = {"stop_reason": _stop(call), "stop_sequence": None}
    events += [
        {"type": "message_delta", "delta": delta, "usage": messages_usage(call.counts)},
        {"type": "message_stop"},
    ]
    pieces = [_padded(start, 13), _padded(events[0], 0), PING]
    pieces += [_padded(event, index * 5 % 14) for index, event in enumerate(events[1:], start=1)]
    return Reply(
        content_type="text/event-stream; charset=utf-8",
        pieces=tuple(pieces),
        failure_event=stream_failure(call.route),
    )


def _block(index: int, content: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _padded(event: dict[str, Any], spaces: int) -> bytes:
    encoded = msgspec.json.encode(event)
    return b"event: %s\ndata: %s%s}\n\n" % (str(event["type"]).encode(), encoded[:-1], b" " * spaces)


def _thought() -> str:
    return f"{ANSWER_MARKER} thought about it"


def _stop(call: Call) -> str:
    return "max_tokens" if call.counts.limited else "end_turn"
