"""The gateway's own errors: a closed family whose statuses, codes, types and JSON shapes clients rely on."""

import json
from typing import get_args

import anthropic
import httpx2
import openai
import pytest

from gateway import faults
from gateway.faults import FAULTS, Fault, GatewayDefect, ProviderStalled, ProviderTruncated, error_body, fault_answer
from shared.event import ErrorSource

DOCUMENTED = {
    "missing_lectr_key": (401, "authentication_error"),
    "invalid_lectr_key": (401, "authentication_error"),
    "org_disabled": (401, "authentication_error"),
    "azure_config_missing": (400, "invalid_request_error"),
    "invalid_request": (400, "invalid_request_error"),
    "request_too_large": (413, "invalid_request_error"),
    "rate_limit_exceeded": (429, "rate_limit_error"),
    "concurrent_streams_exceeded": (429, "rate_limit_error"),
    "budget_exceeded": (429, "rate_limit_error"),
    "provider_unreachable": (502, "api_error"),
    "gateway_draining": (503, "api_error"),
    "provider_timeout": (504, "api_error"),
}
"""The errors that the reference names."""
OURS = {
    "request_timeout": (408, "invalid_request_error"),
    "unknown_path": (404, "invalid_request_error"),
    "internal_error": (500, "api_error"),
}
ANTHROPIC_TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
    "timeout_error",
}
MESSAGES_PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/anthropic/v1/messages")
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


def subclasses(family: type[Fault]) -> set[type[Fault]]:
    direct = set(family.__subclasses__())
    return direct.union(*map(subclasses, direct))


def test_the_family_is_closed() -> None:
    """FAULTS lists every fault there is, each once."""
    assert set(FAULTS) == subclasses(Fault)
    assert len(FAULTS) == len(set(FAULTS))
    assert {name for name, value in vars(faults).items() if value in FAULTS} == {fault.__name__ for fault in FAULTS}


def test_statuses_codes_and_types_are_the_documented_ones() -> None:
    """Each code has the status and type of the reference, and there is no code beyond it and our additions."""
    assert {fault.code: (fault.status, fault.type) for fault in FAULTS} == {**DOCUMENTED, **OURS}


def test_codes_are_unique() -> None:
    """A code names one fault: it is a metric label and what clients switch on."""
    assert len({fault.code for fault in FAULTS}) == len(FAULTS)


@every_fault
def test_a_fault_says_how_it_is_recorded(fault: type[Fault]) -> None:
    """Every fault has a category for its event and names who is to blame; a 4xx is the client's, a 5xx never."""
    assert fault.category
    assert fault.source in get_args(ErrorSource)
    assert fault.source != "provider", "the provider's own errors pass through and are no faults"
    assert (fault.source == "client") == (fault.status < 500)


def test_a_broken_off_answer_is_no_error_body() -> None:
    """A truncated answer cannot become an error page: it is not of the family that has one."""
    assert issubclass(ProviderStalled, ProviderTruncated)
    assert not issubclass(ProviderTruncated, Fault)


@every_fault
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1", "/", "", "/openai/v1/chat/completions"])
def test_openai_shape(fault: type[Fault], path: str) -> None:
    """Everywhere but at /v1/messages: error with message, type and code, and nothing else."""
    document = json.loads(error_body(fault("what and how to fix it"), path))
    assert document == {"error": {"message": "what and how to fix it", "type": fault.type, "code": fault.code}}


@every_fault
@pytest.mark.parametrize("path", MESSAGES_PATHS)
def test_anthropic_shape(fault: type[Fault], path: str) -> None:
    """At /v1/messages: type error around an error whose type is one that Anthropic documents."""
    document = json.loads(error_body(fault("what and how to fix it"), path))
    assert document["type"] == "error"
    assert document["error"]["message"] == "what and how to fix it"
    assert document["error"]["code"] == fault.code
    assert document["error"]["type"] in ANTHROPIC_TYPES
    assert (document["error"]["type"] == "authentication_error") == (fault.status == 401)
    assert (document["error"]["type"] == "rate_limit_error") == (fault.status == 429)


