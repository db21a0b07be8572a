"""Mock LLM providers: one process that answers like OpenAI, Anthropic, Groq, Gemini and Azure OpenAI.

In: HTTP requests below a prefix per provider (`/openai /anthropic /groq /gemini /azure`) that mirrors the real base.
Out: answers in that provider's own dialect, with token counts that a test can compute by itself (tokens.py).
Never: contacts anything, keeps anything on disk, or chooses a behaviour from a request header or a model name.

Reading order, which is the way of a request:

    __main__    options, start, stop
    app         one handler: record, decide, deliver
    control     the `/_mock/...` interface: behaviours, received requests, hits
    recording   what was received and how it ended (bounded)
    routing     raw path -> provider, surface, endpoint (pure)
    answering   the decision: refuse, or understand and answer
    auth        which credential each provider takes (pure)
    reading     body bytes -> JSON object or multipart fields (pure)
    tokens      request -> token counts (pure; the formula is documented there)
    call        one understood request, input of every dialect (pure)
    endpoints   (provider, method, endpoint) -> dialect function (pure)
    chat chat_stream responses messages gemini media catalog    the dialects (pure): Call -> Reply
    usage models failures heads    parts the dialects share (pure)
    behaviour profile    what the control interface or the command line ordered for this request
    encoding delivery    Reply -> bytes on the wire, cut, slowed, compressed or broken off as ordered

ANSWER_MARKER begins every invented answer, so that a leak test can search logs, events and tables for it.
"""

from typing import Final

ANSWER_MARKER: Final = "mock-answer-quartz"
"""First word of every answer text that was not ordered through a behaviour."""

WRONG_KEY_MARK: Final = "wrong-key"
"""A credential that contains this is refused with the provider's own 401."""

PROVIDERS: Final = ("openai", "anthropic", "groq", "gemini", "azure")
"""The path prefixes, and the names used in the control interface."""
