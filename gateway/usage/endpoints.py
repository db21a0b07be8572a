"""Which dialect an endpoint's answers speak.

In: the request's method and path. Out: a dialect, or None where there is no usage to count: reading a response again,
counting tokens, lists, files, batches (their lines are billed apart).
"""

from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from gateway.usage.chat import Chat
from gateway.usage.dialect import Dialect
from gateway.usage.generate import Generate
from gateway.usage.media import Media
from gateway.usage.messages import Messages
from gateway.usage.reading import Call
from gateway.usage.responses import Responses

_PREFIXES: Final = frozenset({"v1", "v1beta", "v1alpha", "openai", "anthropic"})
"""What stands before the endpoint's own name, in any number: /v1, /openai/v1, /v1/v1, /v1beta/openai, ..."""

_CHAT: Final = Chat()
_IMAGES: Final = Media("image", marks_end=True)
_TRANSCRIPTIONS: Final = Media(marks_end=True)

_BY_NAME: Final[dict[tuple[str, ...], Dialect]] = {
    ("chat", "completions"): _CHAT,
    ("completions",): _CHAT,
    ("responses",): Responses(estimable=True),
    ("responses", "compact"): Responses(estimable=False),
    ("decisions",): Responses(estimable=False),
    ("messages",): Messages(),
    ("embeddings",): Media(),
    ("moderations",): Media(counted=False),
    ("images", "generations"): _IMAGES,
    ("images", "edits"): _IMAGES,
    ("images", "variations"): _IMAGES,
    ("audio", "transcriptions"): _TRANSCRIPTIONS,
    ("audio", "translations"): _TRANSCRIPTIONS,
    ("audio", "speech"): Media("audio", marks_end=True),
}

_GENERATE: Final = Generate()
_EMBED: Final = Generate(embeds=True)
_BY_VERB: Final[dict[str, Dialect]] = {
    "generateContent": _GENERATE,
    "streamGenerateContent": _GENERATE,
    "embedContent": _EMBED,
    "batchEmbedContents": _EMBED,
}
_LONGEST_KNOWN_PATH: Final = 256
"""Clients make paths; what is remembered of them stays small."""
_GEMINI_COLLECTIONS: Final = frozenset({"models", "tunedModels"})


def dialect_of(call: Call) -> Dialect | None:
    """Return the dialect of the answers to this request; None where nothing is counted."""
    if call.method.upper() != "POST":
        return None
    return _dialect_of_path(call.path) if len(call.path) <= _LONGEST_KNOWN_PATH else _read_path(call.path)


def _read_path(path: str) -> Dialect | None:
    segments = [segment for segment in path.partition("?")[0].split("/") if segment]
    while segments and (segments[0] in _PREFIXES or segments[0] == "deployments"):
        # A deployment's name is free text, it may even be "v1".
        del segments[: 2 if segments[0] == "deployments" else 1]
    found = _BY_NAME.get(tuple(segments))
    if found is None and len(segments) > 1 and segments[0] in _GEMINI_COLLECTIONS:
        _, _, verb = unquote(segments[-1]).rpartition(":")
        found = _BY_VERB.get(verb)
    return found


_dialect_of_path: Final = lru_cache(maxsize=1024)(_read_path)
