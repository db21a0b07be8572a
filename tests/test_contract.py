"""The header reference, cell by cell: status, what the provider received, and the row that was stored."""

import http.client
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.canaries import PROMPT, provider_key
from tests.lectr import Lectr, quoted
from tests.parts import admin, wait_until

KEY = provider_key("contract")
BEARER = f"Bearer {KEY}"
VALID = "<the organisation's key>"

numbers = itertools.count(1_000)
"""Sent as max_tokens: the one stored column that a case can choose freely, so that it finds its own row."""


@dataclass(frozen=True)
class Case:
    """What is sent (None: header left out) and what must come of it."""

    name: str
    key: str | None = VALID
    authorization: str | None = BEARER
    feature: str | bytes | None = None
    task: str | None = None
    provider: str | None = None
    model: str = "gpt-4o-mini"
    status: int = 200
    code: str = ""
    hits: int = 1
    upstream: str = "openai"
    sent: dict[str, str] = field(default_factory=dict)
    """Header fields that the provider must have received."""
    not_sent: tuple[str, ...] = ()
    row: dict[str, Any] | None = field(default_factory=dict)
    """Columns that the row must have; None: there must be no row."""


def refused(name: str, key: str | None, code: str) -> Case:
    return Case(name, key=key, status=401, code=code, hits=0, row=None)


def feature(name: str, value: str | bytes | None, stored: str, marks: tuple[str, ...] = ()) -> Case:
    return Case(f"feature {name}", feature=value, row={"feature": stored, "marks": list(marks)})


def task(name: str, value: str | None, stored: str, marks: tuple[str, ...] = ()) -> Case:
    return Case(f"task {name}", task=value, row={"task": stored, "marks": list(marks)})


CASES = [
    # X-Lectr-Key
    Case("key valid", row={"org": "acme", "status": 200}),
    refused("key missing", None, "missing_lectr_key"),
    refused("key empty", "", "missing_lectr_key"),
    refused("key blank", "   ", "missing_lectr_key"),
    refused("key without prefix", "nonsense", "invalid_lectr_key"),
    refused("key unknown", "lc_key_" + "x" * 43, "invalid_lectr_key"),
    refused("key of 100 characters", "lc_key_" + "x" * 93, "invalid_lectr_key"),
    refused("key of 101 characters", "lc_key_" + "x" * 94, "invalid_lectr_key"),
    refused("key of 1,000 characters", "lc_key_" + "x" * 993, "invalid_lectr_key"),
    # Authorization
    Case("bearer as it is for openai", sent={"authorization": BEARER}, not_sent=("x-api-key", "api-key")),
    Case(
        "bearer as it is for groq",
        model="llama-3.3-70b-versatile",
        upstream="groq",
        sent={"authorization": BEARER},
        not_sent=("x-api-key", "api-key"),
        row={"provider": "groq"},
    ),
    Case(
        "bearer as it is for gemini",
        model="gemini-2.5-flash",
        upstream="gemini",
        sent={"authorization": BEARER},
        not_sent=("x-api-key", "api-key", "x-goog-api-key"),
        row={"provider": "gemini"},
    ),
    Case(
        "bearer becomes x-api-key for anthropic",
        model="claude-sonnet-4-5",
        upstream="anthropic",
        sent={"x-api-key": KEY},
        not_sent=("authorization", "api-key"),
        row={"provider": "anthropic"},
    ),
    Case(
        "bearer becomes api-key for azure",
        provider="azure",
        upstream="azure",
        sent={"api-key": KEY},
        not_sent=("authorization", "x-api-key"),
        row={"provider": "azure"},
    ),
    Case(
        "no authorization is the provider's to refuse",
        authorization=None,
        status=401,
        not_sent=("authorization", "x-api-key", "api-key"),
        row={"status": 401, "error_source": "provider", "error_category": "authentication"},
    ),
    Case("empty authorization", authorization="", status=401, row={"status": 401, "error_source": "provider"}),
    # X-Lectr-Feature
    feature("missing", None, "untagged"),
    feature("empty", "", "untagged"),
    feature("blank", "  ", "untagged"),
    feature("plain", "onboarding-assistant", "onboarding-assistant"),
    feature("one character", "x", "x"),
    feature("of 100 characters", "f" * 100, "f" * 100),
    feature("of 101 characters", "f" * 101, "f" * 101),
    feature("of 1,000 characters", "f" * 1_000, "f" * 1_000),
    feature("of 1,024 bytes", "f" * 1_024, "f" * 1_024),
    feature("of 1,025 bytes is cut with a mark", "f" * 1_025, "f" * 1_024, ("feature_truncated",)),
    feature("of 20,000 bytes is cut with a mark", "f" * 20_000, "f" * 1_024, ("feature_truncated",)),
    feature("with odd characters", "a b\t'\";--\\ {}<script>%00", "a b\t'\";--\\ {}<script>%00"),
    feature("that would break SQL", "'); DROP TABLE lectr.requests; --", "'); DROP TABLE lectr.requests; --"),
    feature("in UTF-8", "vergütung-日本-🎈".encode(), "vergütung-日本-🎈"),
    feature("that is not UTF-8", b"caf\xe9", "caf\ufffd"),
    feature("that looks like a key for nothing", "untagged", "untagged"),
    # X-Lectr-Task
    task("missing", None, ""),
    task("empty", "", ""),
    *(task(name, name, name) for name in ("classification", "summarisation", "extraction", "generation", "reasoning")),
    task("unknown", "poetry", "poetry"),
    task("in other case", "Reasoning", "Reasoning"),
    task("of 100 characters", "t" * 100, "t" * 100),
    task("of 101 characters", "t" * 101, "t" * 101),
    task("of 1,000 characters", "t" * 1_000, "t" * 1_000),
    task("of 1,025 bytes", "t" * 1_025, "t" * 1_024, ("task_truncated",)),
    # X-Lectr-Provider
    Case("provider missing: the model decides", row={"provider": "openai", "provider_source": "model", "marks": []}),
    Case("provider empty: the model decides", provider="", row={"provider": "openai", "provider_source": "model"}),
    *(
        Case(f"provider {name}", provider=name, upstream=name, row={"provider": name, "provider_source": "header"})
        for name in ("openai", "anthropic", "groq", "gemini", "azure")
    ),
    Case("provider in other case", provider="Groq", upstream="groq", row={"provider": "groq"}),
    Case(
        "provider overrides the model",
        provider="groq",
        model="claude-sonnet-4-5",
        upstream="groq",
        row={"provider": "groq", "provider_source": "header", "model_requested": "claude-sonnet-4-5"},
    ),
    Case(
        "provider unknown is treated as openai and noted",
        provider="bedrock",
        model="claude-sonnet-4-5",
        row={"provider": "openai", "provider_source": "header", "marks": ["provider_header_invalid"]},
    ),
    Case("provider of 1,000 characters", provider="p" * 1_000, row={"marks": ["provider_header_invalid"]}),
    Case(
        "model unknown goes to openai and is noted",
        model="nobody-knows-1",
        row={"provider": "openai", "provider_source": "default", "marks": ["provider_unknown"]},
    ),
]


