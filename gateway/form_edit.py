"""Another model's name put into the field `model` of a multipart form, of which the beginning is held.

In: the bytes held so far, the Content-Type, the new name. Out: the same bytes with no other one changed, or None where
that cannot be done safely; the request then goes out as it came. Never raises. What `multipart_model` reads from an
edited form is the new name. Does not look behind what is held: a second field there stays unseen.
"""

import re
from typing import Final

from gateway.model_edit import is_model_name, put_in
from gateway.multipart import ModelField, boundary_of

_DELIMITER_LINE: Final = re.compile(rb"--|[ \t]*(?:\r\n|\r?\Z)|-\Z")
"""What follows a delimiter, or the beginning of it if the rest has not arrived; else the line is content."""
_CODED: Final = re.compile(rb"^content-(?:length|transfer-encoding)[ \t]*:", re.IGNORECASE | re.MULTILINE)


def replace_form_model(held: bytes | bytearray, content_type: str, model: str) -> bytes | None:
    """The held bytes with another value of the field `model`.

    None if the field is not whole in them, stands twice in them, has no value, or says how long its value is or how it
    is coded; and if the new name contains the form's boundary.
    """
    boundary = boundary_of(content_type)
    if boundary is None or not is_model_name(model):
        return None
    value = model.encode()
    field = ModelField(content_type)
    if boundary in value or not field.scan(held):
        return None
    start, end = field.value_start, field.value_end
    delimiter = b"\r\n--" + boundary
    head_start = max(held.rfind(delimiter, 0, start), 0)
    if _CODED.search(held[head_start:start]) or not _DELIMITER_LINE.match(held, end + len(delimiter)):
        return None
    rest = ModelField(content_type)
    # From its delimiter on, what is left is a form of its own.
    rest.scan(held[end + len(b"\r\n") :])
    return None if rest.value_start >= 0 else put_in(held, [(start, end)], value)
