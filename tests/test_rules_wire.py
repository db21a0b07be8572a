"""What a rule changes of a request, byte by byte: the model, for another provider the credential, and nothing else."""

import gzip
import json
from collections.abc import Iterator
from typing import Final

import pytest

from gateway import redirect
from tests.mock_process import MockProcess, mock_process
from tests.registry_site import NEVER_S, sites
from tests.rules_site import OWN_KEY
from tests.wire_site import CREDENTIALS, DEPLOYMENT, MODEL, QUOTED, SETTINGS, Wired, framed

CHAT: Final = "/v1/chat/completions"
JSON: Final = ("Content-Type", "application/json")
FORM: Final = ("Content-Type", "multipart/form-data; boundary=B")
OWN: Final = ("Authorization", f"Bearer {OWN_KEY}")
ODD_FIELDS: Final = [("x-oDD", "1"), ("X-Odd", " two  words"), ("Accept", "*/*"), ("X-Odd", "1"), ("User-Agent", "é")]


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Wired]:
    with sites(tmp_path_factory.mktemp("wired"), mock) as made:
        made.start(LECTR_REGISTRY_POLL_S=NEVER_S, **SETTINGS).wait()
        wired = Wired(made)
        yield wired
        wired.close()


BODIES: Final = {
    "as SDKs write it": b'{"messages": [{"role": "user", "content": "hi"}], "model": "gpt-4o"}',
    "spacing": b' {\r\n\t"model"\t :\n "gpt-4o" ,  "messages":[ ] ,"z":1.50e+01}\n',
    "escaped value": b'{"model":"gpt-4o","messages":[],"user":"\\u00e9\\/ \xc3\xa9"}'.replace(b"4o", b"4\\u006f"),
    "escaped key": b'{"messages":[],"mod\\u0065l":"gpt-4o"}',
    "twice": b'{"model":"gpt-4o","messages":[],"model":"gpt-4o"}',
    "twice, once escaped": b'{ "tools":[{"model":"x"}], "mod\\u0065l" :\t"gpt-4o","messages":[], "model":"gpt-4o" }',
    "nested before": b'{"tools":[{"model":"gpt-4o-x"},{"a":{"model":"y"}}],"messages":[],"model":"gpt-4o"}',
    "nested behind": b'{"model":"gpt-4o","metadata":{"model":"gpt-4o-x"},"messages":[]}',
    "quoted": b'{"messages":[{"content":"\\"model\\": \\"gpt-4o\\", \'model\'"}],"model":"gpt-4o"}',
    "lenient": b'{"temperature":NaN,"stop":"\\ud800","model":"gpt-4o","messages":[],"n":1E400}',
}
"""Each is asked for `gpt-4o`, or for the same written otherwise; the name stands nowhere else with both its quotes."""


def with_model(body: bytes, model: str) -> bytes:
    value = json.dumps(model, ensure_ascii=False).encode()
    return body.replace(b'"gpt-4o"', value).replace(b'"gpt-4\\u006f"', value)


@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize(("feature", "model"), [("same", MODEL), ("quoted", QUOTED)])
def test_of_json_the_model_alone_is_another(
    wired: Wired, what: str, feature: str, model: str, *, chunked: bool
) -> None:
    """The provider gets the client's bytes but for the model's value, its header lines in order, and the new length."""
    got = wired.send(feature, CHAT, BODIES[what], JSON, OWN, *ODD_FIELDS, chunked=chunked)
    assert got.body == with_model(BODIES[what], model)
    assert (got.provider, got.path) == ("openai", "/openai/v1/chat/completions")
    assert framed(got.fields) == [(name, value.strip()) for name, value in [JSON, OWN, *ODD_FIELDS]]
    assert got.of("content-length", "transfer-encoding") == {"content-length": str(len(got.body))}


