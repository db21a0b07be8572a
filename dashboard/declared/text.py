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
_LONG_NAME: Final = re.compile(rf"[^={{}},\[\]\n]{{{2 * _MOST_DOTS},}}")


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
        if form == "yaml":
            return yaml_text.parse(text)
        return _json(text) if form == "json" else _toml(text)
    except TextFault:
        raise
    except RecursionError:
        raise TextFault(f"no {form.upper()} that can be read: it is nested too deep") from None
    except ValueError as error:
        raise TextFault(f"no {form.upper()}: {error}") from None


def write_yaml(document: Any) -> str:
    """As YAML."""
    return yaml_text.write(document)


def write_json(document: Any) -> str:
    """As JSON on one line."""
    return json.dumps(document, ensure_ascii=False)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_int=whole, parse_float=decimal, parse_constant=decimal)


def _toml(text: str) -> Any:
    for found in _LONG_NAME.finditer(text):
        if found[0].count(".") > _MOST_DOTS:
            line = text.count("\n", 0, found.start()) + 1
            raise TextFault(f"line {line}: a name of more than {_MOST_DOTS} parts")
    return tomllib.loads(text, parse_float=decimal)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise TextFault(f"the key {key!r} stands twice in one object: remove one of them")
        made[key] = value
    return made
