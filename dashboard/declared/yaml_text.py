"""YAML to plain data by the core rules of YAML 1.2, and plain data to YAML that every reader takes for the same. Pure.

Built from the parser's events: nothing in the text can make an object, an alias costs no more than what it stands for,
and nothing is nested deeper than a declaration needs. Raises TextFault and nothing else.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from dashboard.declared.values import TextFault, decimal, whole

_DEEPEST: Final = 50
"""A declaration is 8 deep; the parser's time for each bracket grows with the depth."""
_MOST_ALIASED: Final = 100_000
"""Values that stand in the text by alias alone: nine lists of nine aliases, each of the list before, are a billion."""

# PyYAML's own rules are those of YAML 1.1, where 010 is 8, 1:30 is 90, no is false and 2024-10-21 is a date.
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_INT: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# The C parser is in every wheel; typed as if it were always there.
_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def parse(text: str) -> Any:
    """Plain data; None of an empty text. Raises TextFault."""
    try:
        return _Builder().build(yaml.parse(text, Loader=_PARSER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # What is no text has no line: the reader counts characters.
        where = f"line {mark.line + 1}: " if mark is not None else f"character {getattr(error, 'position', 0)}: "
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise TextFault(f"no YAML: {where}{what}") from None


def write(document: Any) -> str:
    """Text."""
    written: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**16)
    return written


class _Nest:
    """A map or list whose end was not read yet."""

    def __init__(self, made: dict[str, Any] | list[Any], anchor: str | None, before: int) -> None:
        self.made = made
        self.anchor = anchor
        self.before = before
        """How many values were read before it began."""
        self.key: str | None = None
        """Of a map: the key whose value comes next."""

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.made, dict)


class _Builder:
    """Without recursion."""

    def __init__(self) -> None:
        self._nests: list[_Nest] = []
        self._anchored: dict[str, tuple[Any, int]] = {}
        """By anchor: what it stands for, and of how many values that is made."""
        self._values = 0
        self._aliased = 0
        self._root: Any = None
        self._line = 0

    def build(self, events: Iterable[Any]) -> Any:
        """Raises TextFault, YAMLError."""
        documents = 0
        for event in events:
            self._line = event.start_mark.line + 1
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._begin(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._end()
                case yaml.AliasEvent():
                    self._alias(str(event.anchor))
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise self._fault("a second document begins: put all into one")
                case _:
                    pass
        return self._root

    def _scalar(self, event: Any) -> None:
        self._refuse_tag(event)
        plain = event.implicit[0]
        if self._nests and self._nests[-1].wants_key:
            self._key(self._nests[-1], event.value, plain=plain)
            return
        value = self._resolved(event.value) if plain else event.value
        if event.anchor:
            self._anchored[event.anchor] = (value, 1)
        self._add(value, 1)

    def _key(self, nest: _Nest, key: str, *, plain: bool) -> None:
        # Keys are names, whatever they look like: an organisation may be called 123 or true.
        if plain and key == "<<":
            raise self._fault("maps are not merged with <<: write the fields out")
        if key in nest.made:
            raise self._fault(f"the key {key!r} stands twice in one map: remove one of them")
        nest.key = key

    def _resolved(self, text: str) -> Any:
        if text in _NULL:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        try:
            if _INT.fullmatch(text):
                return whole(text)
            return decimal(text) if _FLOAT.fullmatch(text) else text
        except TextFault as fault:
            raise self._fault(str(fault)) from None

    def _begin(self, event: Any) -> None:
        self._refuse_tag(event)
        if len(self._nests) >= _DEEPEST:
            raise self._fault(f"nested more than {_DEEPEST} deep")
        if self._nests and self._nests[-1].wants_key:
            raise self._fault("a key must be text")
        made: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._nests.append(_Nest(made, event.anchor, self._values))

    def _end(self) -> None:
        nest = self._nests.pop()
        if nest.anchor:
            self._anchored[nest.anchor] = (nest.made, self._values - nest.before + 1)
        self._add(nest.made, 1)

    def _alias(self, anchor: str) -> None:
        if self._nests and self._nests[-1].wants_key:
            raise self._fault("a key must be text, not an alias")
        if anchor not in self._anchored:
            raise self._fault(f"the alias *{anchor} names nothing that stands before it: write its value out")
        value, size = self._anchored[anchor]
        self._aliased += size
        if self._aliased > _MOST_ALIASED:
            raise self._fault(f"aliases stand for more than {_MOST_ALIASED} values: write them out")
        self._add(value, size)

    def _add(self, value: Any, size: int) -> None:
        self._values += size
        if not self._nests:
            self._root = value
            return
        nest = self._nests[-1]
        if isinstance(nest.made, list):
            nest.made.append(value)
        else:
            nest.made[str(nest.key)] = value
            nest.key = None

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            raise self._fault(f"the tag {event.tag} means nothing here: leave it out, and write text in quotes")

    def _fault(self, what: str) -> TextFault:
        return TextFault(f"line {self._line}: {what}")


class _Dumper(_DUMPER):  # type: ignore[misc] # which of the two it is is known at run time
    """Without aliases. Text that either version of YAML takes for something else is quoted."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Nothing stands by alias."""
        return True


for _tag, _pattern in (("int", _INT), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789")
    )
