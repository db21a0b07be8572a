"""Who gets into the admin HTTP API, with what, and what everybody else is told: always JSON, always of one form."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from dashboard.api.attempts import FAILED_AT_ONCE
from dashboard.api.operation import Operation
from shared.registry import ORGS_KEY
from tests.admin_api import PREFIX, SECRET, AdminApi, Reply, admin_apis, start_api
from tests.admin_api_cases import BODIES, CLOSED, ask, by_id, path_of
from tests.parts import fetch, running
from tests.registry_operator import Operator


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    with admin_apis(tmp_path_factory.mktemp("admin_door")) as made:
        operator = made.operator()
        operator.create_org("acme")
        operator.close()
        yield made


@pytest.fixture
def operator(api: AdminApi) -> Iterator[Operator]:
    made = api.operator()
    yield made
    made.close()


@pytest.fixture
def own_api(api: AdminApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start APIs with settings of a test's own, on the same Redis."""
    started: list[AdminApi] = []

    def start(**settings: str) -> AdminApi:
        made = start_api(tmp_path_factory.mktemp("own_api"), api.redis_url, **settings)
        started.append(made)
        return made.wait()

    yield start
    for made in started:
        with running(made.process):
            pass


def test_every_body_is_tried() -> None:
    """The cases here are those of the table: an operation that takes a body has one."""
    assert set(BODIES) == {one.id for one in CLOSED if one.body is not None}


# who


@pytest.mark.parametrize("one", CLOSED, ids=by_id)
def test_nothing_without_the_secret(api: AdminApi, operator: Operator, one: Operation) -> None:
    """401 with a challenge, whatever is asked; nothing is changed, and the body is not looked at."""
    before = operator.orgs()
    for body in (BODIES.get(one.id), b"\xff"):
        reply = api.ask(one.method, path_of(one), body, secret=None)
        assert reply.told == (401, "missing_admin_secret", None)
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="lectr admin"'
    assert operator.orgs() == before


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/openapi.json", "/metrics"])
def test_open_to_everybody(api: AdminApi, path: str) -> None:
    """These answer without the secret, and hold neither it nor anything of an organisation."""
    for method in ("GET", "HEAD"):
        reply = api.ask(method, path, secret=None)
        assert reply.status == 200
        assert b"acme" not in reply.data
        assert bool(reply.data) == (method == "GET")


def test_another_secret(own_api: Any) -> None:
    """Whatever is not Bearer and the secret is refused; the right one, in any case of Bearer, passes."""
    api = own_api()
    others = (SECRET[:-1], f"{SECRET}x", SECRET.upper(), "", "\xe9")
    for sent in (*(f"Bearer {other}" for other in others), f"Basic {SECRET}", SECRET, ""):
        assert api.ask("GET", f"{PREFIX}/orgs", Authorization=sent).told == (401, "invalid_admin_secret", None), sent
    assert api.ask("GET", f"{PREFIX}/orgs", Authorization=f"bEARER  {SECRET}").status == 200


def test_wrong_secrets_do_not_keep_the_right_one_out(own_api: Any) -> None:
    """After so many wrong secrets from one address, others are told to wait; the right one is served, each time.

    Who sends none at all guesses nothing.
    """
    api = own_api()
    for _ in range(3 * FAILED_AT_ONCE):
        assert api.ask("GET", f"{PREFIX}/orgs", secret=None).status == 401
    statuses = [api.ask("GET", f"{PREFIX}/orgs", secret=f"wrong {number}").status for number in range(50)]
    assert statuses[:FAILED_AT_ONCE] == [401] * FAILED_AT_ONCE
    assert set(statuses[FAILED_AT_ONCE:]) <= {401, 429}
    for _ in range(20):
        assert told_to_wait(api, "wrong").told == (429, "too_many_failed_attempts", None)
        assert api.ask("GET", f"{PREFIX}/orgs").status == 200
    assert api.ask("GET", "/healthz", secret=None).status == 200
    assert b'lectr_dashboard_refused_total{code="too_many_failed_attempts"}' in fetch(f"{api.url}/metrics")[1]


def test_who_must_wait_learns_nothing(own_api: Any) -> None:
    """However near the secret is, and whatever is asked for with it, the answer is the same byte for byte."""
    api = own_api()
    replies = [told_to_wait(api, wrong) for wrong in ("", "wrong", SECRET[:-1], f"{SECRET}x")]
    replies.append(told_to_wait(api, "wrong", "PUT", f"{PREFIX}/orgs/nobody/limits", b"\xff"))
    assert len({reply.data for reply in replies}) == 1
    assert {reply.headers["Retry-After"] for reply in replies} == {"1"}


def told_to_wait(api: AdminApi, wrong: str, *asked: Any) -> Reply:
    """The answer to a secret, sent as often as it takes until it is another than that it is wrong."""
    while (reply := api.ask(*(asked or ("GET", f"{PREFIX}/orgs")), secret=wrong)).status == 401:
        pass
    return reply


