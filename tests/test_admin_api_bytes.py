"""The admin HTTP API at the level of bytes: bodies that are too large, or wait, and what is no HTTP at all."""

import json
from collections.abc import Iterator

import pytest

from dashboard.api.malformed import malformed
from dashboard.api.operation import MOST_BODY_BYTES
from tests.admin_api import PREFIX, SECRET, AdminApi, admin_apis
from tests.raw_http import connect, read_all, read_until


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    with admin_apis(tmp_path_factory.mktemp("admin_bytes")) as made:
        made.ok("POST", "/orgs", {"org": "acme"})
        yield made


def test_a_body_that_is_too_large(api: AdminApi) -> None:
    """413 for a byte over the limit, announced or not; the largest that passes is read to its end."""
    largest = b'{"org": "' + b"x" * (MOST_BODY_BYTES - 11) + b'"}'
    assert api.refused("POST", "/orgs", largest) == (422, "invalid_value", "org")
    assert api.refused("POST", "/orgs", largest + b" ") == (413, "request_too_large", None)
    with connect(api.url) as client:
        client.sendall(head("Transfer-Encoding: chunked"))
        sent = 0
        try:
            while sent <= MOST_BODY_BYTES:
                client.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                sent += 0x10000
            answer = read_all(client)
        except ConnectionError:
            answer = b""
    assert answer[9:12] in {b"413", b""}


def head(*fields: str, secret: str = SECRET, line: str = f"POST {PREFIX}/orgs HTTP/1.1") -> bytes:
    lines = [
        line,
        "Host: lectr",
        f"Authorization: Bearer {secret}",
        "Content-Type: application/json",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (b"nonsense\r\n\r\n", None),
        (b"GET / HTTP/9.9\r\n\r\n", None),
        (head("Content-Length: nonsense"), "Content-Length"),
        (head("Content-Length: 5", "Transfer-Encoding: chunked"), "Transfer-Encoding"),
        (head("Content-Length: 5", "Content-Length: 6"), "Content-Length"),
        (head("Content-Type: text/plain"), "Content-Type"),
        (head("Host: other"), "Host"),
        (head("X-Lectr-Actor: velvet\x01"), "X-Lectr-Actor"),
        (head("x-lectr-actor: velvet\x00", "X: x"), "X-Lectr-Actor"),
        (head("X-Lectr-Actor: velvet\nharbour"), "X-Lectr-Actor"),
        (head(secret=f"{SECRET}\x7f"), "Authorization"),
        (head(" folded: a"), None),
        (head("bad header: x"), None),
        (head("X: \x00"), None),
        (head("X: " + "x" * 10_000), None),
        (head(*(f"X-{number}: x" for number in range(200))), None),
        (head("Transfer-Encoding: chunked") + b"nonsense\r\n", None),
    ],
)
def test_malformed_http(api: AdminApi, sent: bytes, field: str | None) -> None:
    """400 in the one form of errors, with the header where that is known, and the connection is closed.

    Without a word of what was sent.
    """
    with connect(api.url) as client:
        client.sendall(sent)
        answer = read_all(client)
    answer_head, _, body = answer.partition(b"\r\n\r\n")
    assert answer_head[:13] in {b"HTTP/1.0 400 ", b"HTTP/1.1 400 "}
    assert b"application/json" in answer_head
    error = json.loads(body)["error"]
    assert (error["code"], error["field"]) == ("invalid_request", field)
    assert error["message"].startswith(f"{field}: " if field else "")
    assert b"velvet" not in answer
    assert api.ask("GET", "/healthz", secret=None).status == 200


def test_a_body_that_waits_is_called_for_after_the_secret(api: AdminApi) -> None:
    """`Expect: 100-continue`: with a wrong secret no body is asked for, with the right one it is."""
    body = b'{"enabled": true}'
    line = f"PATCH {PREFIX}/orgs/acme HTTP/1.1"
    fields = ("Expect: 100-continue", f"Content-Length: {len(body)}", "Connection: close")
    with connect(api.url) as client:
        client.sendall(head(*fields, secret="wrong", line=line))
        assert read_until(client, b"\r\n").startswith(b"HTTP/1.1 401 ")
    with connect(api.url) as client:
        client.sendall(head(*fields, line=line))
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "nothing that is known",
        "Invalid header value char",
        "Duplicate 'Velvet' header found.",
        "Got more than velvet",
    ],
)
def test_what_another_parser_says(said: str) -> None:
    """A text that is not known, as of another release, is told without it and without a header."""
    message, field = malformed(said)
    assert message
    assert "elvet" not in message
    assert field is None
