"""Request bodies: bytes -> JSON object or multipart parts.

In: the (already decompressed) body and its content type. Out: a mapping of fields, and the uploaded files.
Raises UnreadableBodyError for a body that is neither; never guesses.
"""

import json
import re
from typing import Any

import msgspec


class UnreadableBodyError(Exception):
    """The body is not what its content type says; the text says how."""


class Upload(msgspec.Struct, frozen=True):
    """One file of a multipart body."""

    field: str
    filename: str
    content: bytes


def read_body(body: bytes, content_type: str) -> tuple[dict[str, Any], tuple[Upload, ...]]:
    """Return the fields and files of a body. An empty body has no fields.

    Raises UnreadableBodyError.
    """
    if not body:
        return {}, ()
    if content_type.lower().startswith("multipart/form-data"):
        return _read_multipart(body, content_type)
    try:
        # json and not msgspec: providers accept lone surrogates such as "\ud83d", and so must this.
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableBodyError(
            f"We could not parse the JSON body of your request: {type(error).__name__}"
        ) from error
    if not isinstance(document, dict):
        raise UnreadableBodyError("The JSON body of your request is not an object")
    return document, ()


def _read_multipart(body: bytes, content_type: str) -> tuple[dict[str, Any], tuple[Upload, ...]]:
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None:
        raise UnreadableBodyError("multipart body without a boundary")
    fields: dict[str, Any] = {}
    uploads: list[Upload] = []
    delimiter = b"\r\n--" + boundary.group(1).encode()
    for part in (b"\r\n" + body).split(delimiter)[1:]:
        if part.startswith(b"--"):
            break
        head, separator, content = part.partition(b"\r\n\r\n")
        disposition = head.decode("utf-8", "replace")
        name = re.search(r'[; ]name="?([^";\r\n]*)"?', disposition)
        if not separator or name is None:
            raise UnreadableBodyError("multipart part without a name")
        filename = re.search(r'filename="?([^";\r\n]*)"?', disposition)
        if filename is None:
            fields[name.group(1)] = content.decode("utf-8", "replace")
        else:
            uploads.append(Upload(field=name.group(1), filename=filename.group(1), content=content))
    return fields, tuple(uploads)