def test_too_many_requests(own_api: Any) -> None:
    """More than LECTR_ADMIN_REQUESTS_PER_S, and twice as many at once, are told to wait."""
    api = own_api(LECTR_ADMIN_REQUESTS_PER_S="1")
    replies = [api.ask("GET", f"{PREFIX}/orgs") for _ in range(30)]
    assert [reply.status for reply in replies[:2]] == [200, 200]
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.told == (429, "rate_limit_exceeded", None)
    assert refused.headers["Retry-After"] == "1"


# what


def test_every_answer_is_kept_by_nobody(api: AdminApi) -> None:
    """Good or bad: not to be stored, not to be sniffed, JSON, and no word of what serves it."""
    for method, path in (("GET", "/orgs"), ("GET", "/orgs/nobody"), ("GET", "/nowhere"), ("PUT", "/orgs")):
        headers = api.ask(method, PREFIX + path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Type"] == "application/json"
        assert headers["Server"] == "lectr"
        assert not any(name.lower().startswith("access-control") for name in headers)


@pytest.mark.parametrize("one", [one for one in CLOSED if "org" in one.parameters], ids=by_id)
def test_an_organisation_that_is_not_there(api: AdminApi, one: Operation) -> None:
    """404 for each operation on it."""
    assert ask(api, one, "nobody").told == (404, "org_not_found", None)


@pytest.mark.parametrize("one", [one for one in CLOSED if one.parameters], ids=by_id)
def test_a_name_that_can_be_none(api: AdminApi, one: Operation) -> None:
    """400 names the part of the path, whichever it is."""
    for name in one.parameters:
        for value in ("%0A", "a%0A", "-a", "a%2Fb", "%FF", "ä", "x" * 64):
            path = path_of(one, **{name: value})
            reply = api.ask(one.method, path.replace("ä", "%C3%A4"), BODIES.get(one.id))
            assert reply.told == (400, "invalid_request", name), path


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=A", "after"),
        ("after=", "after"),
        ("befor=a", "befor"),
    ],
)
def test_a_query_that_cannot_be_used(api: AdminApi, query: str, field: str) -> None:
    """400 names the parameter, one that is not known too."""
    assert api.refused("GET", f"/orgs?{query}") == (400, "invalid_request", field)


def test_where_no_query_belongs(api: AdminApi) -> None:
    """A parameter that no operation has is refused, not passed over."""
    assert api.refused("GET", "/orgs/acme?verbose=1") == (400, "invalid_request", "verbose")


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", f"{PREFIX}/orgs/", f"{PREFIX}/orgs/acme/nope", "/api/v2/orgs"]
)
def test_a_path_that_is_not_there(api: AdminApi, path: str) -> None:
    """404, with or without the secret."""
    for secret in (None, SECRET):
        assert api.ask("GET", path, secret=secret).told == (404, "unknown_path", None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", f"{PREFIX}/orgs", "GET, HEAD, POST"),
        ("POST", f"{PREFIX}/orgs/acme", "GET, HEAD, PATCH"),
        ("GET", f"{PREFIX}/orgs/acme/keys/default/rotate", "POST"),
        ("TRACE", f"{PREFIX}/orgs/acme/rules/test", "DELETE, PATCH, POST, PUT"),
        ("PROPFIND", "/healthz", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there(api: AdminApi, method: str, path: str, allowed: str) -> None:
    """405 tells those that are."""
    reply = api.ask(method, path)
    assert reply.told == (405, "method_not_allowed", None)
    assert reply.headers["Allow"] == allowed


def test_a_rule_may_have_the_name_of_a_path(api: AdminApi, operator: Operator) -> None:
    """A rule named `test` is set, switched and removed as every other."""
    for method, body in (("PUT", {}), ("PATCH", {"enabled": False}), ("DELETE", None)):
        api.ok(method, "/orgs/acme/rules/test", body)
    assert operator.org("acme").rules == ()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"org": "x"} x', b'{"org": "\\ud800"}', b'{"org": "\xff"}', b"\xff\xfe", b"[" * 100_000],
)
def test_what_is_no_json(api: AdminApi, body: bytes) -> None:
    """400 where a parser stops, 422 where it is JSON but no object; never a defect."""
    reply = api.ask("POST", f"{PREFIX}/orgs", body)
    assert reply.told in {(400, "invalid_json", None), (422, "invalid_value", None)}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ({}, "org"),
        ({"org": 5}, "org"),
        ({"org": None}, "org"),
        ({"org": "Upper"}, "org"),
        ({"org": "a\n"}, "org"),
        ({"org": "new", "more": 1}, "more"),
    ],
)
def test_values_that_cannot_be_used(api: AdminApi, operator: Operator, body: Any, field: str | None) -> None:
    """422 names the field, one that is missing or not known too, and nothing is stored."""
    before = operator.orgs()
    assert api.refused("POST", "/orgs", body) == (422, "invalid_value", field)
    assert operator.orgs() == before


