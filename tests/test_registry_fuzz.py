"""Whatever stands where a record of an organisation should be: it is named and counted, and costs nobody but itself."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.directory import Directory
from shared.organisation import MOST_KEYS, MOST_RULES
from shared.registry import (
    CHANGES_CHANNEL,
    MOST_RECORD_BYTES,
    ORGS_KEY,
    VERSION_KEY,
    RegistryFault,
    decode_org,
    encode_org,
    hash_key,
)
from tests.canaries import provider_key
from tests.lectr import chat
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, fetch, wait_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, ask, metric, org_of, ready, sites, until_status

GOOD: Final[dict[str, Any]] = {
    "org": "acme",
    "version": 7,
    "keys": [{"name": "default", "sha256": "a" * 64, "limits": {"requests_per_s": 5.5, "concurrent_streams": 3}}],
    "azure": [{"endpoint": "https://acme.openai.azure.com", "api_version": "2024-10-21", "deployments": {"m": "d"}}],
    "base_urls": {"groq": "https://llm.example/v1"},
    "credentials": {"groq": "env:GROQ_KEY"},
    "rules": [{"name": "r", "feature": "f", "target": {"provider": "groq", "model": "m"}, "failover": [{}]}],
    "budgets": [{"name": "b", "limit_usd": "250.00"}],
    "prices": [{"provider": "openai", "model": "m*", "input_usd": "1", "output_usd": "2"}],
    "drain_features": ["*"],
}
DEEP: Final = b'{"org":"deep","version":1,"newer":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD_RECORDS: Final = "lectr_gateway_registry_bad_records_total"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from places(one, (*path, name))


PLACES: Final = list(places(GOOD))


def mutated(path: tuple[Any, ...], value: Any) -> bytes:
    """The good record with one value replaced."""
    record = json.loads(json.dumps(GOOD))
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(record).encode()


def spliced(cut: tuple[int, int, bytes]) -> bytes:
    """The good record with some bytes replaced by others."""
    start, length, instead = cut
    record = json.dumps(GOOD).encode()
    return record[:start] + instead + record[start + length :]


records = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(mutated, st.sampled_from(PLACES), json_values),
    st.tuples(st.integers(0, 700), st.integers(0, 40), st.binary(max_size=8)).map(spliced),
)


@given(records)
@example(DEEP)
@example(b'{"org":"acme","version":1}' + b" " * MOST_RECORD_BYTES)
@example(b'{"org":"","version":1}')
@example(b'{"org":"acme\\n","version":1}')
@example(b'{"org":"a\\u0000b","version":1}')
@example(mutated(("keys", 0, "name"), "default\n"))
@example(mutated(("budgets", 0, "limit_usd"), "1e-999999"))
@example(mutated(("budgets", 0, "limit_usd"), "sNaN"))
@example(mutated(("rules", 0, "feature"), "key_sha256"))
def test_a_record_is_read_or_refused(record: bytes) -> None:
    """Any bytes are an organisation or a RegistryFault of one short line; what was read can be kept and served."""
    try:
        org = decode_org(record)
    except RegistryFault as fault:
        said = str(fault)
        assert said.startswith("registry record unreadable: ")
        assert len(said) < 400
        return
    kept = encode_org(org)
    assert encode_org(decode_org(kept)) == kept
    directory = Directory()
    assert directory.merge([org]) == [org]
    for key in org.keys:
        access = directory.find(key.sha256)
        assert access is not None
        assert access.limits.body_bytes is None or access.limits.body_bytes > 0
        access.account.rules.find("f", "", "openai", "gpt-4o")
        access.account.budgets.applying_to("f")


def test_what_a_newer_release_adds_is_passed_over() -> None:
    """Fields that nobody knows, at every level and of any kind, are none of this reader's business."""
    for path in ((), ("keys", 0), ("keys", 0, "limits"), ("azure", 0), ("rules", 0), ("rules", 0, "target")):
        values: tuple[Any, ...] = (None, 1, "x", [1], {"a": {"b": []}})
        for value in values:
            assert decode_org(mutated((*path, "newer"), value)) == decode_org(json.dumps(GOOD).encode())


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    with sites(tmp_path_factory.mktemp("fuzz"), mock) as made:
        yield made


