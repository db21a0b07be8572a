"""Gemini's own surface: generateContent, its two stream forms, embeddings, countTokens.

In: a Call. Out: a Reply. Usage metadata stands in every chunk as running totals; thoughts count beside candidates.
A stream without `alt=sse` is one JSON array sent element by element; neither form has a terminator event.
"""

from typing import Any, Final

import msgspec

from deploy.local.providers.call import Call, Reply, data_event, json_reply
from deploy.local.providers.catalog import vector
from deploy.local.providers.failures import stream_failure
from deploy.local.providers.usage import gemini_usage

JSON_TYPE: Final = "application/json; charset=UTF-8"


def generate_content(call: Call) -> Reply:
    """Answer POST models/{model}:generateContent."""
    return _json(_chunk(call, call.text, call.counts.visible_tokens, last=True))


def stream_generate_content(call: Call) -> Reply:
    """Answer POST models/{model}:streamGenerateContent, as SSE with `alt=sse`, else as a JSON array."""
    pieces = call.pieces or ("",)
    final = len(pieces) - 1
    chunks = [
        _chunk(call, piece, call.counts.visible_tokens if index == final else index + 1, last=index == final)
        for index, piece in enumerate(pieces)
    ]
    failure = stream_failure(call.route)
    if call.route.query.get("alt") == "sse":
        return Reply(
            content_type="text/event-stream",
            pieces=tuple(data_event(chunk) for chunk in chunks),
            failure_event=failure,
        )
    separators = [b"[", *[b",\r\n"] * final]
    elements = [
        separator + msgspec.json.format(msgspec.json.encode(chunk), indent=2)
        for separator, chunk in zip(separators, chunks, strict=True)
    ]
    broken = failure.removeprefix(b"data: ").strip()
    return Reply(content_type=JSON_TYPE, pieces=(*elements, b"]"), failure_event=b",\r\n%s]" % broken)


def embed_content(call: Call) -> Reply:
    """Answer POST models/{model}:embedContent."""
    return _json({"embedding": {"values": vector(call.body.get("outputDimensionality"))}})


def batch_embed_contents(call: Call) -> Reply:
    """Answer POST models/{model}:batchEmbedContents: one embedding per request in the body."""
    requests = call.body.get("requests")
    number = len(requests) if isinstance(requests, list) else 0
    return _json({"embeddings": [{"values": vector(None)} for _ in range(number)]})


def count_content_tokens(call: Call) -> Reply:
    """Answer POST models/{model}:countTokens."""
    tokens = call.counts.input_tokens
    return _json({"totalTokens": tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]})


def _json(document: dict[str, Any]) -> Reply:
    reply = json_reply(document, indent=2)
    return Reply(content_type=JSON_TYPE, pieces=reply.pieces)


def _chunk(call: Call, text: str, visible_tokens: int, *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "MAX_TOKENS" if call.counts.limited else "STOP"
    return {
        "candidates": [candidate],
        "usageMetadata": gemini_usage(call.counts, visible_tokens),
        "modelVersion": call.model,
        "responseId": call.object_id(""),
    }