def form(model: str, *, last: bool = False, size: int = 100) -> bytes:
    """A form for a transcription, the model before or behind the file."""
    named = f'--B\r\nX-More: a\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'.encode()
    file = b'--B\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\nwhisper-1\r\n\r\n--A whisper-1'
    file += b"\0\xff\r\n" * size + b'\r\n--B\r\ncontent-disposition: form-data; name="not_model"\r\n\r\nwhisper-1\r\n'
    return b"before\r\n" * (not last) + (file + named if last else named + file) + b"--B--\r\nbehind"


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("feature", ["same", "groq"])
def test_of_a_form_the_model_alone_is_another(wired: Wired, feature: str, *, last: bool, chunked: bool) -> None:
    """So it is with a form, wherever it has its model, and whichever provider gets it."""
    got = wired.send(feature, "/v1/audio/transcriptions", form("whisper-1", last=last), FORM, OWN, chunked=chunked)
    assert got.body == form(MODEL, last=last)
    assert got.provider == ("groq" if feature == "groq" else "openai")


@pytest.mark.parametrize("feature", ["same", "groq"])
def test_of_a_form_that_is_streamed_the_model_alone_is_another(wired: Wired, feature: str) -> None:
    """A form too large to be held: its length is right, and so is every byte of the file."""
    got = wired.send(feature, "/v1/audio/transcriptions", form("whisper-1", size=500_000), FORM, OWN)
    assert got.body == form(MODEL, size=500_000)
    assert got.of("content-length", "transfer-encoding") == {"content-length": str(len(got.body))}


GOOGLE: Final = b'{"contents":[{"parts":[{"text":"models/gemini-3-pro"}]}],"model":"models/gemini-3-pro"}'
KEPT: Final = "key=canary&x=%41%2f&model=gemini-3-pro"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"/v1beta/models/gemini-3-pro:generateContent?{KEPT}", f"v1beta/models/{MODEL}:generateContent?{KEPT}"),
        (f"/v1/models/gemini-3-pro:generateContent?{KEPT}", f"v1/models/{MODEL}:generateContent?{KEPT}"),
        (
            f"/v1beta/models/gemini%2d3-pro%3AstreamGenerateContent?alt=sse&{KEPT}",
            f"v1beta/models/{MODEL}%3AstreamGenerateContent?alt=sse&{KEPT}",
        ),
        (f"/v1beta/tunedModels/mine:generateContent?{KEPT}", f"v1beta/models/{MODEL}:generateContent?{KEPT}"),
    ],
)
def test_of_a_path_the_model_alone_is_another(wired: Wired, target: str, expected: str) -> None:
    """Google's native API has the model in the path: there it is replaced; the body and all else go as they came."""
    got = wired.send("same", target, GOOGLE, JSON, *ODD_FIELDS)
    assert (got.provider, got.path, got.body) == ("gemini", f"/gemini/{expected}", GOOGLE)
    assert framed(got.fields) == [(name, value.strip()) for name, value in [JSON, *ODD_FIELDS]]


def test_of_an_azure_path_the_deployment_alone_is_another(wired: Wired) -> None:
    """Of a dated Azure path the deployment's name is replaced; the body names a model that nobody reads."""
    target = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-02-01&x=%41"
    got = wired.send("same", target, BODIES["spacing"], JSON, ("api-key", OWN_KEY))
    expected = f"/azure{target.replace('gpt-4o', MODEL)}"
    assert (got.provider, got.path, got.body) == ("azure", expected, BODIES["spacing"])
    assert framed(got.fields) == [JSON, ("api-key", OWN_KEY)]


def test_what_cannot_be_edited_goes_as_it_came(wired: Wired) -> None:
    """A body in an encoding is never opened: the same bytes go to the provider that was asked."""
    body = gzip.compress(BODIES["spacing"])
    got = wired.send("groq", CHAT, body, JSON, OWN, ("Content-Encoding", "gzip"))
    assert (got.provider, got.body, got.of("authorization")) == ("openai", body, {"authorization": f"Bearer {OWN_KEY}"})