PRICE = {"provider": "groq", "model": "m", "input_usd": "1", "output_usd": "1"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (
            "rules",
            {"rules": [{"name": "a"}, {"name": "b", "failover": [{"provider": "nobody"}]}]},
            "rules[1].failover[0].provider",
        ),
        (
            "rules",
            {"rules": [{"name": "a"}, {"name": "b", "failover": [{"modle": "x"}]}]},
            "rules[1].failover[0].modle",
        ),
        ("rules", {"rules": [{"name": "a"}, {"name": "b", "model": "a*b"}]}, "rules[1].model"),
        ("rules", {"rules": [{"name": "a"}, {"name": "a"}]}, "rules"),
        ("rules/a", {"model": "a*b"}, "model"),
        ("budgets/a", {}, "limit_usd"),
        ("prices", {"prices": [PRICE, {**PRICE, "model": "a*b"}]}, "prices[1].model"),
        ("prices", {"prices": [PRICE, {**PRICE, "input_usd": "9999999999"}]}, "prices[1].input_usd"),
    ],
)
def test_a_field_deep_inside_is_named(api: AdminApi, path: str, body: Any, field: str) -> None:
    """By its way through the body, whichever check refuses it."""
    assert api.refused("PUT", f"/orgs/acme/{path}", body) == (422, "invalid_value", field)


def test_what_to_do_is_said_in_the_words_of_http(api: AdminApi) -> None:
    """An organisation that is not there, or there already: with the operation that helps, and no command."""
    for method, path, body, fix in (
        ("GET", "/orgs/nobody", None, "org 'nobody' does not exist; create it with POST /api/v1/orgs"),
        (
            "POST",
            "/orgs",
            {"org": "acme"},
            "org 'acme' exists; make a new key with POST /api/v1/orgs/{org}/keys/{key}/",
        ),
    ):
        message = api.ask(method, PREFIX + path, body).json["error"]["message"]
        assert message.startswith(fix)
        assert "org create" not in message
        assert "rotate-key" not in message


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/json5"},
        {"Content_Type": ""},
        {"Content_Encoding": "gzip"},
        {"Content_Type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_form_of_body(api: AdminApi, headers: dict[str, str]) -> None:
    """415 for whatever does not say that it is plain JSON."""
    assert api.refused("POST", "/orgs", {"org": "x"}, **headers) == (415, "unsupported_media_type", None)


def test_json_with_its_charset(api: AdminApi) -> None:
    """A parameter of the media type changes nothing."""
    headers = {"Content_Type": "Application/JSON; charset=utf-8"}
    assert api.ok("PATCH", "/orgs/acme", {"enabled": True}, **headers)["org"] == "acme"


@pytest.mark.parametrize("actor", ["", "a" * 101, "ä", "tab\tinside"])
def test_an_actor_that_can_be_none(api: AdminApi, actor: str) -> None:
    """400 for a name that is no printable ASCII or too long."""
    sent = actor.encode().decode("latin-1")
    told = api.refused("PATCH", "/orgs/acme", {"enabled": True}, X_Lectr_Actor=sent)
    assert told == (400, "invalid_request", "X-Lectr-Actor")


# a registry that cannot be changed, or read


@pytest.mark.parametrize("one", CLOSED, ids=by_id)
def test_a_declared_registry_is_read_only(read_only: AdminApi, operator: Operator, one: Operation) -> None:
    """403 names the file for every change; what changes nothing is answered."""
    before = operator.orgs()
    reply = ask(read_only, one)
    if one.changes:
        assert reply.told == (403, "registry_read_only", None)
        assert "/etc/lectr/registry.toml" in reply.json["error"]["message"]
    else:
        # It has no ClickHouse.
        assert reply.status == (503 if one.load == "clickhouse" else 200)
    assert operator.orgs() == before


@pytest.fixture(scope="module")
def read_only(api: AdminApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    directory = tmp_path_factory.mktemp("read_only")
    made = start_api(directory, api.redis_url, LECTR_REGISTRY_FILE="/etc/lectr/registry.toml")
    with running(made.process):
        yield made.wait()


def test_a_record_that_is_none(api: AdminApi) -> None:
    """What somebody put into Redis by hand: its organisation alone cannot be read, and the answer names it."""
    with Redis.from_url(api.redis_url) as client:
        client.hset(ORGS_KEY, "broken", b"{}")
        try:
            reply = api.ask("GET", f"{PREFIX}/orgs/broken")
            assert reply.told == (500, "registry_record_unreadable", None)
            assert "org 'broken'" in reply.json["error"]["message"]
            assert api.ok("GET", "/orgs/acme")["org"] == "acme"
            assert api.ok("GET", "/orgs?after=broken")["orgs"] == []
            assert api.refused("GET", "/orgs") == (500, "registry_record_unreadable", None)
        finally:
            client.hdel(ORGS_KEY, "broken")
    assert b"lectr_dashboard_handler_faults_total 0.0" in fetch(f"{api.url}/metrics")[1]
