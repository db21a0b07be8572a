"""Events and frames on the wire: nothing changes on the way, releases understand each other, poison has a reason."""

import binascii
import re
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.event import NO_USAGE, ErrorSource, Event, Usage, UsageSource
from shared.stream import (
    FRAME_VERSION,
    BootEnd,
    Frame,
    FrameFault,
    Partition,
    decode_boot_end,
    decode_frame,
    encode_boot_end,
    encode_event,
    encode_frame,
    partition_of,
)

SOURCE = 2**63 - 1
REQUIRED = ("seq", "ts_ms", "org", "method", "endpoint", "feature", "provider", "provider_source", "status")
FIELDS = tuple(field.name for field in msgspec.structs.fields(Event))
COUNTS = tuple(field.name for field in msgspec.structs.fields(Usage) if field.name.endswith("_tokens"))
FIRST_FIELDS = (
    "seq ts_ms org method endpoint feature task provider provider_source model_requested model_actual streaming "
    "status error_category error_source finish_reason usage usage_source service_tier request_bytes response_bytes "
    "latency_us ttfb_us ttft_us overhead_us client_stall_us provider_request_id client_retry_count sdk rule "
    "message_count content_bytes max_tokens tools_present structured_output marks"
)
FIRST_COUNTS = (
    "input_uncached_tokens input_cache_read_tokens input_cache_write_5m_tokens input_cache_write_1h_tokens "
    "input_cache_write_other_tokens input_audio_tokens input_image_tokens output_text_tokens "
    "output_reasoning_tokens output_audio_tokens output_image_tokens input_audio_seconds web_search_requests"
)


def plain(seq: int = 0, **more: Any) -> Event:
    """An event with nothing but what is required."""
    required: dict[str, Any] = {
        "ts_ms": 1_795_000_000_000,
        "org": "acme",
        "method": "POST",
        "endpoint": "/v1/messages",
        "feature": "search",
        "provider": "anthropic",
        "provider_source": "model",
        "status": 200,
    }
    return Event(seq=seq, **{**required, **more})


def full(seq: int = 0) -> Event:
    """An event whose every field has a value of its own, none of them the default."""
    values: dict[str, Any] = {}
    for number, field in enumerate(msgspec.structs.fields(Event), 2):
        if field.name == "usage":
            counts = {f.name: number * 100 + place for place, f in enumerate(msgspec.structs.fields(Usage))}
            values[field.name] = msgspec.structs.replace(Usage(**counts), input_audio_seconds=1.25)
        elif field.name == "usage_source":
            values[field.name] = "provider_partial"
        elif field.name == "error_source":
            values[field.name] = "client"
        elif field.name == "marks":
            values[field.name] = ("provider_unknown", "feature_truncated")
        elif field.name == "attempts":
            values[field.name] = ("openai/gpt-4o 503", "groq/llama provider_timeout")
        else:
            values[field.name] = {int: number, bool: True}.get(field.type, f"{field.name} é日🎈")
    return Event(**{**values, "seq": seq})


def frame_of(*events: Event, first_seq: int = 0, source: int = SOURCE) -> bytes:
    return encode_frame(source, first_seq, "gw-1", [encode_event(event) for event in events])


def raw_frame(events: list[Any], *, version: int = FRAME_VERSION, more: tuple[Any, ...] = ()) -> bytes:
    """A frame as another release, or nobody, would write it."""
    return msgspec.msgpack.encode([version, SOURCE, 0, "gw-1", events, *more])


def items_of(event: Event) -> list[Any]:
    items: list[Any] = msgspec.msgpack.decode(encode_event(event))
    return items


def reason_of(data: bytes) -> str:
    with pytest.raises(FrameFault) as refused:
        decode_frame(data)
    assert str(refused.value).startswith(f"{refused.value.reason}: ")
    return refused.value.reason


def test_every_field_survives() -> None:
    """Each field of an event comes out of a frame with the value that went in."""
    sent = full()
    assert not [f.name for f in msgspec.structs.fields(Event) if getattr(sent, f.name) == f.default]
    frame = decode_frame(frame_of(sent))
    assert frame == Frame(FRAME_VERSION, SOURCE, 0, "gw-1", [sent])
    received = frame.events[0]
    assert {name: getattr(received, name) for name in FIELDS} == {name: getattr(sent, name) for name in FIELDS}


def test_order_on_the_wire_is_fixed() -> None:
    """Fields are positional: their order is that of earlier releases, and new ones stand at the end.

    Those of the first release are written down here; a change of one makes frames in flight unreadable.
    """
    assert " ".join(FIELDS[: len(FIRST_FIELDS.split())]) == FIRST_FIELDS
    counts = [f.name for f in msgspec.structs.fields(Usage)]
    assert " ".join(counts[: len(FIRST_COUNTS.split())]) == FIRST_COUNTS
    assert items_of(full())[2:5] == ["org é日🎈", "method é日🎈", "endpoint é日🎈"]


def test_a_newer_gateway_is_understood() -> None:
    """Items that a newer release appends to a frame, an event or its usage are ignored."""
    sent = full()
    items = items_of(sent)
    items[FIELDS.index("usage")] += [7, "new"]
    items += ["new field", {"of": "any kind"}, None]
    assert decode_frame(raw_frame([items], more=("new", 1))).events == [sent]