ANTHROPIC: Final = [("X-Api-Key", OWN_KEY), ("anthropic-version", "2023-06-01")]
ASKED: Final = b'{"model": "gpt-4o", "messages": [], "input": "x", "prompt": "y", "max_tokens": 5}'
SENT: Final = with_model(ASKED, MODEL)
DEPLOYED: Final = with_model(ASKED, DEPLOYMENT)
DATED: Final = "azure/openai/deployments/team%20chat"
VERSION: Final = "?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("target", "fields", "provider", "path"),
    [
        (CHAT, [OWN], "groq", "groq/openai/v1/chat/completions"),
        (CHAT, [OWN], "gemini", "gemini/v1beta/openai/chat/completions"),
        (CHAT, [OWN], "anthropic", "anthropic/v1/chat/completions"),
        (CHAT, [OWN], "azure", f"{DATED}/chat/completions{VERSION}"),
        (CHAT, ANTHROPIC, "openai", "openai/v1/chat/completions"),
        (CHAT, ANTHROPIC, "groq", "groq/openai/v1/chat/completions"),
        (CHAT, [("api-key", OWN_KEY)], "openai", "openai/v1/chat/completions"),
        (CHAT, [("x-goog-api-key", OWN_KEY)], "anthropic", "anthropic/v1/chat/completions"),
        ("/v1/v1/chat/completions", [OWN], "groq", "groq/openai/v1/chat/completions"),
        ("/openai/v1/chat/completions", [OWN], "openai", "openai/v1/chat/completions"),
        ("/openai/v1/chat/completions", [OWN], "anthropic", "anthropic/v1/chat/completions"),
        ("/v1beta/openai/chat/completions", [OWN], "openai", "openai/v1/chat/completions"),
        ("/v1beta/openai/chat/completions", [OWN], "azure", f"{DATED}/chat/completions{VERSION}"),
        ("/v1/responses", [OWN], "groq", "groq/openai/v1/responses"),
        ("/v1/responses", [OWN], "azure", f"azure/openai/responses{VERSION}"),
        ("/v1/embeddings", [OWN], "gemini", "gemini/v1beta/openai/embeddings"),
        ("/v1/embeddings", [OWN], "azure", f"{DATED}/embeddings{VERSION}"),
        ("/v1/completions", [OWN], "azure", f"{DATED}/completions{VERSION}"),
        ("/v1/audio/speech", [OWN], "groq", "groq/openai/v1/audio/speech"),
        ("/v1/audio/speech", [OWN], "azure", f"{DATED}/audio/speech{VERSION}"),
        ("/v1/images/generations", [OWN], "gemini", "gemini/v1beta/openai/images/generations"),
        ("/v1/images/generations", [OWN], "azure", f"{DATED}/images/generations{VERSION}"),
        ("/v1/messages", ANTHROPIC, "azure", "azure/anthropic/v1/messages"),
        ("/v1/messages", [*ANTHROPIC, ("X-Lectr-Provider", "azure")], "anthropic", "anthropic/v1/messages"),
        ("/v1/messages/count_tokens", ANTHROPIC, "azure", "azure/anthropic/v1/messages/count_tokens"),
    ],
)
def test_another_provider_is_asked_in_its_own_way(
    wired: Wired, target: str, fields: list[tuple[str, str]], provider: str, path: str
) -> None:
    """Its own path, its own field for keys with the installation's key in it, the model or its deployment's name."""
    got = wired.send(provider, target, ASKED, JSON, *fields, ("X-Odd", "1"))
    # The mock's Azure has no Claude.
    assert (got.provider, got.path, got.status) == (provider, f"/{path}", 404 if "azure/anthropic" in path else 200)
    assert got.body == (DEPLOYED if provider == "azure" and "/deployments/" not in path else SENT)
    key = CREDENTIALS[provider]
    wanted = {"anthropic": {"x-api-key": key}, "azure": {"api-key": key}}.get(
        provider, {"authorization": f"Bearer {key}"}
    )
    if "azure/anthropic" in path:
        wanted["x-api-key"] = key
    assert got.of("authorization", "api-key", "x-api-key", "x-goog-api-key") == wanted
    assert OWN_KEY not in json.dumps(got.record)
    kept = [field for field in fields if field[0] == "anthropic-version"]
    assert [field for field in framed(got.fields) if field[0].lower() not in wanted] == [JSON, *kept, ("X-Odd", "1")]


