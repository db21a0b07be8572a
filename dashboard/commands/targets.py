"""Targets of rules as people type and read them: `PROVIDER/MODEL`, and either alone. Pure.

Names of models may have slashes of their own, and may begin like a provider: what stands before the first slash is a
provider, or nothing, which keeps the one that the request is for. Raises RegistryFault naming the option and the fix.
"""

from typing import cast

from dashboard.checks import PROVIDERS
from shared.organisation import Provider, Target
from shared.registry import RegistryFault


def target(option: str, text: str) -> Target:
    """`groq/llama-3.1-8b-instant`, `gpt-4o-mini`, `groq/` with whatever model, `/openai/gpt-oss-120b` anywhere."""
    first, slash, rest = text.partition("/")
    if text in {"", "/"}:
        raise RegistryFault(f"{option} {text!r}: give a model, like gpt-4o-mini, or PROVIDER/MODEL")
    if text in PROVIDERS:
        raise RegistryFault(f"{option} {text!r}: give {text}/ to keep the model, or /{text} if a model is called so")
    if not slash:
        return Target(model=text)
    if not first:
        return Target(model=rest)
    if first not in PROVIDERS:
        raise RegistryFault(
            f"{option} {text!r}: {first!r} is no provider; give PROVIDER/MODEL with one of {', '.join(PROVIDERS)}, or "
            f"/{text} if that is the name of a model, which then goes to the provider that the request was for"
        )
    return Target(provider=cast("Provider", first), model=rest or None)


def shown_target(one: Target) -> str:
    """What `target` reads as the same."""
    if one.provider:
        return f"{one.provider}/{one.model or ''}"
    if one.model is None:
        return "where it was going"
    return f"/{one.model}" if "/" in one.model or one.model in PROVIDERS else one.model
