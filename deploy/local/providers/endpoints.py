"""Which endpoints each provider has, and what an accepted request means.

In: route, method, decoded body. Out: the dialect function and the Call for it, or the provider's refusal. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from deploy.local.providers import catalog, chat, gemini, media, messages, responses
from deploy.local.providers.call import Call, Reply
from deploy.local.providers.reading import Upload
from deploy.local.providers.routing import Route
from deploy.local.providers.tokens import TokenCounts, count_audio, count_images, count_tokens

Dialect = Callable[[Call], Reply]
Table = Mapping[tuple[str, str], Dialect]

SHARED: Final[Table] = {
    ("GET", "models"): catalog.models,
    ("POST", "chat/completions"): chat.chat,
    ("POST", "batches"): catalog.create_batch,
    ("GET", "batches"): catalog.list_batches,
}
FILES: Final[Table] = {("POST", "files"): catalog.upload_file, ("GET", "files"): catalog.list_files}
AUDIO: Final[Table] = {
    ("POST", "audio/transcriptions"): media.transcription,
    ("POST", "audio/translations"): media.transcription,
    ("POST", "audio/speech"): media.speech,
}
OPENAI: Final[Table] = {
    **SHARED,
    **FILES,
    **AUDIO,
    ("POST", "completions"): chat.completions,
    ("POST", "responses"): responses.create_response,
    ("POST", "responses/compact"): responses.compact_response,
    ("POST", "responses/input_tokens"): responses.count_input_tokens,
    ("POST", "embeddings"): catalog.embeddings,
    ("POST", "images/generations"): media.images,
    ("POST", "images/edits"): media.images,
}
COMPAT: Final[Mapping[str, Table]] = {
    "openai": {**OPENAI, ("POST", "moderations"): catalog.moderations},
    "azure": OPENAI,
    "groq": {**SHARED, **FILES, **AUDIO, ("POST", "responses"): responses.create_response},
    "gemini": {
        **SHARED,
        ("POST", "embeddings"): catalog.embeddings,
        ("POST", "images/generations"): media.images,
    },
    "anthropic": {("POST", "chat/completions"): chat.chat},
}
NATIVE: Final[Mapping[str, Table]] = {
    "anthropic": {
        ("POST", "messages"): messages.messages,
        ("POST", "messages/count_tokens"): messages.count_messages_tokens,
        ("GET", "models"): catalog.models,
    },
    "gemini": {
        ("GET", "models"): catalog.models,
        ("POST", ":generateContent"): gemini.generate_content,
        ("POST", ":streamGenerateContent"): gemini.stream_generate_content,
        ("POST", ":embedContent"): gemini.embed_content,
        ("POST", ":batchEmbedContents"): gemini.batch_embed_contents,
        ("POST", ":countTokens"): gemini.count_content_tokens,
    },
}
MODEL_OPTIONAL: Final = frozenset(
    {"moderations", "files", "batches", "images/generations", "images/edits", "responses"}
)
"""Endpoints that answer a POST without a model (`responses`: a prompt template may name it)."""


class Invalid(msgspec.Struct, frozen=True):
    """A request the provider refuses: status and message."""

    status: int
    message: str


def find_dialect(route: Route, method: str) -> Dialect | None:
    """Return the function that answers, or None where the provider has no such endpoint. HEAD is answered like GET."""
    tables = NATIVE if route.native else COMPAT
    verb = "GET" if method == "HEAD" else method
    if route.item and verb != "GET":
        return None
    return tables[route.provider].get((verb, route.endpoint))


def check_request(route: Route, method: str, body: Mapping[str, Any], version: str) -> Invalid | None:
    """Return why the provider refuses a request it has an endpoint for, or None."""
    if route.provider == "azure" and route.legacy and "api-version" not in route.query:
        return Invalid(404, "Resource not found")
    if route.provider == "anthropic" and route.native and not version:
        return Invalid(400, "anthropic-version: header is required")
    if method != "POST" or route.endpoint in MODEL_OPTIONAL or requested_model(route, body):
        return None
    if route.provider == "anthropic":
        return Invalid(400, "model: Field required")
    return Invalid(400, "you must provide a model parameter")


def requested_model(route: Route, body: Mapping[str, Any]) -> str:
    """Return the model named in the path, else in the body, else an empty string."""
    model = route.model or body.get("model")
    if not isinstance(model, str):
        return ""
    # Lone surrogates may arrive in JSON but cannot leave in UTF-8.
    return model.encode("utf-8", "replace").decode()


def counts_for(route: Route, body: Mapping[str, Any], uploads: tuple[Upload, ...]) -> TokenCounts:
    """Return the counts of one request by the formula of its endpoint."""
    if route.endpoint in {"audio/transcriptions", "audio/translations"}:
        return count_audio(sum(len(upload.content) for upload in uploads))
    if route.endpoint.startswith("images/"):
        return count_images(body)
    return count_tokens(body, requested_model(route, body))
