"""The Responses API: create (whole, streamed, in the background), replay by id, compact, count input tokens.

In: a Call; for a replay the Call that created the response. Out: a Reply. Usage stands in the terminal event only; a
background creation answers `queued` with usage null, and its usage appears on a later GET. There is no [DONE].
"""

from typing import Any, Final

from deploy.local.providers.call import Call, Reply, data_event, json_reply
from deploy.local.providers.chat_stream import PADDING
from deploy.local.providers.failures import stream_failure
from deploy.local.providers.usage import responses_usage

PREFIX: Final = "resp_"


def create_response(call: Call) -> Reply:
    """Answer POST /responses."""
    if call.body.get("background") and not call.streams:
        return json_reply({**_response(call, "queued"), "background": True}, indent=2)
    return replay_response(call, streams=call.streams)


def replay_response(call: Call, *, streams: bool) -> Reply:
    """Answer GET /responses/{id}: the finished response with its usage again, as JSON or as the events again."""
    if not streams:
        return json_reply(_finished(call), indent=2)
    events = _events(call)
    bare = call.route.provider in {"groq", "azure"}
    return Reply(
        content_type="text/event-stream" if bare else "text/event-stream; charset=utf-8",
        pieces=tuple(
            data_event({**event, "sequence_number": number}, name=event["type"]) for number, event in enumerate(events)
        ),
        failure_event=stream_failure(call.route, responses=True, sequence_number=len(events)),
    )


def compact_response(call: Call) -> Reply:
    """Answer POST /responses/compact."""
    return json_reply(
        {
            "id": call.object_id(PREFIX),
            "object": "response.compaction",
            "created_at": call.created_s,
            "output": [{"id": call.object_id("cmp_"), "type": "compaction", "encrypted_content": "bW9jaw=="}],
            "usage": responses_usage(call.route.provider, call.counts),
        },
    )


def count_input_tokens(call: Call) -> Reply:
    """Answer POST /responses/input_tokens."""
    return json_reply({"object": "response.input_tokens", "input_tokens": call.counts.input_tokens})


def _response(call: Call, status: str) -> dict[str, Any]:
    return {
        "id": call.object_id(PREFIX),
        "object": "response",
        "created_at": call.created_s,
        "status": status,
        "background": bool(call.body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": call.body.get("max_output_tokens"),
        "model": call.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": call.body.get("store", True) is not False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "metadata": {},
    }


def _finished(call: Call) -> dict[str, Any]:
    status = "incomplete" if call.counts.limited else "completed"
    document = _response(call, status)
    document["output"] = [_message(call, status, [_text_part(call.text)])]
    document["usage"] = responses_usage(call.route.provider, call.counts)
    if call.counts.limited:
        document["incomplete_details"] = {"reason": "max_output_tokens"}
    return document


def _message(call: Call, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": call.object_id("msg_"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _events(call: Call) -> list[dict[str, Any]]:
    finished = _finished(call)
    place: dict[str, Any] = {"item_id": call.object_id("msg_"), "output_index": 0, "content_index": 0}
    deltas = [
        {
            "type": "response.output_text.delta",
            **place,
            "delta": piece,
            "logprobs": [],
            "obfuscation": PADDING[: index % len(PADDING)],
        }
        for index, piece in enumerate(call.pieces)
    ]
    done = _message(call, finished["status"], [_text_part(call.text)])
    return [
        {"type": "response.created", "response": _response(call, "in_progress")},
        {"type": "response.in_progress", "response": _response(call, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": _message(call, "in_progress", [])},
        {"type": "response.content_part.added", **place, "part": _text_part("")},
        *deltas,
        {"type": "response.output_text.done", **place, "text": call.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": _text_part(call.text)},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": f"response.{finished['status']}", "response": finished},
    ]
