"""Another model's name in a multipart form: it stands where the old one stood, and nothing else has changed."""

from email import message_from_bytes
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.form_edit import replace_form_model
from gateway.multipart import ModelField, multipart_model

FORM = "multipart/form-data; boundary=B"
NEW = "whisper-2"


def part(name: str, value: bytes, extra: str = "") -> bytes:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


FILE = part("file", b"RIFF\r\n\r\n" + bytes(range(256)), '; filename="a.wav"\r\nContent-Type: audio/wav')
MODEL = part("model", b"whisper-1")
END = b"--B--\r\n"


@pytest.mark.parametrize(
    ("held", "content_type"),
    [
        (MODEL + FILE + END, FORM),
        (FILE + MODEL + END, FORM),
        (
            b"preamble whisper\r\n" + FILE + MODEL + END + b"epilogue",
            'multipart/form-data; charset=utf-8; Boundary="B"',
        ),
        (MODEL.replace(b"--B", b"--a b") + b"--a b--", 'multipart/form-data; boundary="a b"'),
        (b"--B \t\r\nX: y\r\ncontent-disposition:form-data;NAME=model\r\n\r\nwhisper-1\r\n" + END, FORM),
        # As much as had arrived when the field was seen.
        (MODEL + b"--B", FORM),
        (MODEL + b"--B-", FORM),
        (MODEL + b"--B \t", FORM),
        (MODEL + b"--B\r", FORM),
        (MODEL + FILE[:30], FORM),
        # Not the field.
        (part("prompt", b'whisper name="model"') + MODEL + part("models", b"no") + END, FORM),
        (part("model", b"no", '; filename="model"') + MODEL + part("model", b"no", '; filename="x"') + END, FORM),
        (MODEL + END + part("model", b"epilogue"), FORM),
        (part("x", b"1", "\r\nContent-Length: 1") + MODEL + END, FORM),
    ],
)
def test_the_value_is_replaced(held: bytes, content_type: str) -> None:
    """The field of the form itself has another value; boundary, heads, files and what stands around are the same."""
    expected = held.replace(b"whisper-1", NEW.encode())
    assert replace_form_model(held, content_type, NEW) == expected
    assert replace_form_model(bytearray(held), content_type, NEW) == expected
    assert multipart_model(expected, content_type) == NEW


@pytest.mark.parametrize(
    ("held", "content_type", "model"),
    [
        # Not whole, not there, not alone.
        (MODEL[:-2], FORM, NEW),
        (MODEL + b"--", FORM, NEW),
        (FILE + END, FORM, NEW),
        (FILE + END + MODEL, FORM, NEW),
        (MODEL + MODEL + END, FORM, NEW),
        (MODEL + FILE + part("model", b"") + END, FORM, NEW),
        (MODEL + FILE + MODEL[:-5], FORM, NEW),
        (MODEL + FILE + part("model", b"m" * 20_000) + END, FORM, NEW),
        (b"", FORM, NEW),
        # No value, or one that is written in a way of its own.
        (part("model", b"") + END, FORM, NEW),
        (part("model", b"")[:-2] + part("x", b"v") + END, FORM, NEW),
        (part("model", b"m" * 20_000) + END, FORM, NEW),
        (part("model", b"a\r\n--Bc") + END, FORM, NEW),
        (part("model", b"whisper-1", "\r\nContent-Length: 9") + END, FORM, NEW),
        (FILE + part("model", b"bQ==", "\r\ncontent-transfer-encoding : base64") + END, FORM, NEW),
        # No form.
        (MODEL + END, "multipart/form-data", NEW),
        (MODEL + END, "application/json; boundary=B", NEW),
        # No name, or one that would end the field.
        (MODEL + END, FORM, ""),
        (MODEL + END, FORM, "m" * 1_025),
        (MODEL + END, FORM, "\ud83d"),
        (MODEL + END, FORM, "--B"),
        (MODEL + END, FORM, "x\r\n--B--"),
    ],
)
def test_what_is_unsure_stays(held: bytes, content_type: str, model: str) -> None:
    """A form that could be misread after the edit is not edited."""
    assert replace_form_model(held, content_type, model) is None


def parts_of(form: bytes) -> list[tuple[list[tuple[str, str]], bytes]]:
    """Head and content of each part, as another parser sees them."""
    message = message_from_bytes(b"Content-Type: " + FORM.encode() + b"\r\n\r\n" + form)
    payload: Any = message.get_payload()
    if not isinstance(payload, list):
        return []
    return [(one.items(), one.get_payload(decode=True) or b"") for one in payload]


VALUES = st.binary(max_size=20) | st.sampled_from(
    [b"\r\n--A", b"\r\n", b"--B", b"model", MODEL.replace(b"--B", b"--C")]
)
PARTS = st.builds(
    part,
    st.sampled_from(["model", "file", "prompt", "models"]),
    VALUES.filter(lambda value: b"\r\n--B" not in b"\r\n" + value),
    st.sampled_from(["", "", '; filename="model"', "\r\nContent-Type: text/plain"]),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(["B", "a\r\n", "-"])


@settings(max_examples=300)
@given(st.lists(PARTS, max_size=4), st.sampled_from([b"", b"preamble\r\n"]), NAMES, st.integers(0, 600))
def test_any_form_changes_there_alone(parts: list[bytes], preamble: bytes, model: str, cut: int) -> None:
    """Whole or cut off, a form with one plain field `model` that has a value is edited there, and any other never."""
    plain = [one for one in parts if b'name="model"\r\n' in one[:60] and b"; filename" not in one[:60]]
    form = preamble + b"".join(parts) + END
    edited = replace_form_model(form, FORM, model)
    value = plain[0].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") if len(plain) == 1 else b""
    if not value or "B" in model:
        assert edited is None
    else:
        at = form.index(plain[0]) + len(plain[0]) - len(value) - 2
        assert edited == form[:at] + model.encode() + form[at + len(value) :]
        assert multipart_model(edited, FORM) == model
        held = replace_form_model(form[:cut], FORM, model)
        assert held in (None, edited[: cut + len(edited) - len(form)])
        assert (held is None) is (cut < at + len(value) + len(b"\r\n--B"))


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([b"--B", b"\r\n", b"--", b"\r\n\r\n", MODEL, FILE, END, b" ", b"x"]) | st.binary(), max_size=8
    )
)
def test_a_damaged_form_is_never_made_another(pieces: list[bytes]) -> None:
    """Whatever the bytes are, nothing raises, and an edit replaces what was read as the model by what is read then."""
    held = b"".join(pieces)
    edited = replace_form_model(held, FORM, NEW)
    if edited is None:
        return
    field = ModelField(FORM)
    assert field.scan(held)
    assert edited == held[: field.value_start] + NEW.encode() + held[field.value_end :]
    assert multipart_model(edited, FORM) == NEW
    before, after = parts_of(held), parts_of(edited)
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 1