ACCOUNT: Final = {
    "Authorization": f"Bearer {OWN_KEY}",
    "x-api-key": OWN_KEY,
    "API-Key": OWN_KEY,
    "x-goog-api-key": OWN_KEY,
    "Cookie": f"session={OWN_KEY}",
    "OpenAI-Organization": f"org-{OWN_KEY}",
    "openai-project": f"proj-{OWN_KEY}",
    "X-Goog-User-Project": OWN_KEY,
    "anthropic-beta": f"beta-{OWN_KEY}",
}


def test_all_of_an_account_is_tried() -> None:
    """The list of what is the client's own and the list that is tried here are the same."""
    assert {name.lower().encode() for name in ACCOUNT} == redirect._CREDENTIALS | redirect._ACCOUNT


@pytest.mark.parametrize("provider", [one for one in CREDENTIALS if one != "openai"])
@pytest.mark.parametrize("name", ACCOUNT)
def test_nothing_of_the_clients_account_goes_to_another_provider(wired: Wired, name: str, provider: str) -> None:
    """Its keys, cookies, organisation, project and beta features stay with the provider that it asked."""
    field = (name, ACCOUNT[name])
    asks_openai = ("X-Lectr-Provider", "openai")
    got = wired.send(provider, CHAT, ASKED, asks_openai, field, JSON)
    assert (got.provider, got.status) == (provider, 200)
    assert OWN_KEY not in json.dumps(got.record)
    assert field in wired.send("same", CHAT, ASKED, asks_openai, field, JSON).fields


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (f"?key={OWN_KEY}", ""),
        (f"?key={OWN_KEY}&x=%41", "?x=%41"),
        (f"?x=1&key={OWN_KEY}&y=+&key={OWN_KEY}", "?x=1&y=+"),
        ("?api-version=2024-10-21&monkey=1", "?monkey=1"),
    ],
)
def test_no_key_in_a_query_goes_to_another_provider(wired: Wired, query: str, left: str) -> None:
    """Google's key and Azure's version are taken out of the query; every other byte of it stays."""
    got = wired.send("groq", f"{CHAT}{query}", ASKED, ("X-Lectr-Provider", "gemini"), JSON)
    assert (got.provider, got.path) == ("groq", f"/groq/openai/v1/chat/completions{left}")


@pytest.mark.parametrize(
    ("body", "expected"), [(ASKED, SENT), (BODIES["twice"], with_model(BODIES["twice"], MODEL))], ids=["once", "twice"]
)
def test_from_an_azure_path_the_model_moves_into_the_body(wired: Wired, body: bytes, expected: bytes) -> None:
    """Elsewhere no path names the deployment: the body's model is what counts there, so it is the rule's."""
    target = f"/openai/deployments/gpt-4o/chat/completions{VERSION}"
    got = wired.send("openai", target, body, JSON, ("api-key", OWN_KEY))
    assert (got.provider, got.path, got.status, got.body) == ("openai", "/openai/v1/chat/completions", 200, expected)


def test_at_an_azure_path_of_another_provider_the_model_is_in_the_body(wired: Wired) -> None:
    """So it is where the client itself sends such a path to another provider."""
    target = f"/openai/deployments/gpt-4o/chat/completions{VERSION}"
    got = wired.send("same", target, ASKED, JSON, OWN, ("X-Lectr-Provider", "openai"))
    assert (got.provider, got.path, got.body) == ("openai", f"/openai/v1/chat/completions{VERSION}", SENT)


def test_from_an_azure_path_without_a_model_in_the_body(wired: Wired) -> None:
    """A body that names none cannot be asked elsewhere: it goes to Azure, as it came."""
    target = f"/openai/deployments/gpt-4o/chat/completions{VERSION}"
    got = wired.send("openai", target, b'{"messages": []}', JSON, ("api-key", OWN_KEY))
    assert (got.provider, got.path, got.status, got.body) == ("azure", f"/azure{target}", 200, b'{"messages": []}')
