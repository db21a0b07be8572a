"""What a request says about itself apart from its head: the model, and signals for recommendations. Never its content.

In: the body's bytes as the client sent them, or the raw request target. Out: RequestFacts, or a model's name.
Never raises: a body is the provider's to judge, and what cannot be read degrades field by field.
"""

import json
import re
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec

from gateway.headers import clean_value
from gateway.routes import GEMINI_VERBS, query_value

BodyKind = Literal["json", "multipart", "opaque"]

MARK_MODEL_TRUNCATED: Final = "model_truncated"

_TEXT_KEYS: Final = frozenset(
    {"text", "content", "parts", "thinking", "refusal", "output", "arguments", "tool_calls", "function"}
)
"""Where messages of all dialects hold text, tool calls and tool results included. Images, audio and files are none."""

_NODE_LIMIT: Final = 20_000
"""Values looked at per body. A body of 2 MiB can hold a million; counting all would hold up every other request."""
_COUNT_LIMIT: Final = 2_147_483_647


class _Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of all dialects that matter here, of any type; what is not listed is skipped without being built.

    The last of duplicates wins, as in the providers' parsers.
    """

    model: object = None
    stream: object = None
    stream_format: object = None
    stream_options: object = None
    messages: object = None
    input: object = None
    contents: object = None
    content: object = None
    requests: object = None
    prompt: object = None
    system: object = None
    instructions: object = None
    system_instruction: object = None
    google_system: object = msgspec.field(default=None, name="systemInstruction")
    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    max_tokens_to_sample: object = None
    generation_config: object = None
    google_config: object = msgspec.field(default=None, name="generationConfig")
    response_format: object = None
    text: object = None
    output_format: object = None
    output_config: object = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    functions: msgspec.Raw = msgspec.Raw(b"")


class _UsualMessage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str
    name: object = None


class _Usual(msgspec.Struct, gc=False):
    """A chat request of plain text, as most are. Whatever has more to tell does not fit, and is read whole."""

    messages: list[_UsualMessage]
    model: str
    stream: bool = False
    stream_format: None = None
    stream_options: dict[str, object] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: object = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    input: None = None
    contents: None = None
    content: None = None
    requests: None = None
    prompt: None = None
    system: None = None
    instructions: None = None
    system_instruction: None = None
    google_system: None = msgspec.field(default=None, name="systemInstruction")
    max_output_tokens: None = None
    max_tokens_to_sample: None = None
    generation_config: None = None
    google_config: None = msgspec.field(default=None, name="generationConfig")
    text: None = None
    output_format: None = None
    output_config: None = None
    functions: None = None


_usual_decoder = msgspec.json.Decoder(_Usual)
_decoder = msgspec.json.Decoder(_Fields)
_FIELD_NAMES: Final = tuple((f.name, f.encode_name, f.type is msgspec.Raw) for f in msgspec.structs.fields(_Fields))


class RequestFacts(msgspec.Struct, frozen=True, gc=False):
    """Facts of a JSON body. `readable` is false for anything but a JSON object; the rest is empty then."""

    readable: bool = False
    model: str = ""
    """At most 1 KiB of valid UTF-8; empty when there is none or it is no string."""
    stream: bool = False
    include_usage: bool = False
    """The client itself asked for usage in an OpenAI chat stream."""
    message_count: int = 0
    content_bytes: int = 0
    """UTF-8 bytes of text in messages, system prompts and tool results."""
    max_tokens: int = 0
    tools_present: bool = False
    structured_output: bool = False
    marks: tuple[str, ...] = ()


NO_FACTS: Final = RequestFacts()
_OBJECT_START: Final = re.compile(rb"[ \t\r\n]*\{")


def body_kind(content_type: str) -> BodyKind:
    """How to look for a model. Only what cannot be JSON is opaque: many clients send JSON under another type."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return "multipart"
    if media_type.startswith(("multipart/", "audio/", "video/", "image/")) or media_type == "application/octet-stream":
        return "opaque"
    return "json"


def json_facts(body: bytes | bytearray) -> RequestFacts:
    """Read the facts of a request body. Any bytes will do; never raises."""
    try:
        usual = _usual_decoder.decode(body)
    except (ValueError, RecursionError):
        return _any_facts(body)
    if len(usual.messages) > _NODE_LIMIT:
        return _any_facts(body)
    content_bytes = 0
    for message in usual.messages:
        text = message.content
        content_bytes += len(text) if text.isascii() else _utf8_bytes(text)
    model, cut = clean_value(usual.model)
    options = usual.stream_options
    return RequestFacts(
        readable=True,
        model=model,
        stream=usual.stream,
        include_usage=options is not None and options.get("include_usage") is True,
        message_count=len(usual.messages),
        content_bytes=content_bytes,
        max_tokens=_count(usual.max_completion_tokens) or _count(usual.max_tokens),
        tools_present=bool(usual.tools) and _is_filled_list(usual.tools),
        structured_output=usual.response_format is not None and _is_format(usual.response_format),
        marks=(MARK_MODEL_TRUNCATED,) if cut else (),
    )


