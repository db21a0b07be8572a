"""What the measuring process asks of the load generator and gets back, one JSON line each way."""

import msgspec


class JsonOrder(msgspec.Struct, tag="json", kw_only=True, frozen=True):
    """Send a request many times over some connections, each waiting for its answer."""

    host: str
    port: int
    request: bytes
    exact: bool
    """The answer must be the upstream's byte for byte; False for gateways that rewrite it."""
    connections: int
    requests: int
    deadline_s: float


class StreamOrder(msgspec.Struct, tag="streams", kw_only=True, frozen=True):
    """Open streams, evenly over the ramp, and listen to each to its end or to the deadline."""

    host: str
    port: int
    request: bytes
    exact: bool
    streams: int
    events: int
    ramp_ms: int
    deadline_s: float


class SoakOrder(msgspec.Struct, tag="soak", kw_only=True, frozen=True):
    """Keep a mixed load up for a time."""

    host: str
    port: int
    seconds: float
    plain: bytes
    stream: bytes
    refused: bytes
    cut: bytes
    events: int
    """Of each stream."""


class JsonFigures(msgspec.Struct, tag="json", kw_only=True, frozen=True):
    p50_ms: float
    p99_ms: float
    longest_ms: float
    requests_per_s: float


class StreamFigures(msgspec.Struct, tag="streams", kw_only=True, frozen=True):
    longest_gaps_ms: list[float]
    """Of each stream that came to its end: the longest silence between two of its events."""
    took_ms: list[float]
    """Of the same streams, in the same order: the time from the first event to the end."""
    most_open: int
    wall_s: float


class SoakFigures(msgspec.Struct, tag="soak", kw_only=True, frozen=True):
    answered: dict[str, int]
    """Requests by what their client wanted: plain, stream, left, refused, cut."""


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """Something came back that the upstream did not send."""

    text: str


Order = JsonOrder | StreamOrder | SoakOrder
Figures = JsonFigures | StreamFigures | SoakFigures | Failure
