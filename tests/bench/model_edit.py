"""What it costs to put another model's name into a request: `python -m tests.bench.model_edit` prints us per body.

Beside each the time of `json_facts`, which reads every body once anyway. The best of some rounds; nothing is asserted.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from gateway.form_edit import replace_form_model
from gateway.model_edit import replace_model, replace_path_model
from gateway.request_body import json_facts

_LARGEST = 2 * 1024 * 1024
_ROUND_S = 0.05
_ROUNDS = 7
_TEXT = "Refunds are paid to the card that was charged, within five working days. "
_FORM = "multipart/form-data; boundary=B"


def _chat(size: int, *, model_last: bool = False, **more: Any) -> bytes:
    text = (_TEXT * (size // len(_TEXT) + 1))[: max(size - 120, 0)]
    model, rest = {"model": "gpt-4o"}, {"messages": [{"role": "user", "content": text}], "stream": True, **more}
    return json.dumps({**rest, **model} if model_last else {**model, **rest}, separators=(",", ":")).encode()


def _filled(before: bytes, piece: bytes, after: bytes) -> bytes:
    return before + piece * ((_LARGEST - len(before) - len(after)) // len(piece)) + after


def bodies() -> Iterator[tuple[str, bytes]]:
    """Usual bodies, and what a client can do at worst."""
    tool = {"type": "function", "function": {"parameters": {"properties": {"model": {"type": "string"}}}}}
    usual = _chat(1_000)
    yield "1 KB", usual
    yield "1 KB, model at the end", _chat(1_000, model_last=True)
    yield "1 KB, escaped key", usual.replace(b'"model"', b'"mod\\u0065l"')
    yield "1 KB, a tool has a model too", _chat(1_000, tools=[tool])
    yield "1 KB, half a surrogate pair", usual.replace(b"Refunds", b"\\ud83d")
    yield "100 KB", _chat(100_000)
    yield "100 KB, model at the end", _chat(100_000, model_last=True)
    yield "100 KB, a tool has a model too", _chat(100_000, tools=[tool])
    large = _chat(_LARGEST)
    yield "2 MiB of text", large
    yield "2 MiB of text, model at the end", _chat(_LARGEST, model_last=True)
    yield "2 MiB of text, escaped key", large.replace(b'"model"', b'"mod\\u0065l"')
    yield "2 MiB of text, a tool has a model too", _chat(_LARGEST, tools=[tool])
    yield "2 MiB of text, half a surrogate pair", large.replace(b"Refunds", b"\\ud83d")
    start, end, late = b'{"model":"a","x":[', b"0]}", b'0],"model":"a"}'
    for name, piece in (("numbers", b"1,"), ("lists", b"[],"), ("strings", b'"",'), ("objects", b'{"a":1},')):
        yield f"2 MiB of {name}", _filled(start, piece, end)
        yield f"2 MiB of {name}, model at the end", _filled(b'{"x":[', piece, late)
        yield f"2 MiB of {name}, escaped key", _filled(start.replace(b"o", b"\\u006f"), piece, end)
        yield f"2 MiB of {name}, two keys, NaN at the end", _filled(b'{"model":"b",' + start[1:], piece, b"NaN]}")
    yield "2 MiB of NaN", _filled(start, b"NaN,", end)
    yield "2 MiB of half pairs", _filled(start, b'"\\ud83d",', end)
    yield "2 MiB of members", _filled(b"{", b'"a":1,', b'"model":"a"}')
    yield "2 MiB of members, two keys, NaN at the end", _filled(b'{"model":"a",', b'"a":1,', b'"b":NaN,"model":"a"}')
    yield "2 MiB of members, escaped key, NaN", _filled(b'{"m\\u006fdel":"a",', b'"":1,', b'"b":NaN,"model":"a"}')
    yield "2 MiB of keys, too many", _filled(b"{", b'"model":"a",', b'"model":"a"}')
    yield "2 MiB of escaped quotes", _filled(b'{"x":"', b'\\"model":', b'","model":"a"}')
    yield "2 MiB of nesting", _filled(b'{"model":"a","x":', b"[", b"")


def _best_us(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        calls, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < _ROUND_S:
            call()
            calls += 1
        best = min(best, spent / calls)
    return best * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'us':48}{'replace':>10}{'json_facts':>12}  edited")
    for name, body in bodies():
        edited = replace_model(body, "claude-opus-5-5") is not None
        replacing = _best_us(lambda body=body: replace_model(body, "claude-opus-5-5"))  # type: ignore[misc]
        reading = _best_us(lambda body=body: json_facts(body))  # type: ignore[misc]
        print(f"{name:48}{replacing:10.1f}{reading:12.1f}  {'yes' if edited else 'no'}", flush=True)
    form = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--B\r\n' + bytes(16_384)
    target = "/v1beta/models/gemini-3-flash:generateContent?alt=sse"
    print(f"{'form, 16 KiB held':48}{_best_us(lambda: replace_form_model(form, _FORM, 'whisper-2')):10.1f}")
    print(f"{'path':48}{_best_us(lambda: replace_path_model(target, 'gemini-3-pro')):10.1f}")


if __name__ == "__main__":
    main()
