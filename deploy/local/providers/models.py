"""Model names: what a provider answers for a requested name, and what its list shows.

In: provider and requested name. Out: the name in the response. Never refuses a name: every model exists here, so that a
missing model is ordered through a behaviour and not through a magic name.
"""

import re
from typing import Final

DATED: Final = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "gpt-5.6": "gpt-5.6-sol",
    "o3": "o3-2025-04-16",
    "o4-mini": "o4-mini-2025-04-16",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "compound-beta": "groq/compound",
    "compound-beta-mini": "groq/compound-mini",
}
"""Aliases and the dated or renamed model that the response shows."""

LISTED: Final = {
    "openai": ("gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "gpt-5.4", "text-embedding-3-small", "whisper-1"),
    "anthropic": ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-haiku-4-5-20251001"),
    "groq": ("llama-3.3-70b-versatile", "openai/gpt-oss-120b", "moonshotai/kimi-k2-instruct-0905", "groq/compound"),
    "gemini": ("gemini-3.8-flash", "gemini-3.5-flash-lite", "gemini-2.5-flash", "gemini-embedding-2"),
    "azure": ("gpt-4o-2024-08-06", "gpt-5-mini-2025-08-07", "gpt-35-turbo"),
}
"""What GET /models shows per provider."""

AZURE_DEFAULT: Final = "gpt-5-mini-2025-08-07"


def answered_model(provider: str, requested: str) -> str:
    """Return the model name of the response; for Azure the model behind a deployment, guessed from its name."""
    if provider == "azure":
        return _behind_deployment(requested)
    name = requested.removeprefix("models/") if provider == "gemini" else requested
    return DATED.get(name, name)


def _behind_deployment(deployment: str) -> str:
    if re.match(r"(gpt-35|text-embedding|whisper|tts-|dall-e|gpt-image|.*-\d{4}-\d{2}-\d{2}$)", deployment):
        return deployment
    known = sorted((alias for alias in DATED if alias.startswith("gpt-") and alias in deployment), key=len)
    return DATED[known[-1]] if known else AZURE_DEFAULT
