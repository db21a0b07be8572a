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


def test_growth_is_told_from_noise() -> None:
    """A rise past the allowance is called growing; one inside it, and a fall, are flat."""
    assert trend("mb", [100.0, 101, 100, 102, 104, 103, 104, 104], share=0.05, floor=1).verdict == "flat"
    assert trend("mb", [100.0, 101, 102, 104, 106, 108, 109, 110], share=0.05, floor=1).verdict == "growing"
    assert trend("files", [10.0, 14], share=0.1, floor=5).verdict == "flat"
    assert trend("files", [20.0, 10], share=0.1, floor=5).verdict == "flat"