def hostile(count: int) -> list[bytes]:
    """Records that nobody can read, of every kind."""
    draw, found = random.Random(11), [DEEP, b"", b"null", b"[]", b"\xff\xfe", b"{" * 10_000]
    wrong: tuple[Any, ...] = (None, -1, 1.5, "", "x" * 2_000, [], {}, [None], True, 10**30)
    while len(found) < count:
        path, value = draw.choice(PLACES), draw.choice(wrong)
        kinds = (mutated(path, value), spliced((draw.randrange(600), 1, draw.randbytes(3))), draw.randbytes(50))
        record = draw.choice(kinds)
        try:
            decode_org(record)
        except RegistryFault:
            found.append(record)
    return found


def test_a_hundred_hostile_records_beside_a_good_one(site: Site) -> None:
    """Stored, pushed and in the copy on disk: each is counted and named, and the good one is served all along."""
    key, records = site.create("good"), hostile(100)
    state = site.directory / "hostile" / "state"
    state.mkdir(parents=True)
    lines = [record for record in records if b"\n" not in record and record.strip()]
    (state / "registry.jsonl").write_bytes(b"\n".join((encode_org(org_of("kept", "kept", 5)), *lines)) + b"\n")
    with site.client() as client:
        for number, record in enumerate(records):
            client.hset(ORGS_KEY, f"hostile-{number:03d}", record)
        client.set(VERSION_KEY, "not a number")
        gateway = site.start("hostile", LECTR_REGISTRY_POLL_S=NEVER_S).wait()
        assert ask(gateway, "kept") == 200
        until_status(gateway, key, 200, "read beside a hundred hostile records")
        read = len(lines) + len(records) + 1
        wait_until(lambda: metric(gateway, BAD_RECORDS) == read)
        for record in records:
            client.publish(CHANGES_CHANNEL, record)
        wait_until(lambda: metric(gateway, BAD_RECORDS) == read + len(records))
    found = [json.loads(line) for line in gateway.output.splitlines() if line.startswith("{")]
    named = {line.get("org") for line in found if line["event"] == "registry_record_unreadable"}
    assert named >= {f"hostile-{number:03d}" for number in range(100)} | {"acme"}
    copy = next(line for line in found if line["event"] == "registry_copy_unreadable")
    assert (copy["lines"], copy["first"]) == (len(lines), 2)
    assert "registry_version_unreadable" in gateway.output
    until_status(gateway, site.create("later"), 200, "create beside a hundred hostile records")
    assert ask(gateway, key) == 200
    assert ready(gateway)[1]["redis"] == "ok"
    assert "Traceback" not in gateway.output
    with site.client() as client:
        client.delete(*(name for name in (ORGS_KEY, VERSION_KEY)))


def settle(gateway: Gateway, site: Site, name: str) -> None:
    """Until the gateway has taken what was stored before: pushes come in order."""
    with site.client() as client:
        client.publish(CHANGES_CHANNEL, encode_org(org_of(name, name, 1)))
    wait_until(lambda: ask(gateway, name) == 200)


