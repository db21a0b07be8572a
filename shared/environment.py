"""Environment variables to settings, the one place that reads them; and the type that keeps secrets out of print.

In: `LECTR_…` variables. Out: one frozen msgspec Struct per process, whose field `redis_url` is `LECTR_REDIS_URL`.
Unknown `LECTR_` names and bad values are refused with the variable's name and the fix.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NoReturn, TypeVar, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

import msgspec

PREFIX: Final = "LECTR_"
LogLevel = Literal["debug", "info", "warning", "error"]
"""Here and not with the logs: a command that prints a line should not have to load what writes them."""
S = TypeVar("S", bound=msgspec.Struct)
_HOST: Final = re.compile(r"(\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT: Final = 65_535
_LISTEN: Final = re.compile(r"(\[(?P<ipv6>[^\[\]\s]*:[^\[\]\s]*)\]|(?P<host>[^\[\]:\s]+)):(?P<port>[0-9]{1,5})")

KNOWN_NAMES: Final = frozenset(
    {
        "LECTR_ADMIN_REQUESTS_PER_S",
        "LECTR_ADMIN_SECRET",
        "LECTR_BATCH_MAX_AGE_MS",
        "LECTR_BATCH_MAX_EVENTS",
        "LECTR_CLICKHOUSE_CLUSTER",
        "LECTR_CLICKHOUSE_URL",
        "LECTR_CLIENT_TIMEOUT_S",
        "LECTR_CONNECTION_LIFETIME_S",
        "LECTR_CONNECT_TIMEOUT_S",
        "LECTR_DNS_REFRESH_S",
        "LECTR_DRAIN_TIMEOUT_S",
        "LECTR_FIRST_BYTE_TIMEOUT_S",
        "LECTR_FLUSH_INTERVAL_MS",
        "LECTR_IDLE_CONNECTION_S",
        "LECTR_IDLE_TIMEOUT_S",
        "LECTR_INSTANCE",
        "LECTR_JOURNAL_BYTES",
        "LECTR_JOURNAL_SEGMENT_BYTES",
        "LECTR_JOURNAL_SYNC_MS",
        "LECTR_LEASE_MS",
        "LECTR_LISTEN",
        "LECTR_LOG_LEVEL",
        "LECTR_MAX_BODY_BYTES",
        "LECTR_MAX_FILE_BODY_BYTES",
        "LECTR_OPS_LISTEN",
        "LECTR_REDIS_URL",
        "LECTR_REGISTRY_FILE",
        "LECTR_REGISTRY_POLL_S",
        "LECTR_STATE_DIR",
        "LECTR_STREAM_PARTITIONS",
        "LECTR_UNATTENDED_ANSWERS",
        "LECTR_UNATTENDED_TIMEOUT_S",
        "LECTR_UPSTREAM_ANTHROPIC",
        "LECTR_UPSTREAM_GEMINI",
        "LECTR_UPSTREAM_GROQ",
        "LECTR_UPSTREAM_OPENAI",
        "LECTR_UPSTREAM_CA_FILE",
        "LECTR_WORKERS",
    }
)
"""Every variable of every process: one shell may hold the settings of all. A test compares it with the Structs."""


class SettingsFault(ValueError):
    """A setting that cannot be used. The text names the variable and the fix, and never shows a secret."""


class Secret:
    """A value that prints stars wherever it ends up: repr, str, format, JSON, logs. `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class SecretUrl(Secret):
    """A URL that may hold a password; prints with user, password and query starred.

    One that is malformed prints nothing but stars: nobody can tell which of its parts is the password.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        try:
            parts = urlsplit(self._value)
            user, at, host = parts.netloc.rpartition("@")
            if "," in host:
                parse_hosts(host)
            else:
                _ = parts.port
        except ValueError:
            return "***"
        # A second @, raw or encoded, is the mark of a password whose own / ? # or @ was not encoded.
        elsewhere = f"{user} {host} {parts.path} {parts.query} {parts.fragment}".lower()
        if not (parts.netloc or parts.scheme == "unix") or "@" in elsewhere or "%40" in f"{host} {parts.path}".lower():
            return "***"
        return urlunsplit(
            (parts.scheme, f"***{at}{host}" if at else host, parts.path, "***" if parts.query else "", "")
        )

    __str__ = __repr__


def _decode_hook(kind: type, value: Any) -> Any:
    if issubclass(kind, Secret):
        return kind(value)
    raise NotImplementedError(f"no setting of type {kind}")


def variable_of(field: str) -> str:
    """`redis_url` -> `LECTR_REDIS_URL`."""
    return PREFIX + field.upper()


def process_environment() -> dict[str, str]:
    """A copy of this process' environment, for handing on to child processes."""
    return dict(os.environ)  # noqa: TID251 - this is the one place


def read_settings(kind: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Build a process' settings. Raises SettingsFault naming the variable.

    An empty variable counts as not set, as compose files and manifests often leave one empty.
    """
    environ = process_environment() if environ is None else environ
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value != ""}
    check_names(given)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        name = variable_of(field.name)
        if name not in given:
            if field.required:
                raise SettingsFault(f"{name}: not set; this process needs it")
            continue
        try:
            values[field.name] = msgspec.convert(given[name], field.type, strict=False, dec_hook=_decode_hook)
        except msgspec.ValidationError as error:
            secret = isinstance(field.type, type) and issubclass(field.type, Secret)
            shown = "***" if secret else repr(given[name])
            reason = re.sub(r" - at `\$.*`$", "", str(error))
            if get_origin(field.type) is Literal:
                reason = f"expected one of {', '.join(get_args(field.type))}"
            raise SettingsFault(f"{name}={shown}: {reason}") from None
    return kind(**values)


def check_names(environ: Mapping[str, str]) -> None:
    """Raise SettingsFault for a `LECTR_` name that is no setting of any process."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in KNOWN_NAMES:
            raise SettingsFault(f"{name}: no such setting; known are {', '.join(sorted(KNOWN_NAMES))}")


def show_settings(settings: msgspec.Struct) -> str:
    """`NAME=value` lines of the effective settings, secrets starred."""
    lines = (f"{variable_of(f.name)}={getattr(settings, f.name)}" for f in msgspec.structs.fields(settings))
    return "\n".join(sorted(lines))


def parse_listen(value: str, variable: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPv6]:PORT` to its parts; raises SettingsFault."""
    found = _LISTEN.fullmatch(value)
    if found is None or int(found["port"]) > _HIGHEST_PORT:
        raise SettingsFault(f"{variable}={value!r}: expected HOST:PORT, like 127.0.0.1:8080 or [::1]:8080")
    return found["ipv6"] or found["host"], int(found["port"])


def parse_hosts(value: str) -> tuple[tuple[str, int], ...]:
    """`HOST:PORT,HOST2:PORT2` to its parts. Raises ValueError."""
    hosts = []
    for part in value.split(","):
        found = _HOST.fullmatch(part)
        if found is None or not 0 < int(found["port"]) <= _HIGHEST_PORT:
            raise ValueError("not HOST:PORT")
        hosts.append((found["ipv6"] or found["host"], int(found["port"])))
    return tuple(hosts)


def check_url(value: str, variable: str, schemes: frozenset[str]) -> None:
    """Raise SettingsFault unless the value is a URL of one of the schemes with a host. The value is never shown."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and (bool(parts.hostname) or parts.scheme == "unix")
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsFault(f"{variable}={SecretUrl(value)}: expected {' or '.join(sorted(schemes))}://HOST…")