def _any_facts(body: bytes | bytearray) -> RequestFacts:
    """The facts of any body."""
    if not _OBJECT_START.match(body):
        return NO_FACTS
    fields = _read_fields(body)
    if fields is None:
        return NO_FACTS
    model, cut = clean_value(fields.model) if isinstance(fields.model, str) else ("", False)
    config = fields.google_config or fields.generation_config
    if not isinstance(config, dict):
        config = {}
    options = fields.stream_options
    return RequestFacts(
        readable=True,
        model=model,
        # Speech has a format for it, of which `audio` is no stream of events.
        stream=fields.stream is True or fields.stream_format == "sse",
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        message_count=_message_count(fields),
        content_bytes=_content_bytes(fields),
        max_tokens=_count(fields.max_completion_tokens)
        or _count(fields.max_output_tokens)
        or _count(fields.max_tokens)
        or _count(fields.max_tokens_to_sample)
        or _count(config.get("maxOutputTokens")),
        tools_present=_is_filled_list(fields.tools) or _is_filled_list(fields.functions),
        structured_output=_is_structured(fields, config),
        marks=(MARK_MODEL_TRUNCATED,) if cut else (),
    )


def _read_fields(body: bytes | bytearray) -> _Fields | None:
    """The body's top-level fields; None when it is no JSON object."""
    try:
        return _decoder.decode(body)
    except (ValueError, RecursionError):
        return _read_leniently(body)


def _read_leniently(body: bytes | bytearray) -> _Fields | None:
    """For NaN, half surrogate pairs and broken UTF-8: clients do send them, and some providers take them."""
    try:
        # Whole numbers as floats: no digit string is too long for them.
        found = json.loads(body.decode("utf-8", "replace"), parse_int=float)
    except (ValueError, RecursionError):
        return None
    values: dict[str, Any] = {}
    for name, json_name, is_raw in _FIELD_NAMES:
        if json_name in found:
            value = found[json_name]
            values[name] = msgspec.Raw(b"[0]" if value and isinstance(value, list) else b"") if is_raw else value
    return _Fields(**values)


def _message_count(fields: _Fields) -> int:
    """Messages of the conversation, whatever the dialect; a plain prompt is one."""
    for value in (fields.messages, fields.contents, fields.input, fields.prompt):
        if isinstance(value, list):
            return [type(item) for item in value[:_NODE_LIMIT]].count(dict)
        if isinstance(value, str):
            return 1
    return 0


def _content_bytes(fields: _Fields) -> int:
    """UTF-8 bytes of all text at the places that hold text, to any depth, for at most `_NODE_LIMIT` values."""
    waiting: list[Any] = [
        fields.messages,
        fields.input,
        fields.contents,
        fields.content,
        fields.requests,
        fields.prompt,
        fields.system,
        fields.instructions,
        fields.system_instruction,
        fields.google_system,
    ]
    total = 0
    nodes_left = _NODE_LIMIT
    while waiting and nodes_left > 0:
        value = waiting.pop()
        if value is None:
            continue
        nodes_left -= 1
        if type(value) is dict:
            for key, item in value.items():
                if key in _TEXT_KEYS:
                    if type(item) is str:
                        total += _utf8_bytes(item)
                    elif item:
                        waiting.append(item)
        elif type(value) is str:
            total += _utf8_bytes(value)
        elif type(value) is list:
            waiting += value
    return total


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _is_filled_list(raw: msgspec.Raw) -> bool:
    data = bytes(raw)
    return data[:1] == b"[" and data[1:].lstrip()[:1] != b"]"


def _count(value: object) -> int:
    """A positive whole number within 31 bits, or 0."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(min(value, _COUNT_LIMIT)) if value > 0 else 0


def _is_structured(fields: _Fields, config: dict[str, object]) -> bool:
    """Whether the answer must follow a format: each dialect's switch, when it is on and not plain text."""
    text, output = fields.text, fields.output_config
    return (
        _is_format(fields.response_format)
        or _is_format(fields.output_format)
        or (isinstance(text, dict) and _is_format(text.get("format")))
        or (isinstance(output, dict) and _is_format(output.get("format")))
        or config.get("responseMimeType") == "application/json"
        or bool(config.get("responseSchema") or config.get("responseJsonSchema"))
    )


def _is_format(value: object) -> bool:
    """A string is the file format of audio or an image, not a structure."""
    return isinstance(value, dict) and value.get("type", "text") != "text"


_MODEL_PATH: Final = re.compile(
    rf"/(models/|tunedModels/|deployments/)(.+?)(?:(?::|%3[Aa])(?:{GEMINI_VERBS})|/operations/[^/]*)?\Z", re.DOTALL
)
_STREAM_PATH: Final = re.compile(r"[^?]*(?::|%3[Aa])streamGenerateContent(?:\?|\Z)")


def model_in_path(raw_target: str) -> str:
    """The model that a raw request target names, percent-decoded and at most 1 KiB; empty when it names none.

    `models/NAME:verb`, `models/NAME`, `tunedModels/NAME:verb`, `deployments/NAME/…`, and `?model=NAME` (realtime).
    """
    place = model_place(raw_target)
    if place:
        collection, start, end = place
        name = raw_target[start:end]
        if collection == "tunedModels/":
            name = collection + name
    else:
        name = query_value(raw_target.partition("?")[2], "model")
    return clean_value(unquote(name, errors="replace"))[0]


def model_place(raw_target: str) -> tuple[str, int, int] | None:
    """Where a path has its model: the collection before it (`models/`), the name's beginning and end in the target."""
    found = _MODEL_PATH.search(raw_target.partition("?")[0])
    if not found:
        return None
    name = found[2].partition("/")[0] if found[1] == "deployments/" else found[2]
    return found[1], found.start(2), found.start(2) + len(name)


def path_streams(raw_target: str) -> bool:
    """Whether the path itself asks for a stream: Google's native API has no field for it."""
    return _STREAM_PATH.match(raw_target) is not None
