"""Releases to come, made from this one: copies of the product with what a release would change.

In: a directory. Out: the root of a release whose processes run as those of this one do. Every change names the text
that it replaces, so one that fits no more fails at once.
"""

import shutil
from pathlib import Path

from tests.parts import ROOT

_PACKAGES = ("gateway", "ingestor", "shared")
_Change = tuple[str, str, str]
"""File, the text to be found once in it, and what stands there instead."""
_LAST_FIELD = '''    key: str = ""
    """Name of the key that it came with."""
'''
"""A field is added at the end of an event, never in between."""
_REGION: tuple[_Change, ...] = (
    ("shared/event.py", _LAST_FIELD, _LAST_FIELD + '    region: str = ""\n'),
    ("gateway/exchange.py", "            seq=seq,\n", '            seq=seq,\n            region="eu",\n'),
    ("ingestor/rows.py", '    "service_tier": _LOW,\n', '    "service_tier": _LOW,\n    "region": _LOW,\n'),
)
_MIGRATION = (
    "ALTER TABLE requests ADD COLUMN IF NOT EXISTS region LowCardinality(String) COMMENT 'Where it was served';\n"
)
_VERSION: tuple[_Change, ...] = (
    ("shared/stream.py", "FRAME_VERSION: Final = 1\n", "FRAME_VERSION: Final = 2\n"),
    ("shared/stream.py", "    if version != FRAME_VERSION:\n", "    if version not in {1, 2}:\n"),
)


def release_with_a_field(directory: Path) -> Path:
    """Its events and its table have a field more, as any release may add one."""
    root = _copy(directory, _REGION)
    number = len(list((root / "ingestor" / "migrations").glob("*.sql"))) + 1
    (root / "ingestor" / "migrations" / f"{number:04d}_region.sql").write_text(_MIGRATION, encoding="ascii")
    return root


def release_with_other_frames(directory: Path) -> Path:
    """It writes frames that this release cannot read, and reads those of both."""
    return _copy(directory, _VERSION)


def _copy(directory: Path, changes: tuple[_Change, ...]) -> Path:
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in changes:
        path = directory / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} is not what the changes of a release to come were made for"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return directory
