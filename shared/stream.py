"""The road between gateway and ingestor: key names and the frame format of the Redis stream.

A frame is one stream entry that carries the events of one source, contiguous in `seq`. One event per entry would cost
about fifty times the Redis CPU. A stream is cut into partitions; `{k}` puts all keys of a partition into one
cluster slot, and a source stays in its partition for life, so its events have one order.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from shared.event import Event

FRAME_VERSION: Final = 1
FIELD_FRAME: Final = b"f"
"""The stream entry's field that holds the encoded frame."""
FIELD_SOURCE: Final = b"s"
FIELD_FIRST_SEQ: Final = b"a"
FIELD_COUNT: Final = b"n"
FIELD_EXPECTED: Final = b"p"
"""The seq behind the source's last event before this frame: from there to the frame's first there is no event."""
FIELD_FLOOR: Final = b"o"
"""Every event of the source below this seq is in ClickHouse already, says its gateway."""
FIELD_REDRIVEN: Final = b"r"
"""Present on an entry that was a dead letter and is tried again."""
FIELD_END: Final = b"e"
"""Instead of a frame: the encoded record of a source's end."""
MAX_FRAME_EVENTS: Final = 2_000
MOST_PARTITIONS: Final = 1_024


MEMBERS: Final = "lectr:ingestors"
"""Sorted set: name of an ingestor -> until when it counts as living, Unix ms by Redis' clock."""
ROLLUP_REBUILD: Final = "lectr:rollup-rebuild"
"""Lock: held by the one process that makes hours of the rollup anew."""


class FrameFault(ValueError):
    """A stream entry that is no frame we can read. `reason` is a label: missing, undecodable, version, inconsistent."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class _FrameOut(msgspec.Struct, frozen=True, array_like=True):
    version: int
    source: int
    first_seq: int
    gateway: str
    events: Sequence[msgspec.Raw]


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Events of one source (63-bit id of a gateway's boot), from `first_seq` on, rising, as written without a hole."""

    version: int
    source: int
    first_seq: int
    gateway: str
    """Name of the gateway instance (pod or host)."""
    events: list[Event]

    @property
    def seqs(self) -> list[int]:
        """The events' numbers."""
        return [event.seq for event in self.events]


class BootEnd(msgspec.Struct, frozen=True, array_like=True):
    """How one run of a gateway ended. Written by itself, or by whoever found its journal."""

    gateway: str
    started_ms: int
    ended_ms: int
    """For one that was killed: when that was found."""
    events: int
    """How many sequence numbers it used: what is not stored of them is lost."""
    unfinished: int
    """Requests that it was serving when it was killed: they left no event."""
    killed: bool


class _Version(msgspec.Struct, frozen=True, array_like=True):
    version: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)
_end_decoder = msgspec.msgpack.Decoder(BootEnd)
_version_decoder = msgspec.msgpack.Decoder(_Version)


def encode_event(event: Event) -> bytes:
    """One event as MessagePack, ready to be put into a frame."""
    return _encoder.encode(event)


def encode_frame(source: int, first_seq: int, gateway: str, events: Sequence[bytes]) -> bytes:
    """A frame from events that are already encoded; they are not parsed again."""
    return _encoder.encode(_FrameOut(FRAME_VERSION, source, first_seq, gateway, [msgspec.Raw(e) for e in events]))


def decode_frame(data: bytes) -> Frame:
    """Read a frame back.

    Raises FrameFault: `undecodable` for broken bytes, `version` for a release newer than ours,
    `inconsistent` when the events' numbers do not rise from where the frame says.
    """
    try:
        frame = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _check_version(_version_of(data))
        raise FrameFault("undecodable", str(error)) from None
    _check_version(frame.version)
    seqs = frame.seqs
    # A hole is an event that somebody took out: no reason to refuse the others.
    if seqs != list(range(frame.first_seq, frame.first_seq + len(seqs))) and (
        seqs[0] < frame.first_seq or any(seq >= following for seq, following in pairwise(seqs))
    ):
        raise FrameFault("inconsistent", f"sequence numbers do not rise from {frame.first_seq}")
    return frame


def encode_boot_end(end: BootEnd) -> bytes:
    """An end record as MessagePack."""
    return _encoder.encode(end)


def decode_boot_end(data: bytes) -> BootEnd:
    """Read an end record back. Raises FrameFault `undecodable`."""
    try:
        return _end_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameFault("undecodable", str(error)) from None


def _version_of(data: bytes) -> int:
    # Its own look, as all that is known of other versions is that this comes first.
    try:
        return _version_decoder.decode(data).version
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameFault("undecodable", str(error)) from None


def _check_version(version: int) -> None:
    if version != FRAME_VERSION:
        raise FrameFault("version", f"frame version {version}, this release reads {FRAME_VERSION}")


class Partition(msgspec.Struct, frozen=True):
    """The Redis keys of one stream partition; all in one cluster slot."""

    index: int

    def _key(self, name: str) -> str:
        return f"lectr:{{{self.index}}}:{name}"

    @property
    def stream(self) -> str:
        """Stream of frames."""
        return self._key("frames")

    @property
    def accepted(self) -> str:
        """Hash: source -> next seq that Redis has not seen."""
        return self._key("accepted")

    @property
    def done(self) -> str:
        """Hash: source -> next seq that is not in ClickHouse."""
        return self._key("done")

    @property
    def seen(self) -> str:
        """Hash: source that lives -> `now:next:started`, Unix ms: what ended before now has a seq below next."""
        return self._key("seen")

    @property
    def fresh(self) -> str:
        """Hash: source -> when its last stored request ended, Unix ms; all that ended before are stored, too."""
        return self._key("fresh")

    @property
    def ended(self) -> str:
        """Hash: source that ended -> when the record of it was stored, Unix ms; 0 while that is on the stream.

        Below 0: minus the moment at which it was given up; for a gateway that is as if nothing were there.
        """
        return self._key("ended")

    def said(self, source: int) -> str:
        """Entry of the last end record that was said of a source: a Redis of before does not know it."""
        return self._key(f"said:{source}")

    @property
    def settling(self) -> str:
        """There for the seconds after marks were made anew, in which gateways announce themselves."""
        return self._key("settling")

    @property
    def pending(self) -> str:
        """The bounds of the batch that is being inserted."""
        return self._key("pending")

    @property
    def lease(self) -> str:
        """Name of the ingestor that owns the partition, with a time to live."""
        return self._key("lease")

    @property
    def dead(self) -> str:
        """Stream of entries that could not be stored, with their reason."""
        return self._key("dead")


def partition_of(source: int, partitions: int) -> Partition:
    """The partition that a source's frames go to."""
    return Partition(source % partitions)
