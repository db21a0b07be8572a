"""The model field of a multipart form, however its bytes arrive and whatever its files contain."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.multipart import ModelField, multipart_model

FORM = "multipart/form-data; boundary=B"


def part(name: str, value: bytes, extra: str = "") -> bytes:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


FILE = part("file", b"RIFF\r\n\r\n" + bytes(range(256)), '; filename="a.wav"\r\nContent-Type: audio/wav')
MODEL = part("model", b"whisper-1")
END = b"--B--\r\n"


@pytest.mark.parametrize(
    ("body", "content_type", "model"),
    [
        (MODEL + FILE + END, FORM, "whisper-1"),
        (FILE + MODEL + END, FORM, "whisper-1"),
        (FILE + MODEL + END, 'multipart/form-data; charset=utf-8; Boundary="B"', "whisper-1"),
        (FILE + MODEL + END, "multipart/form-data;boundary=B; x=y", "whisper-1"),
        (MODEL.replace(b"--B", b"--a b") + b"--a b--", 'multipart/form-data; boundary="a b"', "whisper-1"),
        (b"preamble\r\n" + MODEL + END, FORM, "whisper-1"),
        (b"--Bad\r\n" + MODEL + END, FORM, "whisper-1"),
        (b"--B \t\r\n" + MODEL[5:] + END, FORM, "whisper-1"),
        (b"--B\r\n\r\nno head\r\n" + MODEL + END, FORM, "whisper-1"),
        (part("empty", b"") + MODEL + END, FORM, "whisper-1"),
        (part("empty", b"")[:-2] + MODEL + END, FORM, "whisper-1"),
        (part("file", b"", '; filename=""') + MODEL + END, FORM, "whisper-1"),
        (b"--B\r\nX: y\r\ncontent-disposition:form-data;NAME=model\r\n\r\nm\r\n" + END, FORM, "m"),
        (part("model", "mödel".encode()) + END, FORM, "mödel"),
        (part("model", b"\xff") + END, FORM, "\ufffd"),
        (part("model", b"m" * 2_000) + END, FORM, "m" * 1_024),
        (part("model", b"") + END, FORM, ""),
        (part("model", b"")[:-2] + part("x", b"not its value") + END, FORM, ""),
        # Content that looks like a part, or like a boundary, is content.
        (part("file", MODEL.replace(b"--B", b"--C"), '; filename="x"') + part("model", b"real") + END, FORM, "real"),
        (part("file", b"\r\n" + MODEL.replace(b"--B", b"--Bx"), '; filename="x"') + MODEL + END, FORM, "whisper-1"),
        (part("file", b"x--B\r\n" + MODEL[5:], '; filename="x"') + part("model", b"real") + END, FORM, "real"),
        (part("prompt", b'name="model"') + MODEL + END, FORM, "whisper-1"),
        (part("x", b"v", '; filename="; name=\\"model\\""') + part("model", b"real") + END, FORM, "real"),
        (part("model", b"no", '; filename="model"') + part("model", b"real") + END, FORM, "real"),
        (part("models", b"no") + part("model", b"real") + END, FORM, "real"),
        # No model.
        (FILE + END, FORM, None),
        (FILE + END + MODEL, FORM, None),
        (MODEL[:-2], FORM, None),
        (part("model", b"m" * 20_000) + END, FORM, None),
        (b"--B\r\n" + b"x" * 40_000 + b"\r\n\r\n" + MODEL + END, FORM, None),
        (MODEL + END, "multipart/form-data", None),
        (MODEL + END, "multipart/form-data; boundary=", None),
        (MODEL + END, "multipart/form-data; boundary=" + "B" * 500, None),
        (MODEL + END, "application/json; boundary=B", None),
        (b"", FORM, None),
    ],
)
def test_the_model_is_found_in_a_form(body: bytes, content_type: str, model: str | None) -> None:
    """The form's own boundary decides; found whole, byte by byte, and from a bytearray alike."""
    assert multipart_model(body, content_type) == model
    if len(body) < 2_000:
        field = ModelField(content_type)
        answers = {field.scan(bytearray(body[:length])) for length in range(len(body) + 1)}
        assert answers == {None, model}


def test_a_search_says_when_it_is_over() -> None:
    """Found, past the last delimiter, or hopeless: then no more of the body needs to be held."""
    for body, content_type, finished in (
        (MODEL + FILE, FORM, True),
        (FILE + END, FORM, True),
        (FILE, FORM, False),
        (b"", "text/plain", True),
        (b"--B\r\n" + b"x" * 40_000, FORM, True),
    ):
        field = ModelField(content_type)
        field.scan(body)
        assert field.finished is finished