@pytest.mark.parametrize("kept", range(FIELDS.index("status") + 1, len(FIELDS)))
def test_an_older_gateway_is_understood(kept: int) -> None:
    """Fields that an older release does not send yet get their defaults."""
    items = items_of(full())[:kept]
    received = decode_frame(raw_frame([items])).events[0]
    assert [getattr(received, name) for name in FIELDS[:kept]] == [getattr(full(), name) for name in FIELDS[:kept]]
    assert [getattr(received, name) for name in FIELDS[kept:]] == [getattr(plain(), name) for name in FIELDS[kept:]]


def test_shorter_usage_is_filled_up() -> None:
    """Counts that an older release does not know are zero."""
    items = items_of(plain())
    items[FIELDS.index("usage")] = [11, 12]
    usage = decode_frame(raw_frame([items])).events[0].usage
    assert usage == Usage(input_uncached_tokens=11, input_cache_read_tokens=12)


def test_new_fields_have_defaults() -> None:
    """Every field that is not among the first release's required ones has a default, or old events would be poison."""
    assert {f.name for f in msgspec.structs.fields(Event) if f.required} == set(REQUIRED)
    assert not [f.name for f in msgspec.structs.fields(Usage) if f.required]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "undecodable"),
        (b"\xc1", "undecodable"),
        (b"nonsense", "undecodable"),
        (b"\x00" * 100, "undecodable"),
        (msgspec.msgpack.encode({"version": 1}), "undecodable"),
        (msgspec.msgpack.encode([]), "undecodable"),
        (msgspec.msgpack.encode(["1"]), "undecodable"),
        (msgspec.msgpack.encode([FRAME_VERSION]), "undecodable"),
        (frame_of(full())[:-1], "undecodable"),
        (frame_of(full()) + b"\x00", "undecodable"),
        (frame_of(plain()).replace(b"acme", b"\xff\xfe\xfd\xfc"), "undecodable"),
        (raw_frame([items_of(plain())[:5]]), "undecodable"),
        (raw_frame([["0", *items_of(plain())[1:]]]), "undecodable"),
        (raw_frame(["not an event"]), "undecodable"),
        (raw_frame([], version=FRAME_VERSION + 1), "version"),
        (raw_frame([], version=0), "version"),
        (msgspec.msgpack.encode([99, "a shape", "that we do not know"]), "version"),
        (frame_of(plain(3), first_seq=4), "inconsistent"),
        (frame_of(plain(0), plain(0)), "inconsistent"),
        (frame_of(plain(1), plain(0)), "inconsistent"),
        (frame_of(plain(0), plain(2), plain(2)), "inconsistent"),
        (frame_of(plain(4), plain(6), plain(5), first_seq=4), "inconsistent"),
    ],
)
def test_poison_has_a_reason(data: bytes, reason: str) -> None:
    """What is no frame of ours is refused with one of the closed set of reasons, the label of its dead letter."""
    assert reason_of(data) == reason


@pytest.mark.parametrize("kept", [[0, 1, 3], [1, 2, 3], [0, 3], [3], []])
def test_a_hole_in_a_frame_keeps_the_others(kept: list[int]) -> None:
    """A frame out of which somebody took events is read; those that are left have their own numbers."""
    frame = decode_frame(frame_of(*(plain(seq) for seq in kept)))
    assert (frame.first_seq, frame.seqs) == (0, kept)
    assert frame.events == [plain(seq) for seq in kept]


ENDED = BootEnd("gw-1", 1_795_000_000_000, 1_795_000_060_000, 2**53 - 1, 17, killed=True)


def test_an_end_comes_back_as_it_went() -> None:
    """Each field of an end record survives, also from a release that says more."""
    assert decode_boot_end(encode_boot_end(ENDED)) == ENDED
    orderly = msgspec.structs.replace(ENDED, unfinished=0, killed=False)
    assert decode_boot_end(encode_boot_end(orderly)) == orderly
    items = msgspec.msgpack.decode(encode_boot_end(ENDED))
    assert items == ["gw-1", 1_795_000_000_000, 1_795_000_060_000, 2**53 - 1, 17, True], "fields are positional"
    assert decode_boot_end(msgspec.msgpack.encode([*items, "new", 7])) == ENDED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        encode_boot_end(ENDED)[:-1],
        encode_boot_end(ENDED) + b"\x00",
        encode_boot_end(ENDED).replace(b"gw-1", b"\xff\xfe\xfd\xfc"),
        msgspec.msgpack.encode(["gw-1", 1, 2, 3, 4]),
        msgspec.msgpack.encode(["gw-1", 1, 2, 3, 4, 1]),
        msgspec.msgpack.encode({"gateway": "gw-1"}),
    ],
)
def test_what_is_no_end_is_a_fault(data: bytes) -> None:
    """A broken end record raises FrameFault `undecodable`, and nothing else."""
    with pytest.raises(FrameFault) as refused:
        decode_boot_end(data)
    assert refused.value.reason == "undecodable"


