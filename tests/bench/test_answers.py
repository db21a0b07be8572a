"""The instruments of the measurements: what they take for a right answer, and what for a wrong one."""

import pytest

from tests.bench.answers import BadAnswer, check_completion, check_stream, read_answer
from tests.bench.payloads import COMPLETION, OUTPUT_TOKENS, events, json_request, stream_body, stream_request
from tests.bench.trend import trend

HEAD = b"HTTP/1.1 200 OK\r\nX: y\r\n"
PLAIN = HEAD + b"content-length: %d\r\n\r\n" % len(COMPLETION) + COMPLETION


def chunked(*parts: bytes) -> bytes:
    framed = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + b"Transfer-Encoding: Chunked\r\n\r\n" + framed + b"0\r\n\r\n"


STREAM = chunked(*events(10), b"data: [DONE]\n\n")


@pytest.mark.parametrize("whole", [PLAIN, STREAM, chunked(COMPLETION[:10], COMPLETION[10:])])
def test_an_answer_is_whole_at_its_last_byte(whole: bytes) -> None:
    """However an answer is framed, it is read at its last byte and not before."""
    assert [cut for cut in range(len(whole)) if read_answer(whole[:cut]) is not None] == []
    assert read_answer(whole) is not None


@pytest.mark.parametrize(
    "bad",
    [
        PLAIN + b"x",
        STREAM + b"x",
        STREAM.replace(b"\r\nE5\r\n", b"\r\nE4\r\n"),
        STREAM.replace(b"\r\nE5\r\n", b"\r\nZZ\r\n"),
        HEAD + b"\r\n" + COMPLETION,
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
)
def test_broken_framing_is_an_error(bad: bytes) -> None:
    """Bytes too many, wrong chunk sizes and answers without an end are refused."""
    assert bad not in {PLAIN, STREAM}
    with pytest.raises(BadAnswer):
        read_answer(bad)


@pytest.mark.parametrize(
    "bad", [PLAIN.replace(b"200", b"500", 1), PLAIN.replace(b"Refunds", b"refunds"), chunked(COMPLETION[:-1])]
)
def test_another_answer_is_an_error(bad: bytes) -> None:
    """Another status, another byte or a missing one is not the completion."""
    right, wrong = read_answer(PLAIN), read_answer(bad)
    assert right
    assert wrong
    check_completion(right, exact=True)
    with pytest.raises(BadAnswer):
        check_completion(wrong, exact=True)


@pytest.mark.parametrize(
    "bad", [chunked(*events(10)), chunked(*events(10)[1:], b"data: [DONE]\n\n"), STREAM.replace(b"200", b"429", 1)]
)
def test_a_lost_event_is_an_error(bad: bytes) -> None:
    """A stream without its end, with an event too few or with another status is not the stream."""
    right, wrong = read_answer(STREAM), read_answer(bad)
    assert right
    assert wrong
    check_stream(right, 10, exact=True)
    with pytest.raises(BadAnswer):
        check_stream(wrong, 10, exact=True)


def test_the_payloads_have_the_stated_sizes() -> None:
    """The completion has the bytes of the reference measurements, and a stream as many events as asked for."""
    assert len(COMPLETION) == 656
    assert stream_body(201).count(b"data: {") == len(events(201)) == 201
    assert b'"completion_tokens":%d' % OUTPUT_TOKENS in events(201)[-1]
    assert b'"stream":true' in stream_request(201, 5)
    assert b"stream" not in json_request()


MINUTES = [60.0 * minute for minute in range(61)]


def test_growth_is_told_from_noise() -> None:
    """Steady growth in the second half is called so, per hour; warm-up, a sawtooth, a spike and a fall are flat."""
    leak = trend("mb", MINUTES, [50 + 8 * at_s / 3600 for at_s in MINUTES], share=0.03, floor=2)
    assert leak.verdict == "growing"
    assert leak.per_hour == pytest.approx(8)
    assert leak.growth == pytest.approx(4)
    warm_up = [40 + min(at_s, 1800) / 60 for at_s in MINUTES]
    sawtooth = [60 + at_s % 420 / 60 for at_s in MINUTES]
    spike = [60.0 + 500 * (at_s == 3600) for at_s in MINUTES]
    fall = [90 - at_s / 60 for at_s in MINUTES]
    for samples in (warm_up, sawtooth, spike, fall):
        assert trend("mb", MINUTES, samples, share=0.03, floor=2).verdict == "flat"


def test_a_trend_of_few_samples() -> None:
    """A run that was too short for two samples in its second half has no slope, and says flat."""
    for values in ([5.0], [5.0, 9.0]):
        assert trend("files", MINUTES[: len(values)], values, share=0.1, floor=1).per_hour == 0