def test_a_search_tells_where_the_value_stands() -> None:
    """Its beginning once the field's head was seen, its end with the delimiter; an empty value has a place too."""
    field = ModelField(FORM)
    for held, start, end in ((FILE, -1, -1), (FILE + MODEL[:-4], len(FILE + MODEL) - 11, -1)):
        field.scan(held)
        assert (field.value_start, field.value_end) == (start, end)
    for value in (b"whisper-1", b""):
        field = ModelField(FORM)
        whole = FILE + part("model", value) + END
        field.scan(whole)
        assert whole[field.value_start : field.value_end] == value
        assert whole[field.value_end :] == b"\r\n" + END


STREAM = part("stream", b"true")
ROUND = part("language", b"en")


@pytest.mark.parametrize(
    ("body", "stream", "held"),
    [
        (MODEL + STREAM + FILE + END, True, MODEL + STREAM + b"--B"),
        (STREAM + ROUND + MODEL + FILE + END, True, STREAM + ROUND + MODEL + b"--B"),
        (FILE + MODEL + ROUND + STREAM + END, True, FILE + MODEL + ROUND + STREAM + b"--B"),
        (FILE + STREAM + END, True, None),
        (part("stream", b"True") + MODEL, True, None),
        (MODEL + part("stream", b" 1 ") + END, True, None),
        (part("stream", b"false") + MODEL, False, None),
        (part("stream", b"") + MODEL, False, None),
        (part("stream", b"")[:-2] + MODEL, False, None),
        (part("stream", b"true" * 99) + MODEL, False, None),
        # The first one of a name is what a form says.
        (part("stream", b"no") + MODEL + STREAM, False, None),
        (MODEL + part("model", b"other") + STREAM + END, True, None),
        # A file is none of the fields, and behind one that follows the model nothing is looked for.
        (part("stream", b"true", '; filename="stream"') + MODEL + END, False, None),
        (MODEL + ROUND + FILE + STREAM, False, MODEL + ROUND + FILE[: FILE.index(b"RIFF")]),
        (MODEL + ROUND + END, False, None),
    ],
)
def test_whether_a_form_asks_for_a_stream(body: bytes, stream: bool, held: bytes | None) -> None:
    """Wherever the field stands but behind a file that follows the model; of what is not needed nothing is held.

    `held` is how much has to come until the search is over; the model is found as without it.
    """
    searches = [ModelField(FORM, and_stream=True) for _ in range(len(body) + 1)]
    for length, field in enumerate(searches):
        field.scan(body[: length // 2])
        field.scan(body[:length])
    assert (searches[-1].stream, searches[-1].model) == (stream, multipart_model(body, FORM))
    if held is not None:
        assert body[: [field.finished for field in searches].index(True)] == held


class CountingBuffer(bytearray):
    """Counts the bytes that searches in it went over."""

    searched_bytes = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        end = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, end)
        self.searched_bytes += (end if found < 0 else found) - start
        return found


def test_a_big_upload_is_searched_once() -> None:
    """A model behind a large file, arriving in small pieces, costs one pass over the bytes."""
    body = part("file", b"\r\n--A" * 2_000_000, '; filename="x"') + MODEL + END
    field = ModelField(FORM)
    buffer = CountingBuffer()
    for start in range(0, len(body), 16_384):
        buffer += body[start : start + 16_384]
        field.scan(buffer)
    assert field.model == "whisper-1"
    assert buffer.searched_bytes < 2 * len(body)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from([b"--B", b"\r\n", b"--", b"\r\n\r\n", MODEL, FILE, STREAM, b'name="model"', b" ", b"x"])
        | st.binary(),
        max_size=8,
    ),
    st.lists(st.integers(0, 600), max_size=5),
)
def test_arrival_makes_no_difference(pieces: list[bytes], cuts: list[int]) -> None:
    """However the bytes arrive, the answer is that of the whole body."""
    body = b"".join(pieces)
    field, at_once = ModelField(FORM, and_stream=True), ModelField(FORM, and_stream=True)
    for cut in sorted(cuts):
        field.scan(body[:cut])
    assert field.scan(body) == at_once.scan(body) == multipart_model(body, FORM)
    assert field.stream == at_once.stream