def test_a_source_of_enumerated_text_is_checked() -> None:
    """Fields with a closed set of values take no other: a typo in a gateway is poison, not a new column value."""
    for name, values in (("usage_source", get_args(UsageSource)), ("error_source", get_args(ErrorSource))):
        items = items_of(plain())
        for value in values:
            items[FIELDS.index(name)] = value
            assert getattr(decode_frame(raw_frame([items])).events[0], name) == value
        items[FIELDS.index(name)] = "invented"
        assert reason_of(raw_frame([items])) == "undecodable"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
counts = st.integers(0, 2**53)
usages = st.builds(Usage, **dict.fromkeys(COUNTS, counts), input_audio_seconds=st.floats(0, 1e9))
events = st.builds(
    plain,
    org=texts,
    feature=texts,
    task=texts,
    ts_ms=st.integers(-(2**63), 2**63 - 1),
    status=st.integers(0, 999),
    streaming=st.booleans(),
    usage=usages,
    usage_source=st.sampled_from(get_args(UsageSource)),
    error_source=st.sampled_from(get_args(ErrorSource)),
    latency_us=st.integers(-1, 2**62),
    marks=st.lists(texts, max_size=4).map(tuple),
)


@given(st.lists(events, max_size=8), st.integers(0, 2**62), st.integers(0, SOURCE), texts)
def test_frames_come_back_as_they_went(sent: list[Event], first_seq: int, source: int, gateway: str) -> None:
    """Whatever the events and the bounds, decoding gives what was encoded."""
    numbered = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(sent, first_seq)]
    data = encode_frame(source, first_seq, gateway, [encode_event(event) for event in numbered])
    assert decode_frame(data) == Frame(FRAME_VERSION, source, first_seq, gateway, numbered)


@settings(max_examples=300)
@given(st.data())
def test_damage_is_a_fault_or_a_frame(data: st.DataObject) -> None:
    """A frame with changed, missing or added bytes either still is a frame or raises FrameFault, and nothing else."""
    damaged = bytearray(frame_of(full(0), plain(1)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        frame = decode_frame(bytes(damaged))
    except FrameFault as fault:
        assert fault.reason in {"undecodable", "version", "inconsistent"}  # noqa: PT017 - both outcomes are right
    else:
        assert frame.seqs == sorted(set(frame.seqs))
        assert all(seq >= frame.first_seq for seq in frame.seqs)


@given(st.binary(max_size=200))
def test_noise_is_a_fault(data: bytes) -> None:
    """Random bytes raise FrameFault, and nothing else."""
    assert reason_of(data) in {"undecodable", "version"}


def hash_slot(key: str) -> int:
    """A Redis cluster's slot of a key: CRC16 of its hash tag."""
    tag = re.search(r"\{([^}]+)\}", key)
    return binascii.crc_hqx((tag[1] if tag else key).encode(), 0) % 16_384


@pytest.mark.parametrize("index", [0, 1, 7, 1023])
def test_keys_of_a_partition_share_a_slot(index: int) -> None:
    """All keys of a partition carry its number as hash tag, so that a cluster runs scripts over them; all differ."""
    partition = Partition(index)
    names = [name for name, value in vars(Partition).items() if isinstance(value, property)]
    keys = [getattr(partition, name) for name in names]
    assert set(names) >= {"stream", "accepted", "done", "seen", "fresh", "ended", "pending", "lease", "dead"}
    assert len(set(keys)) == len(keys)
    assert {hash_slot(key) for key in keys} == {hash_slot(f"{{{index}}}")}
    assert all(key.startswith("lectr:") for key in keys)


def test_partitions_have_keys_of_their_own() -> None:
    """No two partitions share a key."""
    keys = [key for index in range(64) for key in (Partition(index).stream, Partition(index).accepted)]
    assert len(set(keys)) == 128


@pytest.mark.parametrize(("source", "partitions", "index"), [(0, 1, 0), (SOURCE, 1, 0), (17, 4, 1), (SOURCE, 16, 15)])
def test_the_partition_of_a_source_is_stable(source: int, partitions: int, index: int) -> None:
    """A source's partition follows from its number alone, today as in earlier releases."""
    assert partition_of(source, partitions) == Partition(index)


@given(st.integers(0, SOURCE), st.integers(1, 1024))
def test_every_partition_exists(source: int, partitions: int) -> None:
    """A source's partition is one of those that the ingestors serve."""
    assert 0 <= partition_of(source, partitions).index < partitions


def test_usage_sums_count_each_token_once() -> None:
    """Totals add up every count of their side exactly once, and nothing else."""
    usage = Usage(**{name: 10**place for place, name in enumerate(COUNTS)}, input_audio_seconds=3.5)
    inputs = sum(10**place for place, name in enumerate(COUNTS) if name.startswith("input_"))
    outputs = sum(10**place for place, name in enumerate(COUNTS) if name.startswith("output_"))
    assert (usage.input_tokens, usage.output_tokens) == (inputs, outputs)
    assert inputs + outputs == int("1" * len(COUNTS))
    assert (NO_USAGE.input_tokens, NO_USAGE.output_tokens) == (0, 0)
