"""The gateway's settings, from `LECTR_…` variables (see shared/environment.py)."""

import socket
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shared.environment import LogLevel, SecretUrl, SettingsFault, check_url, parse_listen, read_settings
from shared.redis_url import check_redis_url
from shared.stream import MOST_PARTITIONS

_MIB: Final = 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Durations carry their unit in the name."""

    listen: str = "0.0.0.0:8080"
    """Where applications connect; port 0 picks a free one."""
    ops_listen: str = "0.0.0.0:9090"
    """/healthz, /readyz, /metrics; never on the applications' port, where `/metrics` is a provider's path."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Gateway processes that share the port; each has its own connections, limits and event buffer."""
    redis_url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0")
    state_dir: str = ""
    """Directory for the journal of events and the last registry seen. Empty: neither survives the process."""
    instance: str = ""
    """Name of this gateway on its events. Empty: the host's name, which is the pod's in Kubernetes."""
    log_level: LogLevel = "info"
    upstream_openai: str = "https://api.openai.com/v1"
    upstream_anthropic: str = "https://api.anthropic.com/v1"
    upstream_groq: str = "https://api.groq.com/openai/v1"
    upstream_gemini: str = "https://generativelanguage.googleapis.com/v1beta/openai"
    upstream_ca_file: str = ""
    """PEM file of certificate authorities that providers are verified with. Empty: the system's."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1024 * _MIB)] = 2 * _MIB
    """Largest JSON request body; it is held in memory to find the model in it."""
    max_file_body_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * _MIB)] = 512 * _MIB
    """Largest body that carries files; streamed, after at most 32 MiB were held to find the model in a form."""
    connect_timeout_s: Annotated[float, Meta(gt=0, le=120)] = 10
    first_byte_timeout_s: Annotated[float, Meta(gt=0, le=7200)] = 600
    """The SDKs' own default patience; a reasoning model may think this long."""
    idle_timeout_s: Annotated[float, Meta(gt=0, le=7200)] = 900
    """Longest silence inside an answer; streams of ten idle minutes are seen in the wild."""
    idle_connection_s: Annotated[float, Meta(ge=0, le=600)] = 15
    """How long a connection to a provider waits for its next request; they close theirs after 60 s and more."""
    connection_lifetime_s: Annotated[float, Meta(gt=0, le=86_400)] = 600
    """Oldest a connection to a provider may be when it gets a request, so that a changed address is noticed."""
    dns_refresh_s: Annotated[float, Meta(ge=0, le=3600)] = 30
    """How long an answer of the resolver is used."""
    client_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60
    """Longest silence of a client inside its request body, and longest time for its head; both hold memory."""
    drain_timeout_s: Annotated[float, Meta(ge=0, le=3600)] = 60
    """After SIGTERM, how long streams may take to finish."""
    unattended_answers: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    """How many answers a process reads on at most after their clients left (`org on-disconnect`)."""
    unattended_timeout_s: Annotated[float, Meta(gt=0, le=7200)] = 600
    """How long it does so."""
    registry_poll_s: Annotated[float, Meta(ge=0.1, le=20)] = 15
    """How long between polls, which find what no push told. A change is obeyed within 30 s, that is promised: the rest
    is for an attempt to subscribe that gets no answer, and for reading what changed."""
    stream_partitions: Annotated[int, Meta(ge=1, le=MOST_PARTITIONS)] = 1
    """For runs that begin from now on: each stays in its own. Ingestors find partitions beyond their own number."""
    flush_interval_ms: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """How long events gather for a frame. Each push has a price: at 20 ms they took a tenth of a busy gateway's CPU."""
    journal_bytes: Annotated[int, Meta(ge=4 * _MIB, le=1024 * 1024 * _MIB)] = 1024 * _MIB
    """Most that a process keeps of events that are not stored yet, about 250 bytes each. What comes after is dropped
    and counted: traffic goes on."""
    journal_segment_bytes: Annotated[int, Meta(ge=_MIB, le=1024 * _MIB)] = 4 * _MIB
    """Size of one journal file; two are allocated at least."""
    journal_sync_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 1_000
    """How often the disk is asked to write what was journaled, against the loss of a host. 0: never."""


def load_settings() -> Settings:
    """Read and check the environment; raises SettingsFault naming the variable."""
    settings = read_settings(Settings)
    parse_listen(settings.listen, "LECTR_LISTEN")
    parse_listen(settings.ops_listen, "LECTR_OPS_LISTEN")
    check_redis_url(settings.redis_url)
    for provider, base in upstream_bases(settings).items():
        variable = f"LECTR_UPSTREAM_{provider.upper()}"
        check_url(base, variable, frozenset({"http", "https"}))
        if "?" in base or "#" in base or "@" in base:
            raise SettingsFault(
                f"{variable}: a base URL has no query, fragment or user; give scheme, host and path only"
            )
    if settings.journal_segment_bytes * 2 > settings.journal_bytes:
        raise SettingsFault(
            "LECTR_JOURNAL_SEGMENT_BYTES: a journal has two segments at least; "
            "raise LECTR_JOURNAL_BYTES or lower it to half of that"
        )
    if not settings.instance:
        settings = msgspec.structs.replace(settings, instance=socket.gethostname())
    return settings


def upstream_bases(settings: Settings) -> dict[str, str]:
    """Provider -> base URL without a trailing slash."""
    return {
        "openai": settings.upstream_openai.rstrip("/"),
        "anthropic": settings.upstream_anthropic.rstrip("/"),
        "groq": settings.upstream_groq.rstrip("/"),
        "gemini": settings.upstream_gemini.rstrip("/"),
    }
