"""Values that a client chooses stay values: they make no line in the provider's request and no other path."""

import json

import pytest

from tests.canaries import QUERY_SECRET
from tests.conformance.cases_response import JSON
from tests.conformance.scripts import answers, ok
from tests.conformance.site import Site, fault_of

ENCODED_LINE_ENDS = (
    b"%0d%0aX-Evil: 1",
    b"%0D%0AX-Evil:%201",
    b"%250d%250aX-Evil: 1",
    b"\\r\\nX-Evil: 1",
    b"\\u000d\\u000aX-Evil: 1",
    b"&#13;&#10;X-Evil: 1",
    # Their low bytes are CR and LF, which a careless narrowing would keep.
    "嘍嘊X-Evil: 1".encode(),
    # Line ends elsewhere: NEL, LS, PS.
    "\x85\u2028\u2029X-Evil: 1".encode(),
)
RAW_LINE_ENDS = (b"\rX-Evil: 1", b"\nX-Evil: 1", b"\r\n X-Evil: 1", b"\x00X-Evil: 1")
FIELDS = (b"X-Lectr-Feature", b"X-Lectr-Task", b"X-Lectr-Provider", b"X-Any")


@pytest.mark.parametrize("value", ENCODED_LINE_ENDS)
@pytest.mark.parametrize("field", FIELDS)
def test_encoded_line_end_in_a_field(site: Site, field: bytes, value: bytes) -> None:
    """A line end in disguise is part of the value: the provider gets no line that the client did not send."""
    site.provider.script = answers(ok(b"{}"))
    request = site.request().replace(b"X-Lectr-Feature: conformance\r\n", b"")
    request = request.replace(b"Authorization", field + b": a" + value + b"\r\nAuthorization")
    with site.client() as client:
        client.send(request)
        assert client.answer().body == b"{}"
    lines = site.provider.request.head.lines
    names = [line.partition(b":")[0] for line in lines]
    assert names == [b"Host", *([b"X-Any"] if field == b"X-Any" else []), b"Authorization"]
    if field == b"X-Lectr-Feature":
        assert site.event("a" + value.decode()).status == 200


@pytest.mark.parametrize("value", RAW_LINE_ENDS)
@pytest.mark.parametrize("field", FIELDS)
def test_raw_line_end_in_a_field(site: Site, field: bytes, value: bytes) -> None:
    """A raw CR, LF, NUL or fold inside a value is refused, and nobody is asked."""
    with site.client() as client:
        client.send(site.request("GET /v1/models HTTP/1.1", field + b"-Not: 1", field + b": a" + value))
        answer = client.answer()
    assert (answer.status, fault_of(answer)) == (400, "invalid_request")
    assert site.provider.asked == []
    site.assert_free()


@pytest.mark.parametrize(
    "value", ["a\r\nX-Evil: 1\r\n\r\n", "../../evil", "a/../..", "a?b=c", "a#b", "嘍嘊X: 1", "..", "a b"]
)
def test_model_in_an_azure_path(site: Site, value: str) -> None:
    """A model's name that becomes part of Azure's path stays one segment of it, whatever is in it."""
    site.provider.script = answers(ok(b"{}"))
    body = json.dumps({"model": value, "messages": []}).encode()
    lines = (b"X-Lectr-Provider: azure", JSON, b"Content-Length: %d" % len(body))
    with site.client() as client:
        client.send(site.request("POST /v1/chat/completions HTTP/1.1", *lines, body=body))
        answer = client.answer()
    assert answer.status in {200, 400, 404}
    for request in site.provider.asked:
        path, _, query = request.target.partition(b"?")
        assert path.startswith(b"/azure/openai/")
        assert query == b"api-version=2024-10-21"
        assert b".." not in path.split(b"/")
        assert len(path.split(b"/")) in {5, 7}
        assert request.body == body
        assert b"X-Evil" not in b"".join(request.head.lines)


@pytest.mark.parametrize("query", ["X-Lectr-Key=KEY", "x-lectr-key=KEY", "key=KEY", "lectr_key=KEY"])
def test_our_key_in_the_query(site: Site, query: str) -> None:
    """Our key counts in its header only: in a query, where proxies log it, it opens nothing."""
    request = site.request(f"GET /v1/models?{query.replace('KEY', site.key.decode())} HTTP/1.1")
    with site.client() as client:
        client.send(request.replace(b"X-Lectr-Key: " + site.key + b"\r\n", b""))
        answer = client.answer()
    assert (answer.status, fault_of(answer)) == (401, "missing_lectr_key")
    assert site.provider.asked == []


def test_provider_key_in_the_query(site: Site) -> None:
    """A provider's key in the query goes to the provider as sent, and is in no event."""
    site.provider.script = answers(ok(b"{}"))
    feature = "conformance-query-key"
    with site.client() as client:
        client.send(site.request(f"GET /v1/models?key={QUERY_SECRET}&a=%2F HTTP/1.1", feature=feature))
        assert client.answer().body == b"{}"
    assert site.provider.request.target.endswith(f"/models?key={QUERY_SECRET}&a=%2F".encode())
    assert QUERY_SECRET not in repr(site.event(feature))
