"""The providers, where they live, and which one a model name belongs to.

In: `models.toml` (read once, when a Catalogue is built) and a model name. Out: a provider's name, or None.
Remembers answers for a bounded number of names of bounded length: clients choose them.
"""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

import msgspec

PROVIDERS: Final = ("openai", "anthropic", "groq", "gemini", "azure")
"""Every provider, as in `X-Lectr-Provider`."""

DEFAULT_BASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai": "https://api.openai.com/v1",
        "anthropic": "https://api.anthropic.com/v1",
        "groq": "https://api.groq.com/openai/v1",
        "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    }
)
"""Provider -> what replaces `/v1` of the gateway. Azure has none: each organisation has its own endpoint."""

_LONGEST_NAME: Final = 128
"""Characters of a model name that are looked at; no known name or prefix is near it."""


class CatalogueFault(ValueError):
    """The model file contradicts itself; the text names the entry."""


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model names of one provider, lower case."""

    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()


class Catalogue:
    """Answers which provider serves a model. Built once; asking it costs a handful of dictionary look-ups."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        """Raises CatalogueFault when an entry is claimed twice, is not lower case, or names no known provider."""
        self._exact: dict[str, str] = {}
        self._prefixes: dict[str, str] = {}
        self._contains: dict[str, str] = {}
        for provider, family in families.items():
            if provider not in PROVIDERS:
                raise CatalogueFault(f"[{provider}]: no such provider; known are {', '.join(PROVIDERS)}")
            for kind, names, table in (
                ("exact", family.exact, self._exact),
                ("prefixes", family.prefixes, self._prefixes),
                ("contains", family.contains, self._contains),
            ):
                for name in names:
                    if not name or name != name.lower() or len(name) > _LONGEST_NAME:
                        raise CatalogueFault(f"[{provider}] {kind}: {name!r} is empty, too long or not lower case")
                    if name in table:
                        raise CatalogueFault(f"[{provider}] {kind}: {name!r} already belongs to {table[name]}")
                    table[name] = provider
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)
        # Bounded, names being cut to _LONGEST_NAME: clients make them up.
        self._provider_of_name = lru_cache(maxsize=4096)(self._find)

    @classmethod
    def load(cls) -> "Catalogue":
        """The catalogue that ships with this release."""
        text = resources.files("gateway").joinpath("models.toml").read_text(encoding="utf-8")
        return cls(msgspec.convert(tomllib.loads(text), dict[str, Family]))

    def provider_of_model(self, model: str) -> str | None:
        """The provider that serves this model name; None for a name that no entry covers, Azure's among them."""
        return self._provider_of_name(model[:_LONGEST_NAME])

    def _find(self, model: str) -> str | None:
        name = model.strip().lower()
        provider = self._exact.get(name)
        if provider is not None:
            return provider
        for length in self._lengths:
            provider = self._prefixes.get(name[:length])
            if provider is not None:
                return provider
        return next((provider for word, provider in self._contains.items() if word in name), None)