def odd_organisations(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What can be read and hardly was meant; by name."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "\u00fc" * 150
    texts = ["", " ", "http://", "https://a b/", "http://[::1", "http://h:99999", "ftp://x", "//h", "http://..", "no"]
    texts += ["http://u:p@h", "http://h/\r\nX: y", "http://h#f", "http://h\u00fc", "http://" + "a" * 70 + ".example"]
    references = [f"file:{pipe}", "file:", "file:/", "file:/dev/zero", "env:", "env:PATH", "sk-pasted", "", "\0", ":"]
    urls = {f"url-{number}": {"base_urls": {"openai": url}} for number, url in enumerate(texts)}
    azures = {f"azure-{number}": {"azure": [{"endpoint": url}]} for number, url in enumerate(texts)}
    versions = {"azure-version": {"azure": [{"endpoint": "http://127.0.0.1:1", "api_version": "2024\r\n\u00fc"}]}}
    rule = {"name": "r", "target": {"provider": "groq", "model": "m"}}
    credentials = {
        f"reference-{number}": {"credentials": {"groq": reference}, "rules": [rule]}
        for number, reference in enumerate(references)
    }
    budgets = {
        f"budget-{number}": {"budgets": [{"name": "b", "limit_usd": amount, "action": "block"}]}
        for number, amount in enumerate(["NaN", "Infinity", "1e-999999", "1e999999", "-1", "0"])
    }
    return {
        "many-rules": {
            "rules": [
                {"name": f"r{number}", "model": f"{text}{number}*", "target": {"model": text}}
                for number in range(MOST_RULES)
            ]
        },
        "many-keys": {"more_keys": MOST_KEYS - 1},
        "odd-limits": {"limits": {"requests_per_s": 1e-300, "burst_requests": 1}},
        "odd-target": {"rules": [{"name": "r", "target": {"model": "\u0000\u202e" + text}}]},
        **urls,
        **azures,
        **versions,
        **credentials,
        **budgets,
    }


def test_odd_organisations_are_served_or_refused_by_name(site: Site, tmp_path: Path) -> None:
    """Records within their types' bounds: answered by the provider or by a documented fault, never with 500."""
    gateway = site.start("odd", LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    orgs = odd_organisations(tmp_path)
    refused = set()
    with site.client() as client:
        for name, fields in orgs.items():
            more = range(fields.pop("more_keys", 0))
            keys = [{"name": "default", "sha256": hash_key(name)}]
            keys += [{"name": f"k{number}", "sha256": hash_key(f"{name} {number}")} for number in more]
            record = json.dumps({"org": name, "version": 1, "keys": keys, **fields}, ensure_ascii=False)
            refused |= set() if is_readable(record) else {name}
            client.publish(CHANGES_CHANNEL, record)
    settle(gateway, site, "after-odd")
    assert {name.partition("-")[0] for name in refused} <= {"budget"}, "whose amounts have bounds of their own"
    assert metric(gateway, BAD_RECORDS) == len(refused)
    for name in orgs.keys() - refused:
        for provider in ("", "azure") if name.startswith("azure") else ("",):
            status, code = told(gateway, name, provider)
            expected = {(200, "")}
            if name.startswith("url"):
                expected = {(502, "provider_unreachable")}
            elif provider:
                expected = {(400, "azure_config_missing"), (502, "provider_unreachable")}
            assert (status, code) in expected, (name, provider, status, code)
    assert told(gateway, "odd-limits", "") == (429, "rate_limit_exceeded")
    assert ask(gateway, f"many-keys {MOST_KEYS - 2}") == 200
    assert metric(gateway, "lectr_gateway_handler_faults_total") == 0
    assert metric(gateway, "lectr_gateway_rule_faults_total") == 0
    assert provider_key("registry") not in gateway.output


def is_readable(record: str) -> bool:
    try:
        decode_org(record)
    except RegistryFault:
        return False
    return True


def told(gateway: Gateway, key: str, provider: str) -> tuple[int, str]:
    """Status of a request, and the code of a fault of ours."""
    fields = {"X-Lectr-Key": key, "Authorization": f"Bearer {provider_key('registry')}", "X-Lectr-Provider": provider}
    body = json.dumps(chat()).encode()
    status, answer = fetch(f"{gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")
    return status, "" if status == 200 else str(json.loads(answer)["error"]["code"])


def test_an_edit_heals_an_unreadable_version(site: Site) -> None:
    """Where the highest version should stand and something else does, the next edit counts, and sets it anew."""
    operator = Operator(site.redis_url)
    try:
        with site.client() as client:
            client.set(VERSION_KEY, "garbage")
            made, _ = operator.create_org("healed")
            assert int(client.get(VERSION_KEY) or 0) == made.version
    finally:
        operator.close()


def test_an_edit_stores_nothing_that_nobody_can_read(site: Site) -> None:
    """An organisation whose version is the highest there is cannot be edited any more: said, and nothing is stored."""
    operator = Operator(site.redis_url)
    last = encode_org(org_of("last", "last", 2**53))
    try:
        with site.client() as client:
            client.hset(ORGS_KEY, "last", last)
            with pytest.raises(RegistryFault, match="version"):
                operator.set_enabled("last", enabled=False)
            assert client.hget(ORGS_KEY, "last") == last
    finally:
        operator.close()
