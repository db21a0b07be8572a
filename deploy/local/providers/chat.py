"""Chat and legacy completions as one JSON body, in five variants.

In: a Call. Out: a Reply; streaming calls are handed to chat_stream. Covers OpenAI, Azure, Groq and the OpenAI layers of
Gemini and Anthropic.
"""

from typing import Any, Final

from deploy.local.providers.call import Call, Reply, json_reply
from deploy.local.providers.chat_stream import stream_chat
from deploy.local.providers.usage import chat_usage, latency_checkpoint

SAFE: Final = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
"""Azure's verdict on every text."""

INDENTS: Final = {"openai": 2, "gemini": 2}


def chat(call: Call) -> Reply:
    """Answer POST /chat/completions."""
    if call.streams:
        return stream_chat(call, legacy=False)
    message: dict[str, Any] = {"role": "assistant", "content": call.text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": _finish(call)}
    provider = call.route.provider
    if provider in {"openai", "azure"}:
        message |= {"refusal": None, "annotations": []}
    if provider != "gemini":
        choice["logprobs"] = None
    if provider == "azure":
        choice["content_filter_results"] = SAFE
    document = {**_envelope(call, "chatcmpl-", "chat.completion"), "choices": [choice], **_closing(call)}
    return json_reply(document, indent=INDENTS.get(provider))


def completions(call: Call) -> Reply:
    """Answer POST /completions."""
    if call.streams:
        return stream_chat(call, legacy=True)
    choice = {"text": call.text, "index": 0, "logprobs": None, "finish_reason": _finish(call)}
    document = {**_envelope(call, "cmpl-", "text_completion"), "choices": [choice], **_closing(call)}
    return json_reply(document, indent=INDENTS.get(call.route.provider))


def _envelope(call: Call, prefix: str, kind: str) -> dict[str, Any]:
    return {"id": call.object_id(prefix), "object": kind, "created": call.created_s, "model": call.model}


def _closing(call: Call) -> dict[str, Any]:
    provider = call.route.provider
    usage = chat_usage(provider, call.counts)
    if provider == "azure":
        usage["latency_checkpoint"] = latency_checkpoint(call.counts)
        results = [{"prompt_index": 0, "content_filter_results": SAFE}]
        return {
            "usage": usage,
            "prompt_filter_results": results,
            "service_tier": "default",
            "system_fingerprint": "fp_mock",
        }
    if provider == "groq":
        return {
            "usage": usage,
            "usage_breakdown": None,
            "system_fingerprint": "fp_mock",
            "x_groq": {"id": call.object_id("req_")},
            "service_tier": "on_demand",
        }
    if provider == "openai":
        return {"usage": usage, "service_tier": "default", "system_fingerprint": "fp_mock"}
    return {"usage": usage}


def _finish(call: Call) -> str:
    return "length" if call.counts.limited else "stop"
