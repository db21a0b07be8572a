"""Endpoints without a generated text: embeddings, moderations, models, files, batches.

In: a Call. Out: a Reply. Never keeps an uploaded file; listings are constant.
"""

import base64
import struct
from typing import Any, Final

from deploy.local.providers.call import Call, Reply, json_reply
from deploy.local.providers.models import LISTED

DEFAULT_DIMENSIONS: Final = 8
CREATED_S: Final = 1_735_689_600
CATEGORIES: Final = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


def vector(dimensions: Any) -> list[float]:
    """Return an embedding of that many dimensions (8 if the request names none); each value is exact in float32."""
    number = dimensions if isinstance(dimensions, int) and 0 < dimensions <= 4096 else DEFAULT_DIMENSIONS  # noqa: PLR2004 - as real models
    return [(index % 16 - 8) / 16 for index in range(number)]


def embeddings(call: Call) -> Reply:
    """Answer POST /embeddings: base64 of little-endian float32 where the request says so (as SDKs do), else numbers."""
    given = call.body.get("input")
    number = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
    values = vector(call.body.get("dimensions"))
    embedding: list[float] | str = values
    if call.body.get("encoding_format") == "base64":
        embedding = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    rows = [{"object": "embedding", "index": index, "embedding": embedding} for index in range(number)]
    usage = {"prompt_tokens": call.counts.input_tokens, "total_tokens": call.counts.input_tokens}
    return json_reply({"object": "list", "data": rows, "model": call.model, "usage": usage})


def moderations(call: Call) -> Reply:
    """Answer POST /moderations; the model is optional."""
    result = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": dict.fromkeys(CATEGORIES, 0.0),
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    model = call.model or "omni-moderation-latest"
    return json_reply({"id": call.object_id("modr-"), "model": model, "results": [result]}, indent=2)


def models(call: Call) -> Reply:
    """Answer GET /models and /models/{id} of every provider."""
    provider = call.route.provider
    names = (call.route.item,) if call.route.item else LISTED[provider]
    if call.route.native:
        entries = [_native_model(provider, name) for name in names]
        if not call.route.item:
            return json_reply(_native_list(provider, entries))
        return json_reply(entries[0])
    prefix = "models/" if provider == "gemini" and not call.route.item else ""
    listed = [{"id": prefix + name, "object": "model", "created": CREATED_S, "owned_by": provider} for name in names]
    return json_reply(listed[0] if call.route.item else {"object": "list", "data": listed})


def _native_model(provider: str, name: str) -> dict[str, Any]:
    if provider == "anthropic":
        return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
    return {
        "name": f"models/{name.removeprefix('models/')}",
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


def _native_list(provider: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    if provider == "anthropic":
        return {"data": entries, "has_more": False, "first_id": entries[0]["id"], "last_id": entries[-1]["id"]}
    return {"models": entries}


def upload_file(call: Call) -> Reply:
    """Answer POST /files."""
    upload = call.uploads[0] if call.uploads else None
    name, size = (upload.filename, len(upload.content)) if upload else ("file.jsonl", 0)
    return json_reply(
        _file(call.object_id("file-"), name, size, str(call.body.get("purpose", "batch")), call.created_s)
    )


def list_files(call: Call) -> Reply:
    """Answer GET /files and /files/{id}."""
    entry = _file(call.route.item or "file-mock", "batch.jsonl", 120, "batch", CREATED_S)
    return json_reply(entry if call.route.item else {"object": "list", "data": [entry], "has_more": False})


def _file(identity: str, filename: str, size_bytes: int, purpose: str, created_s: int) -> dict[str, Any]:
    return {
        "id": identity,
        "object": "file",
        "bytes": size_bytes,
        "created_at": created_s,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
    }


def create_batch(call: Call) -> Reply:
    """Answer POST /batches: a batch that has just been accepted, without usage."""
    return json_reply(_batch(call, call.object_id("batch_"), "validating"))


def list_batches(call: Call) -> Reply:
    """Answer GET /batches and /batches/{id}: a completed batch, with usage in Responses names."""
    usage = {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 60,
    }
    entry = {**_batch(call, call.route.item or "batch_mock", "completed"), "usage": usage}
    return json_reply(entry if call.route.item else {"object": "list", "data": [entry], "has_more": False})


def _batch(call: Call, identity: str, status: str) -> dict[str, Any]:
    return {
        "id": identity,
        "object": "batch",
        "endpoint": call.body.get("endpoint", "/v1/chat/completions"),
        "input_file_id": call.body.get("input_file_id", "file-mock"),
        "completion_window": "24h",
        "status": status,
        "created_at": call.created_s,
        "request_counts": {"total": 2, "completed": 2 if status == "completed" else 0, "failed": 0},
    }
