"""What goes over the wire while measuring, known to both ends: the requests, the completion, the stream's events.

The load generator compares every answer with these bytes, so a gateway that changes or loses one fails the run.
"""

import json
from functools import cache
from typing import Any, Final

MODEL: Final = "gpt-4o-mini"
ANSWERED: Final = "gpt-4o-mini-2024-07-18"
OUTPUT_TOKENS: Final = 201
"""In every answer, plain or streamed; the rows in ClickHouse are checked against it."""
_USAGE: Final = {"prompt_tokens": 19, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 19 + OUTPUT_TOKENS}
_TEXT: Final = (
    "Refunds are paid to the card that was charged, within five working days of the day the parcel reaches our "
    "warehouse. You will get a mail with the amount and the reference number; banks may take two days more to show it. "
    "Please write to us if it has not come by this Friday"
)
_STREAM_HEAD: Final = {
    "id": "chatcmpl-C7xv2rKdPq9sTbnL4mHwZe0aFgYuJ",
    "object": "chat.completion.chunk",
    "created": 1760000000,
    "model": ANSWERED,
}


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


COMPLETION: Final = _compact(
    {
        **_STREAM_HEAD,
        "object": "chat.completion",
        "service_tier": "default",
        "system_fingerprint": "fp_44added55e",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
)
REFUSAL: Final = _compact(
    {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
)
DONE: Final = b"data: [DONE]\n\n"


@cache
def events(count: int) -> tuple[bytes, ...]:
    """A stream of `count` events: the role, one token each, the finish reason, the usage. [DONE] is not among them."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f" t{number:04d}"} for number in range(count - 3)]
    chunks: list[dict[str, Any]] = [
        {**_STREAM_HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
        for delta in deltas
    ]
    chunks.append({**_STREAM_HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    chunks.append({**_STREAM_HEAD, "choices": [], "usage": _USAGE})
    return tuple(b"data: " + _compact(chunk) + b"\n\n" for chunk in chunks)


def stream_body(count: int) -> bytes:
    """The whole body of such a stream, without framing."""
    return b"".join(events(count)) + DONE


def json_request(order: str = "") -> bytes:
    """The body of a plain request; an order for the upstream travels in `user`, which every gateway forwards."""
    messages = [
        {"role": "system", "content": "You answer questions of customers of a shop, in two sentences."},
        {"role": "user", "content": "When do I get my money back?"},
    ]
    return _compact({"model": MODEL, "messages": messages, **({"user": order} if order else {})})


def stream_request(count: int, interval_ms: int) -> bytes:
    """The body of a request for `count` events, one every `interval_ms`."""
    plain = json.loads(json_request(f"pace-{interval_ms}-{count}"))
    return _compact({**plain, "stream": True, "stream_options": {"include_usage": True}})
