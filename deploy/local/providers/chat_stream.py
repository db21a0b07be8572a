"""Chat and legacy completions as SSE, with each provider's traps.

In: a Call. Out: a Reply with one piece per event.

    openai             usage null in every chunk and one usage chunk, only with include_usage; obfuscation padding
    azure              first chunk with empty id, model, object and choices; content filter results; latency_checkpoint
    groq               x_groq.usage and usage in the finish chunk always, a third copy with include_usage
    gemini             running usage in every chunk whatever was asked, prompt_tokens one too high until the last one
    anthropic (layer)  as openai, without the padding
"""

from typing import Any, Final

from deploy.local.providers.call import Call, Reply, data_event
from deploy.local.providers.failures import stream_failure
from deploy.local.providers.usage import chat_usage, groq_usage, latency_checkpoint

DONE: Final = b"data: [DONE]\n\n"
PADDING: Final = "DqJu7xKfPa0Zt3Rb"


def stream_chat(call: Call, *, legacy: bool) -> Reply:
    """Answer a streaming chat completion, or a legacy text completion."""
    provider = call.route.provider
    if provider == "gemini":
        events = _gemini_events(call)
    elif provider == "groq":
        events = _groq_events(call)
    else:
        events = _openai_events(call, legacy=legacy)
    bare = provider in {"groq", "azure", "gemini"}
    return Reply(
        content_type="text/event-stream" if bare else "text/event-stream; charset=utf-8",
        pieces=(*(data_event(event) for event in events), DONE),
        failure_event=stream_failure(call.route),
    )


def _openai_events(call: Call, *, legacy: bool) -> list[dict[str, Any]]:
    provider = call.route.provider
    events: list[dict[str, Any]] = []
    base = _base(call, legacy=legacy)
    if provider != "anthropic":
        base |= {"service_tier": "default", "system_fingerprint": "fp_mock"}
    ending: dict[str, Any] = {"usage": None} if call.includes_usage else {}
    if provider == "azure":
        prompt_filter = [
            {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
        ]
        events.append(
            {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": prompt_filter},
        )
    for index, choice in enumerate(_choices(call, legacy=legacy)):
        filtered: dict[str, Any] = {"content_filter_results": {}} if provider == "azure" else {}
        padding = {"obfuscation": PADDING[: index % len(PADDING)]} if provider == "openai" else {}
        events.append({**base, "choices": [{**choice, **filtered}], **ending, **padding})
    if call.includes_usage:
        last = {**base, "choices": [], "usage": chat_usage(provider, call.counts)}
        if provider == "azure":
            last["latency_checkpoint"] = latency_checkpoint(call.counts)
        if provider == "openai":
            last["obfuscation"] = ""
        events.append(last)
    return events


def _groq_events(call: Call) -> list[dict[str, Any]]:
    base = {**_base(call, legacy=False), "system_fingerprint": "fp_mock"}
    events = [{**base, "choices": [choice]} for choice in _choices(call, legacy=False)]
    identity = call.object_id("req_")
    usage = groq_usage(call.counts)
    events[0]["x_groq"] = {"id": identity}
    events[-1] |= {"x_groq": {"id": identity, "usage": usage}, "usage": usage}
    if call.includes_usage:
        events.append({**base, "choices": [], "usage": usage, "service_tier": "on_demand"})
    return events


def _gemini_events(call: Call) -> list[dict[str, Any]]:
    events = []
    pieces = call.pieces or ("",)
    final = chat_usage("gemini", call.counts)
    for index, piece in enumerate(pieces):
        choice: dict[str, Any] = {"delta": {"content": piece, "role": "assistant"}, "index": 0}
        usage = final
        if index + 1 < len(pieces):
            prompt = call.counts.input_tokens + 1
            usage = {"completion_tokens": index, "prompt_tokens": prompt, "total_tokens": prompt + index}
        else:
            choice["finish_reason"] = _finish(call)
        events.append(
            {
                "choices": [choice],
                "created": call.created_s,
                "model": call.model,
                "object": "chat.completion.chunk",
                "usage": usage,
            },
        )
    return events


def _base(call: Call, *, legacy: bool) -> dict[str, Any]:
    prefix, kind = ("cmpl-", "text_completion") if legacy else ("chatcmpl-", "chat.completion.chunk")
    return {"id": call.object_id(prefix), "object": kind, "created": call.created_s, "model": call.model}


def _choices(call: Call, *, legacy: bool) -> list[dict[str, Any]]:
    """Return the single choice of every chunk: role, one text piece each, finish."""
    finish = {"logprobs": None, "finish_reason": _finish(call)}
    going = {"logprobs": None, "finish_reason": None}
    if legacy:
        texts = [{"index": 0, "text": piece, **going} for piece in call.pieces]
        return [*texts, {"index": 0, "text": "", **finish}]
    role: dict[str, Any] = {"role": "assistant", "content": ""}
    if call.route.provider in {"openai", "azure"}:
        role["refusal"] = None
    deltas: list[dict[str, Any]] = [role, *({"content": piece} for piece in call.pieces)]
    chunks = [{"index": 0, "delta": delta, **going} for delta in deltas]
    return [*chunks, {"index": 0, "delta": {}, **finish}]


def _finish(call: Call) -> str:
    return "length" if call.counts.limited else "stop"
