"""Settings from the environment: what is refused and how it is said, and that no secret is ever printed."""

import json
import pickle
import subprocess
import traceback
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dashboard.settings
import gateway.settings
import ingestor.settings
from shared.environment import (
    KNOWN_NAMES,
    Secret,
    SecretUrl,
    SettingsFault,
    check_url,
    parse_listen,
    read_settings,
    show_settings,
    variable_of,
)
from shared.redis_client import open_redis
from shared.redis_url import redis_address
from tests.parts import ROOT, clean_environ, python

PASSWORD = "hunter2-velvet"
REDIS = frozenset({"redis", "rediss", "unix"})
PROCESSES = {"gateway": gateway.settings, "ingestor": ingestor.settings, "dashboard": dashboard.settings}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    listen: str = "here"
    instance: str
    lease_ms: Annotated[int, msgspec.Meta(ge=10, le=100)] = 50
    connect_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.5
    log_level: Literal["debug", "info"] = "info"
    state_dir: Secret = Secret("")
    redis_url: SecretUrl = SecretUrl("redis://127.0.0.1/0")


def read(**given_values: str) -> Sample:
    return read_settings(Sample, {"LECTR_INSTANCE": "one", **given_values})


def run(process: str, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A process with these settings, which it is expected to leave by itself."""
    return subprocess.run(
        python(process, *arguments),
        cwd=ROOT,
        env=clean_environ(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_known_names_are_the_settings_of_the_processes() -> None:
    """Every setting of every process is a known name, and every known name is a setting of some process."""
    names = {variable_of(f.name) for room in PROCESSES.values() for f in msgspec.structs.fields(room.Settings)}
    assert names == KNOWN_NAMES


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_runs_without_settings(process: str) -> None:
    """The defaults are a usable configuration: no setting of a process is required."""
    assert not [f.name for f in msgspec.structs.fields(PROCESSES[process].Settings) if f.required]


def test_values_become_their_types() -> None:
    """Text becomes numbers, secrets and URLs; what is not given keeps its default."""
    settings = read(LECTR_LEASE_MS="77", LECTR_CONNECT_TIMEOUT_S="2.5", LECTR_LOG_LEVEL="debug", LECTR_STATE_DIR="s")
    assert (settings.lease_ms, settings.connect_timeout_s, settings.log_level) == (77, 2.5, "debug")
    assert settings.state_dir == Secret("s")
    assert settings.listen == "here"


def test_empty_is_not_set() -> None:
    """An empty variable counts as not set: the default applies, and a required one is asked for by name."""
    assert read(LECTR_LISTEN="", LECTR_LEASE_MS="") == read()
    with pytest.raises(SettingsFault, match=r"^LECTR_INSTANCE: not set"):
        read_settings(Sample, {"LECTR_INSTANCE": ""})


def test_other_variables_are_none_of_our_business() -> None:
    """A variable without the prefix is ignored, however close its name."""
    assert read(LEASE_MS="nonsense", XLECTR_LEASE_MS="nonsense", lectr_lease_ms="nonsense") == read()


def test_a_setting_of_another_process_is_ignored() -> None:
    """One shell may hold the settings of all processes: a known name that this one does not use is no error."""
    assert read(LECTR_CLICKHOUSE_URL="http://elsewhere/") == read()


@pytest.mark.parametrize("name", ["LECTR_REDIS_URI", "LECTR_", "LECTR_redis_url", "LECTR_CONNECT_TIMEOUT_MS"])
def test_unknown_name_is_refused(name: str) -> None:
    """A misspelt variable is refused by name, with the known ones beside it and without its value."""
    with pytest.raises(SettingsFault, match=f"^{name}: no such setting; known are .*LECTR_REDIS_URL") as refused:
        read(**{name: PASSWORD})
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("LECTR_LEASE_MS", bad) for bad in ("9", "101", "-20", "1e9", "ten", "20ms", "20.5", "0x20", " 20", "nan")),
        *(("LECTR_CONNECT_TIMEOUT_S", bad) for bad in ("0", "-1", "10.01", "nan", "inf", "-inf", "1e400", "1,5", "5s")),
        *(("LECTR_LOG_LEVEL", bad) for bad in ("INFO", "verbose", "0")),
    ],
)
def test_bad_value_is_refused(name: str, value: str) -> None:
    """A value of the wrong type or out of range is refused with the variable, the value, and what was expected."""
    with pytest.raises(SettingsFault) as refused:
        read(**{name: value})
    assert str(refused.value).startswith(f"{name}={value!r}: ")
    assert len(str(refused.value)) > len(f"{name}={value!r}: ")
    assert "\n" not in str(refused.value)


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_read_or_refused(value: str) -> None:
    """No text makes reading fail otherwise than with SettingsFault, in one line."""
    for name in ("LECTR_LEASE_MS", "LECTR_CONNECT_TIMEOUT_S", "LECTR_LOG_LEVEL"):
        try:
            settings = read(**{name: value})
        except SettingsFault as fault:
            assert len(str(fault).splitlines()) == 1  # noqa: PT017 - both outcomes are right
        else:
            assert 10 <= settings.lease_ms <= 100
            assert 0 < settings.connect_timeout_s <= 10


PRINTS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "f-string": lambda value: f"{value}",
    "padded": lambda value: f"{value:>30}",
    "percent s": lambda value: "%s" % (value,),  # noqa: UP031 - one of the ways a value gets into a text
    "percent r": lambda value: "%r" % (value,),  # noqa: UP031 - as above
    "format": "{0} {0!r} {0!s}".format,
    "in a list": lambda value: str([value, {"k": value}]),
    "in a struct": lambda value: repr(read_settings(Sample, {"LECTR_INSTANCE": "one"}).__class__(
        instance="one", state_dir=value, redis_url=value
    )),
    "json fallback": lambda value: json.dumps({"k": value}, default=str),
    "msgspec fallback": lambda value: msgspec.json.encode({"k": value}, enc_hook=repr).decode(),
    "in an exception": lambda value: "".join(traceback.format_exception_only(ValueError(value))),
}  # fmt: skip


@pytest.mark.parametrize("way", PRINTS)
@pytest.mark.parametrize("secret", [Secret(PASSWORD), SecretUrl(f"redis://user:{PASSWORD}@host:6379/0")])
def test_a_secret_prints_stars(way: str, secret: Secret) -> None:
    """However a secret gets into a text, the text has stars in its place."""
    printed = PRINTS[way](secret)
    assert PASSWORD not in printed
    assert "***" in printed


def test_a_secret_comes_out_only_on_request() -> None:
    """reveal() gives the value; equality and hash follow it; there is no attribute dictionary to dump."""
    secret = Secret(PASSWORD)
    assert secret.reveal() == PASSWORD
    assert secret == Secret(PASSWORD) != Secret("other")
    assert secret != PASSWORD
    assert hash(secret) == hash(Secret(PASSWORD))
    with pytest.raises(TypeError):
        vars(secret)


@pytest.mark.parametrize("dump", [pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode])
def test_a_secret_is_not_serialised(dump: Callable[[Any], Any]) -> None:
    """Serialisers refuse a secret instead of writing it out."""
    for secret in (Secret(PASSWORD), SecretUrl(f"redis://:{PASSWORD}@host/0")):
        with pytest.raises(TypeError) as refused:
            dump(secret)
        assert PASSWORD not in str(refused.value)


def test_a_url_shows_where_it_points() -> None:
    """A URL prints its host, port and path, so that a person sees what is wrong, and stars for the rest."""
    shown = f"{SecretUrl(f'redis://user:{PASSWORD}@[::1]:6379/2?client_name={PASSWORD}#{PASSWORD}')}"
    assert shown == "redis://***@[::1]:6379/2?***"
    assert str(SecretUrl("redis://host:6379/0")) == "redis://host:6379/0"
    several = f"{SecretUrl(f'redis+sentinel://u:{PASSWORD}@h1:1,h2:2/events/0?sentinel_password={PASSWORD}')}"
    assert several == "redis+sentinel://***@h1:1,h2:2/events/0?***"
    assert str(SecretUrl(f"unix://u:{PASSWORD}@/run/redis.sock?db=1")) == "unix://***@/run/redis.sock?***"


PERCENT_ENCODED = "".join(f"%{ord(letter):02x}" for letter in PASSWORD)
URLS_WITH_PASSWORD = [
    "redis://user:{}@host:6379/0",
    "redis://:{}@host",
    "redis://{}@host",
    "redis://:{}@",
    "redis://:{}@:6379",
    "redis://host/0?password={}",
    "redis://host/0#{}",
    # malformed: a person forgot the scheme, a slash, a colon, or to encode the password
    "user:{}@host:6379",
    "{}@host:6379",
    "//:{}@host",
    "redis:/:{}@host/0",
    "redis//:{}@host",
    "redis:{}@host",
    "redis://host:{}",
    "redis://user:{}%40host:6379",
    "redis://{}%40host:6379/0",
    "redis://:{}/x@host:6379/0",
    "redis://:x/{}@host:6379/0",
    "redis://:x?{}@host:6379/0",
    "redis://:x#{}@host:6379/0",
    "redis://:1/{}@host:6379/0",
    "redis://:1?{}@host:6379/0",
    "redis://:1#{}@host:6379/0",
    "redis://:{}#x@host:6379/0",
    "redis://a@{}@host:6379/0",
    "redis://:{}@host:port/0",
    "redis://:{}@host:99999/0",
    "redis://:{}@[::1/0",
    "redis://:{}@[nonsense]/0",
    "http://:{}@host/",
    "postgres://user:{}@host:5432/db",
    "redis+cluster://u:{}@h1:1,h2:2",
    "redis+cluster://h1:6379,h2:6379,password={}",
    "redis+cluster://h1:6379,{}",
    "redis+cluster://h1:6379,{}@h2:6379",
    "redis+cluster://u:{},x@h1:1,h2:2",
    "redis+cluster://u:{}/x@h1:1,h2:2",
    "redis+cluster://:{}@h1:1,h2:2/1",
    "redis+cluster://:{}@h1,h2",
    "redis+sentinel://:{}@h:26379/svc/0?sentinel_password={}",
    "redis+sentinel://h1:1,h2:2/svc?sentinel_password={}",
    "redis+sentinel://u:{}:26379,h2:26379/svc",
    "rediss+sentinel://u:{}@h1:1,h2:2",
    " redis://:{}@host",
    "redis://:{}@host /0\n",
]


@pytest.mark.parametrize("pattern", URLS_WITH_PASSWORD)
@pytest.mark.parametrize("password", [PASSWORD, PERCENT_ENCODED])
def test_a_password_in_a_url_is_never_shown(pattern: str, password: str) -> None:
    """Whether a URL is good, malformed or of the wrong kind: neither its print nor its refusal has the password."""
    url = pattern.replace("{}", password)
    texts = [repr(SecretUrl(url)), str(SecretUrl(url)), f"{SecretUrl(url)}", show_settings(read(LECTR_REDIS_URL=url))]
    checks: list[Callable[[], object]] = [
        lambda: check_url(url, "LECTR_REDIS_URL", REDIS),
        lambda: check_url(url, "LECTR_REDIS_URL", frozenset({"https"})),
        lambda: redis_address(SecretUrl(url)),
        lambda: open_redis(SecretUrl(url), connect_timeout_s=1, reply_timeout_s=1),
    ]
    for check in checks:
        try:
            check()
        except SettingsFault as fault:
            texts.append(str(fault))
    assert len(texts) > 4
    assert not [text for text in texts if password in text]


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])), st.text("/?#@:%[]. a1"))
def test_no_password_slips_out_of_any_url(before: str, noise: str) -> None:
    """Whatever stands around `user:password@`, in right or wrong places, the print has no password."""
    for url in (f"redis://{before}:{PASSWORD}{noise}@host/0", f"{noise}u:{PASSWORD}@{before}", f"{before}{PASSWORD}@h"):
        assert PASSWORD not in repr(SecretUrl(url))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("gateway.lectr.svc:80", ("gateway.lectr.svc", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("[::]:0", ("::", 0)),
        ("[fe80::1%eth0]:9090", ("fe80::1%eth0", 9090)),
    ],
)
def test_listen_addresses(value: str, expected: tuple[str, int]) -> None:
    """HOST:PORT and [IPv6]:PORT are read; port 0 asks for a free one."""
    assert parse_listen(value, "LECTR_LISTEN") == expected


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "8080",
            ":8080",
            "host",
            "host:",
            "host:http",
            "host:-1",
            "host:65536",
            "host:80 ",
            "ho st:80",
            "host:\uff18",
        ),
        *("::1:8080", "::1", "[::1]", "[::1]:", "[::1:8080", "::1]:8080", "[]:80", "[host]:80", "http://host:80"),
    ],
)
def test_bad_listen_addresses(value: str) -> None:
    """Anything else, a bare IPv6 address too, is refused with the variable, the value and both forms."""
    with pytest.raises(SettingsFault, match="expected HOST:PORT, like") as refused:
        parse_listen(value, "LECTR_OPS_LISTEN")
    assert str(refused.value).startswith(f"LECTR_OPS_LISTEN={value!r}: ")


@pytest.mark.parametrize(
    "value",
    ["redis://h", "redis://h:6379/0", "rediss://u:p@h:6380/1?x=y", "redis://[::1]:6379", "unix:///run/redis.sock"],
)
def test_good_urls(value: str) -> None:
    """Every form that Redis clients take is accepted."""
    check_url(value, "LECTR_REDIS_URL", REDIS)


@pytest.mark.parametrize(
    "value", ["", "h:6379", "redis:h", "redis:///0", "redis://", "http://h", "redis://h:x", "redis://h:0", "redis://["]
)
def test_bad_urls(value: str) -> None:
    """Without a known scheme, a host, or with an impossible port: refused with the variable and the forms."""
    with pytest.raises(SettingsFault, match=r"^LECTR_REDIS_URL=.*: expected redis or rediss or unix://HOST"):
        check_url(value, "LECTR_REDIS_URL", REDIS)


@pytest.mark.parametrize("process", ["gateway", "ingestor"])
def test_print_settings(process: str) -> None:
    """--print-settings lists every setting with its effective value, secrets starred, and exits with 0."""
    urls = {
        "LECTR_REDIS_URL": f"redis://u:{PASSWORD}@redis.example:6379/0",
        "LECTR_CLICKHOUSE_URL": f"http://u:{PERCENT_ENCODED}@clickhouse.example:8123/lectr",
    }
    done = run(process, "--print-settings", LECTR_OPS_LISTEN="127.0.0.1:1234", **urls)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert set(lines) == {variable_of(f.name) for f in msgspec.structs.fields(PROCESSES[process].Settings)}
    assert list(lines) == sorted(lines)
    assert lines["LECTR_OPS_LISTEN"] == "127.0.0.1:1234"
    assert lines["LECTR_REDIS_URL"] == "redis://***@redis.example:6379/0"
    assert lines.get("LECTR_CLICKHOUSE_URL", "***@clickhouse.example").count("***@clickhouse.example") == 1
    assert lines["LECTR_INSTANCE"] != ""
    for secret in (PASSWORD, PERCENT_ENCODED):
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("process", "name", "value"),
    [
        *((process, "LECTR_REDIS_URI", "x") for process in PROCESSES),
        *((process, "LECTR_REDIS_URL", f"redis//:{PASSWORD}@host") for process in PROCESSES),
        *((process, "LECTR_REDIS_URL", f"redis://:{PASSWORD}@host:port") for process in PROCESSES),
        *((process, "LECTR_LOG_LEVEL", "loud") for process in ("gateway", "ingestor")),
        *((process, "LECTR_OPS_LISTEN", "9090") for process in ("gateway", "ingestor")),
        *((process, "LECTR_STREAM_PARTITIONS", "0") for process in ("gateway", "ingestor")),
        ("gateway", "LECTR_LISTEN", "::1:8080"),
        ("gateway", "LECTR_CONNECT_TIMEOUT_S", "nan"),
        ("gateway", "LECTR_UPSTREAM_OPENAI", "api.openai.com/v1"),
        ("gateway", "LECTR_UPSTREAM_OPENAI", f"https://u:{PASSWORD}@api.openai.com/v1"),
        ("gateway", "LECTR_UPSTREAM_GROQ", f"https://api.groq.com/v1?key={PASSWORD}"),
        ("gateway", "LECTR_REDIS_URL", f"redis://:{PASSWORD}@127.0.0.1:1/0?no_such_option=1"),
        *((process, "LECTR_REDIS_URL", f"redis+cluster://:{PASSWORD}@h:1,h2:2/1") for process in PROCESSES),
        *((process, "LECTR_REDIS_URL", f"redis+sentinel://:{PASSWORD}@h:1,h2:2") for process in PROCESSES),
        ("ingestor", "LECTR_REDIS_URL", f"redis+cluster://:{PASSWORD}@127.0.0.1:1?no_such_option=1"),
        ("gateway", "LECTR_REDIS_URL", f"redis+sentinel://:{PASSWORD}@127.0.0.1:1/s?no_such_option=1"),
        ("dashboard", "LECTR_REDIS_URL", f"redis+cluster://:{PASSWORD}@127.0.0.1:1?no_such_option=1"),
        ("dashboard", "LECTR_REDIS_URL", f"rediss+sentinel://:{PASSWORD}@127.0.0.1:1/s?no_such_option=1"),
        ("gateway", "LECTR_STATE_DIR", "/dev/null/state"),
        ("gateway", "LECTR_UPSTREAM_CA_FILE", "/no/such/file.pem"),
        ("ingestor", "LECTR_LEASE_MS", "1"),
        ("ingestor", "LECTR_CLICKHOUSE_URL", f"http://u:{PASSWORD}@host:8123/drop table"),
        ("dashboard", "LECTR_REDIS_URL", f"redis://:{PASSWORD}@127.0.0.1:1/0?no_such_option=1"),
    ],
)
def test_a_process_with_a_bad_setting_says_so_and_ends(process: str, name: str, value: str) -> None:
    """Exit code 2 and one line on stderr that begins with the variable: no traceback, no secret."""
    settings = {"LECTR_LISTEN": "127.0.0.1:0", "LECTR_OPS_LISTEN": "127.0.0.1:0", name: value}
    done = run(process, *(("org", "list") if process == "dashboard" else ()), **settings)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert f": {name}" in lines[0]
    assert PASSWORD not in lines[0]
    assert done.returncode == 2
    assert done.stdout == ""