@pytest.mark.parametrize("path", ["/v1/threads/thread_1/messages", "/v1/threads/thread_1/messages/msg_1"])
def test_messages_of_other_apis_keep_the_openai_shape(path: str) -> None:
    """OpenAI's threads have messages too; their client reads OpenAI's shape."""
    assert "type" not in json.loads(error_body(faults.InvalidKey("x"), path))


@every_fault
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_answer_is_json_with_a_message(fault: type[Fault], path: str) -> None:
    """The HTTP answer has the fault's status, JSON as its type, and a message that is never null or empty."""
    answer = fault_answer(fault('text "with" quotes, é and \x00'), path, close=fault.closes)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % fault.status)
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert json.loads(body)["error"]["message"] == 'text "with" quotes, é and \x00'
    assert (b"\r\nConnection: close" in head) == fault.closes


@every_fault
def test_who_is_to_wait_is_told_how_long(fault: type[Fault]) -> None:
    """A 429 has one Retry-After of at least a second, whether or not the time is known; nothing else has one."""
    answer = fault_answer(fault("why"), "/v1", close=False)
    assert answer.count(b"\r\nRetry-After: ") == (fault.status == 429)
    assert answer.count(b"\r\nRetry-After: 1\r\n") == (fault.status == 429)


@pytest.mark.parametrize(
    ("asked_s", "sent"),
    [(-5, b"1"), (0, b"1"), (1, b"1"), (37, b"37"), (2_678_400, b"2678400"), (10**300, b"2147483648")],
)
def test_retry_after_is_whole_and_has_bounds(asked_s: int, sent: bytes) -> None:
    """At least one second, at most what every recipient reads as a number."""
    fault = faults.RateLimitExceeded("why", retry_after_s=asked_s)
    assert b"\r\nRetry-After: %b\r\n" % sent in fault_answer(fault, "/v1", close=False)


@every_fault
def test_a_fault_needs_a_message(fault: type[Fault]) -> None:
    """No fault can be raised without saying what happened; its text is the message."""
    with pytest.raises(TypeError):
        fault()  # type: ignore[call-arg] # the point of the test
    assert str(fault("why")) == "why"
    assert fault("why").message == "why"


def test_a_defect_closes_the_connection() -> None:
    """After a bug of ours nothing is known about the connection, so it is not used again."""
    assert GatewayDefect.closes


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.MissingKey, openai.AuthenticationError),
        (faults.AzureConfigMissing, openai.BadRequestError),
        (faults.UnknownPath, openai.NotFoundError),
        (faults.RateLimitExceeded, openai.RateLimitError),
        (faults.BudgetExceeded, openai.RateLimitError),
        (faults.ProviderTimeout, openai.InternalServerError),
    ],
)
def test_the_openai_sdk_reads_our_errors(fault: type[Fault], error: type[openai.APIStatusError]) -> None:
    """The SDK raises its own class for our status and finds our message, type and code in it."""
    request = httpx2.Request("POST", "http://gateway/v1/chat/completions")
    body = error_body(fault("why"), "/v1/chat/completions")
    client = openai.OpenAI(api_key="none", max_retries=0)
    with client:
        raised = client._make_status_error_from_response(httpx2.Response(fault.status, content=body, request=request))
    assert isinstance(raised, error)
    assert (raised.code, raised.type, raised.body["message"]) == (fault.code, fault.type, "why")  # type: ignore[index] # a dict here
    assert raised.message


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.InvalidKey, anthropic.AuthenticationError),
        (faults.RequestTooLarge, anthropic.APIStatusError),
        (faults.ConcurrentStreamsExceeded, anthropic.RateLimitError),
        (faults.ProviderUnreachable, anthropic.InternalServerError),
    ],
)
def test_the_anthropic_sdk_reads_our_errors(fault: type[Fault], error: type[anthropic.APIStatusError]) -> None:
    """The SDK raises its own class for our status, with our body in it."""
    request = httpx2.Request("POST", "http://gateway/v1/messages")
    body = error_body(fault("why"), "/v1/messages")
    with anthropic.Anthropic(api_key="none", max_retries=0) as client:
        raised = client._make_status_error_from_response(httpx2.Response(fault.status, content=body, request=request))
    assert isinstance(raised, error)
    assert raised.body == json.loads(body)
