"""What a request asks for: parameters and headers to one frozen Ask. Pure.

In: the query string, headers, the method. Out: an Ask, or a DoorFault. Settings are not judged here: the engine does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deploy.local.clickhouse.codings import choose_coding
from deploy.local.clickhouse.faults import DoorFault, bad_argument, not_implemented

MAX_SESSION_S: Final = 3600
"""The real server's default bound."""
_RESERVED: Final = frozenset(
    {
        *("query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check"),
        *("user", "password", "quota_key", "client_protocol_version", "buffer_size", "wait_end_of_query"),
        *("compress", "decompress", "role", "stacktrace", "close_session", "enable_http_compression"),
        *("http_zlib_compression_level", "send_progress_in_http_headers", "http_headers_progress_interval_ms"),
    }
)
"""Parameters of the HTTP interface itself; every other one is a setting."""
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,200}", re.ASCII)


@dataclass(frozen=True)
class Ask:
    """One request, without its body."""

    query: bytes
    database: str
    default_format: str
    query_id: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    may_write: bool
    answer_coding: str
    wait_end: bool
    session_id: str
    session_timeout_s: int
    session_check: bool
    close_session: bool


def read_ask(method: str, given: Mapping[str, str], headers: Mapping[str, str]) -> Ask:
    """Sort the parameters. Raises 48 for what the door does not speak, 115 for an impossible setting name."""
    for name in ("compress", "decompress"):
        if _is_on(given.get(name, "")):
            raise not_implemented(f"{name}=1 (native blocks) is not supported; use Content-Encoding / Accept-Encoding.")
    if given.get("role"):
        raise DoorFault(511, "UNKNOWN_ROLE", "There are no roles in the embedded engine.")
    settings = {}
    for name, value in given.items():
        if name != "query" and not value.isascii():
            _check_text(name, value)
        if name in _RESERVED or name.startswith("param_"):
            continue
        if not _SETTING_NAME.fullmatch(name):
            raise DoorFault(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}.")
        settings[name] = value
    packs = _is_on(given.get("enable_http_compression", ""))
    return Ask(
        query=given.get("query", "").encode("utf-8", "surrogateescape"),
        database=given.get("database") or headers.get("X-ClickHouse-Database", ""),
        default_format=given.get("default_format") or headers.get("X-ClickHouse-Format", ""),
        query_id=given.get("query_id", ""),
        settings=settings,
        parameters={name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")},
        may_write=method == "POST",
        answer_coding=choose_coding(headers.get("Accept-Encoding", "")) if packs else "",
        wait_end=_is_on(given.get("wait_end_of_query", "")),
        session_id=given.get("session_id", ""),
        session_timeout_s=_timeout_s(given.get("session_timeout", "60")),
        session_check=_is_on(given.get("session_check", "")),
        close_session=_is_on(given.get("close_session", "")),
    )


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad_argument(f"The parameter {name[:100]!r} is not UTF-8 text.") from None


def _is_on(value: str) -> bool:
    return value.lower() not in {"", "0", "false"}


def _timeout_s(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or int(value) > MAX_SESSION_S:
        raise DoorFault(374, "INVALID_SESSION_TIMEOUT", f"session_timeout must be 0 to {MAX_SESSION_S} seconds.")
    return int(value)
