"""Audio and images: transcriptions, translations, speech, image generations.

In: a Call. Out: a Reply: JSON, text, SSE or binary. Usage only where the provider has it: OpenAI and Azure with JSON
formats (tokens, or duration for whisper), never Groq, never speech, never dall-e.
"""

import base64
from typing import Any, Final

from deploy.local.providers.call import Call, Reply, data_event, json_reply
from deploy.local.providers.failures import stream_failure
from deploy.local.providers.tokens import audio_seconds
from deploy.local.providers.usage import media_usage

AUDIO_TYPES: Final = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "opus": "audio/opus",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
)
"""A picture of one pixel."""
TEXT_FORMATS: Final = frozenset({"text", "srt", "vtt"})


def transcription(call: Call) -> Reply:
    """Answer POST /audio/transcriptions and /audio/translations."""
    form = str(call.body.get("response_format", "json"))
    if form in TEXT_FORMATS:
        return Reply(content_type="text/plain; charset=utf-8", pieces=(f"{call.text}\n".encode(),))
    if call.streams and call.route.provider != "groq":
        return _transcript_stream(call)
    document: dict[str, Any] = {"text": call.text}
    if form == "verbose_json":
        seconds = float(_seconds(call))
        task = "translate" if call.route.endpoint.endswith("translations") else "transcribe"
        segment = {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": seconds,
            "text": call.text,
            "tokens": [1, 2, 3],
            "temperature": 0.0,
            "avg_logprob": -0.1,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
        document = {"task": task, "language": "english", "duration": seconds, **document, "segments": [segment]}
    if call.route.provider == "groq":
        document["x_groq"] = {"id": call.object_id("req_")}
    else:
        document["usage"] = _transcript_usage(call)
    return json_reply(document)


def speech(call: Call) -> Reply:
    """Answer POST /audio/speech: bytes that are no text, without usage; SSE with `stream_format: sse`."""
    audio = b"ID3\x04\x00" + bytes(range(256)) * 16
    if call.body.get("stream_format") != "sse":
        kind = AUDIO_TYPES.get(str(call.body.get("response_format", "mp3")), "audio/mpeg")
        return Reply(content_type=kind, pieces=(audio,))
    usage = {
        "input_tokens": call.counts.input_tokens,
        "output_tokens": call.counts.visible_tokens,
        "total_tokens": call.counts.input_tokens + call.counts.visible_tokens,
    }
    halves = (audio[:2048], audio[2048:])
    events: list[dict[str, Any]] = [
        *({"type": "speech.audio.delta", "audio": base64.b64encode(half).decode()} for half in halves),
        {"type": "speech.audio.done", "usage": usage},
    ]
    return _events(call, events)


def images(call: Call) -> Reply:
    """Answer POST /images/generations and /images/edits."""
    picture = base64.b64encode(PNG).decode()
    counts = call.counts
    usage = media_usage(counts, input_kind="text", output_kind="image")
    if call.streams:
        stem = "image_edit" if call.route.endpoint.endswith("edits") else "image_generation"
        shared = {"b64_json": picture, "created_at": call.created_s, "size": "1024x1024", "quality": "low"}
        return _events(
            call,
            [
                {"type": f"{stem}.partial_image", **shared, "partial_image_index": 0},
                {"type": f"{stem}.completed", **shared, "usage": usage},
            ],
        )
    number = call.body.get("n")
    rows = [{"b64_json": picture}] * (number if isinstance(number, int) and 0 < number <= 10 else 1)  # noqa: PLR2004 - the API's limit
    document: dict[str, Any] = {"created": call.created_s, "data": rows}
    if call.route.provider in {"openai", "azure"} and not call.requested_model.startswith("dall-e"):
        document["usage"] = usage
    return json_reply(document)


def _events(call: Call, events: list[dict[str, Any]]) -> Reply:
    return Reply(
        content_type="text/event-stream; charset=utf-8",
        pieces=tuple(data_event(event, name=str(event["type"])) for event in events),
        failure_event=stream_failure(call.route),
    )


def _transcript_stream(call: Call) -> Reply:
    deltas = [{"type": "transcript.text.delta", "delta": piece} for piece in call.pieces]
    done = {"type": "transcript.text.done", "text": call.text, "usage": _transcript_usage(call)}
    return _events(call, [*deltas, done])


def _transcript_usage(call: Call) -> dict[str, Any]:
    if "whisper" in call.requested_model:
        return {"type": "duration", "seconds": _seconds(call)}
    counts = call.counts
    return {
        "type": "tokens",
        "input_tokens": counts.input_tokens,
        "output_tokens": counts.visible_tokens,
        "total_tokens": counts.input_tokens + counts.visible_tokens,
        "input_token_details": {"audio_tokens": counts.input_tokens, "text_tokens": 0},
    }


def _seconds(call: Call) -> int:
    return audio_seconds(sum(len(upload.content) for upload in call.uploads))