def send(lectr: Lectr, case: Case, number: int) -> tuple[int, bytes]:
    """Send with http.client, which adds no header of its own but Host and Content-Length."""
    body = {
        "model": case.model,
        "max_tokens": number,
        "messages": [{"role": "user", "content": f"{PROMPT} {case.name}"}],
    }
    headers = {
        "X-Lectr-Key": lectr.key if case.key == VALID else case.key,
        "Authorization": case.authorization,
        "X-Lectr-Feature": case.feature,
        "X-Lectr-Task": case.task,
        "X-Lectr-Provider": case.provider,
        "Content-Type": "application/json",
    }
    connection = http.client.HTTPConnection(lectr.url.removeprefix("http://"), timeout=30)
    try:
        given = {name: value for name, value in headers.items() if value is not None}
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_header_cell(lectr: Lectr, case: Case) -> None:
    """Each value of each request header does exactly what the reference says."""
    number = next(numbers)
    lectr.mock.reset()
    status, body = send(lectr, case, number)
    assert status == case.status, body
    if case.code:
        error = json.loads(body)["error"]
        assert error["code"] == case.code
        assert error["type"] == "authentication_error"
    received = lectr.mock.requests()
    assert len(received) == case.hits
    if received:
        assert received[0]["provider"] == case.upstream
        fields = {name.lower(): value for name, value in received[0]["headers"]}
        assert not [name for name in fields if name.startswith("x-lectr")]
        assert {name: fields.get(name) for name in case.sent} == case.sent
        assert not set(case.not_sent) & set(fields)
    where = f"max_tokens = {number}"
    if case.row is None:
        # The next request's row is there before we look: had this one left a row, it would be there too.
        after = next(numbers)
        send(lectr, Case("after"), after)
        lectr.row(f"max_tokens = {after}")
        assert lectr.select(f"SELECT feature FROM lectr.requests WHERE {where}") == []
        return
    row = lectr.row(where)
    assert {name: row[name] for name in case.row} == case.row
    assert row["org"] == "acme"


def test_disabled_org_is_refused_and_recorded(lectr: Lectr) -> None:
    """The right key of a disabled organisation: 401 org_disabled, the provider is not contacted, a row says so."""
    made = admin(lectr.redis_url, "org", "create", "asleep")
    admin(lectr.redis_url, "org", "disable", "asleep")

    def refusal() -> bytes:
        status, body = lectr.post("/v1/chat/completions", {"model": "gpt-4o"}, X_Lectr_Key=made["key"])
        return body if status == 401 and b"org_disabled" in body else b""

    lectr.mock.reset()
    wait_until(refusal)
    assert lectr.mock.requests() == []
    row = lectr.rows(f"org = {quoted('asleep')}")[-1]
    assert (row["status"], row["error_category"], row["error_source"]) == (401, "authentication", "client")


def test_redis_and_sql_take_hostile_values_as_data(lectr: Lectr) -> None:
    """A feature that quotes its way out of SQL or Redis is a value like any other, and the table is still there."""
    hostile = "x\\' OR 1=1; FLUSHALL *3 $3 SET"
    number = next(numbers)
    assert send(lectr, Case("hostile", feature=hostile), number)[0] == 200
    assert lectr.row(f"max_tokens = {number}")["feature"] == hostile
    assert lectr.select("SELECT count() AS n FROM lectr.requests")[0]["n"] > 0
