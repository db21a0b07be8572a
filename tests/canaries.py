"""Values that must never be found anywhere: each test that sends a secret or content takes it from here."""

PROVIDER_KEY = "sk-canary-7f3a9e51c2"
"""Prefix of every provider key in tests."""
PROMPT = "canary-prompt-velvet-harbour"
"""Part of every prompt in tests."""
QUERY_SECRET = "canary-query-key-55aa"


def provider_key(name: str) -> str:
    """A provider key that says which test used it."""
    return f"{PROVIDER_KEY}-{name}"
