"""The text of a file, YAML, JSON or TOML, to plain data, and plain data to text. Pure.

Out: maps with text keys, lists, text, bool, None, int, Decimal, and the dates of TOML. Raises TextFault and nothing
else. What makes a parser slow out of proportion to the length of the text is refused.
"""

import json
import re
import tomllib
from typing import Any, Final, Literal

from dashboard.declared import yaml_text
from dashboard.declared.values import TextFault, decimal, whole

Form = Literal["yaml", "json", "toml"]
MOST_BYTES: Final = 64 * 1024 * 1024
_ENDINGS: Final[dict[str, Form]] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
_MOST_DOTS: Final = 100
"""In one name of a TOML file: its parser's time grows with the square of their number."""
_MOST_QUOTED_DOTS: Final = 30
"""Of these, between quoted parts, which may hold what ends a name elsewhere."""
_NAME_ENDS: Final = re.compile(r"[={},\[\]]")
_QUOTED_DOT: Final = re.compile(r"[\"'][ \t]*\.")
_SPELT_HALF: Final = re.compile(r"\\u[dD]|\\U0000[dD]")
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a character: it can be spelt, but is no text and can be stored nowhere."""


def form_of(path: str, data: bytes) -> Form:
    """In what a file is written, by its ending; what has no name (`-`) is JSON if it begins with a brace.

    Raises TextFault.
    """
    if path == "-":
        return "json" if data.lstrip()[:1] == b"{" else "yaml"
    for ending, form in _ENDINGS.items():
        if path.lower().endswith(ending):
            return form
    raise TextFault("its name must end in .yaml, .yml, .json or .toml, which says how to read it")


def parse(data: bytes, form: Form) -> Any:
    """Plain data. Raises TextFault."""
    if len(data) > MOST_BYTES:
        raise TextFault(f"longer than {MOST_BYTES // 2**20} MiB, which is the most that is read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextFault(f"byte {error.start} is not UTF-8: save the file as UTF-8") from None
    try:
        document = {"yaml": yaml_text.parse, "json": _json, "toml": _toml}[form](text)
        if _SPELT_HALF.search(text):
            _refuse_halves(document)
    except TextFault:
        raise
    except RecursionError:
        raise TextFault(f"no {form.upper()} that can be read: it is nested too deep") from None
    except ValueError as error:
        raise TextFault(f"no {form.upper()}: {error}") from None
    return document


def write_yaml(document: Any) -> str:
    """As YAML."""
    return yaml_text.write(document)


def write_json(document: Any) -> str:
    """As JSON on one line."""
    return json.dumps(document, ensure_ascii=False)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_int=whole, parse_float=decimal, parse_constant=decimal)


def _toml(text: str) -> Any:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > _MOST_QUOTED_DOTS and not line.lstrip().startswith("#"):
            most = max(name.count(".") for name in _NAME_ENDS.split(line))
            if most > _MOST_DOTS or len(_QUOTED_DOT.findall(line)) > _MOST_QUOTED_DOTS:
                raise TextFault(f"line {number}: too many dots: a name has a few parts")
    return tomllib.loads(text, parse_float=decimal)


def _refuse_halves(document: Any) -> None:
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += [*value, *value.values()]
        elif isinstance(value, list):
            rest += value
        elif isinstance(value, str) and (found := _HALF.search(value)):
            raise TextFault(f"\\u{ord(found[0]):04x} is half of a character: write the whole one")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise TextFault(f"the key {key!r} stands twice in one object: remove one of them")
        made[key] = value
    return made
