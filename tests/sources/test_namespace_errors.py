"""Namespace's errors, sorted: the tables of namespace-api 9.1 and 9.2, row by row.

Through real HTTP.
"""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sandbox import ErrorShape, Sandbox
from broker.sources.http_client import HttpClient, HttpResponse, retry_after_s
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.errors import CODES, api_error, parse_error
from tests.support.sources import Pipeline, answering, hanging, http_answer

BEARER = "nsrt_secret-bearer"

PASSING = [
    ("UNKNOWN", "upstream-error"),
    ("DEADLINE_EXCEEDED", "timeout"),
    ("RESOURCE_EXHAUSTED", "throttled"),
    ("ABORTED", "upstream-error"),
    ("INTERNAL", "upstream-error"),
    ("UNAVAILABLE", "upstream-error"),
]
FINAL = [
    ("CANCELLED", "bad-request"),
    ("INVALID_ARGUMENT", "bad-request"),
    ("NOT_FOUND", "not-found"),
    ("ALREADY_EXISTS", "bad-request"),
    ("PERMISSION_DENIED", "access-denied"),
    ("FAILED_PRECONDITION", "bad-request"),
    ("OUT_OF_RANGE", "bad-request"),
    ("UNIMPLEMENTED", "not-found"),
    ("DATA_LOSS", "bad-request"),
]
SHAPES: list[ErrorShape] = ["status", "relaxed", "grpc-headers"]


async def error_of(pipeline: Pipeline) -> SourceError:
    """Return the error that the next call ends in."""
    with pytest.raises(SourceError) as error:
        await pipeline.iam.issue_id_token(BEARER, audience="sts.amazonaws.com", duration_s=600)
    return error.value


def test_every_code_is_in_one_of_the_tables() -> None:
    assert {code for code, _ in PASSING + FINAL} | {"UNAUTHENTICATED"} == set(CODES)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("code", "word"), PASSING)
async def test_a_passing_fault_is_unavailable(
    pipeline: Pipeline, sandbox: Sandbox, code: str, word: str, shape: ErrorShape
) -> None:
    sandbox.fail("IssueIdToken", code=code, message="try later", shape=shape)

    error = await error_of(pipeline)

    assert isinstance(error, Unavailable)
    assert error.word == word
    assert f"{code}: try later" in str(error)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("code", "word"), FINAL)
async def test_a_final_refusal_is_refused_and_says_what_to_do(
    pipeline: Pipeline, sandbox: Sandbox, code: str, word: str, shape: ErrorShape
) -> None:
    sandbox.fail("IssueIdToken", code=code, message="no such luck", shape=shape)

    error = await error_of(pipeline)

    assert isinstance(error, Refused)
    assert error.word == word
    assert f"{code}: no such luck; " in str(error)


@pytest.mark.parametrize("shape", [*SHAPES, "details-bin", "http-status"])
async def test_an_unauthenticated_bearer_is_stale(
    pipeline: Pipeline, sandbox: Sandbox, shape: ErrorShape
) -> None:
    sandbox.fail("IssueIdToken", code="UNAUTHENTICATED", message="session revoked", shape=shape)

    assert isinstance(await error_of(pipeline), Stale)


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (201, Unavailable, "bad-answer"),
        (204, Unavailable, "bad-answer"),
        (302, Unavailable, "bad-answer"),
        (307, Unavailable, "bad-answer"),
        (400, Unavailable, "bad-answer"),
        (401, Stale, "stale-input"),
        (403, Refused, "access-denied"),
        (404, Unavailable, "bad-answer"),
        (407, Unavailable, "bad-answer"),
        (408, Unavailable, "timeout"),
        (418, Unavailable, "bad-answer"),
        (429, Unavailable, "throttled"),
        (500, Unavailable, "upstream-error"),
        (502, Unavailable, "upstream-error"),
        (503, Unavailable, "upstream-error"),
        (504, Unavailable, "timeout"),
        (599, Unavailable, "upstream-error"),
    ],
)
async def test_a_status_alone_is_enough_whatever_the_page_says(
    pipeline: Pipeline, sandbox: Sandbox, status: int, kind: type[SourceError], word: str
) -> None:
    page = b"" if status == 204 else b"<html>\n<h1>Proxy</h1></html>"
    headers = {"Location": "http://127.0.0.1:1/"} if status in (302, 307) else {}
    sandbox.fail("IssueIdToken", status=status, body=page, headers=headers)

    error = await error_of(pipeline)

    assert type(error) is kind
    assert error.word == word
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"code": 7, "message": "m"}, "PERMISSION_DENIED"),
        ({"code": "permission_denied"}, "PERMISSION_DENIED"),
        ({"code": "PERMISSION_DENIED"}, "PERMISSION_DENIED"),
        ({"code": "canceled"}, "CANCELLED"),
        ({"code": "7"}, "UNAVAILABLE"),
        ({"code": 7.0}, "UNAVAILABLE"),
        ({"code": True}, "UNAVAILABLE"),
        ({"code": 0}, "UNAVAILABLE"),
        ({"code": 99}, "UNAVAILABLE"),
        ({"code": None}, "UNAVAILABLE"),
        ({"code": ["x"]}, "UNAVAILABLE"),
        ({"code": "nonsense"}, "UNAVAILABLE"),
        ({}, "UNAVAILABLE"),
        ([], "UNAVAILABLE"),
    ],
)
def test_a_body_that_names_no_code_leaves_it_to_the_status(body: object, name: str) -> None:
    reply = HttpResponse(status=503, headers={}, body=json.dumps(body).encode())

    assert parse_error(reply).name == name


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"Grpc-Status": "7", "Grpc-Message": "m"}, "PERMISSION_DENIED"),
        ({"Grpc-Status": "7"}, "UNAVAILABLE"),
        ({"Grpc-Message": "m"}, "UNAVAILABLE"),
        ({"Grpc-Status": "x", "Grpc-Message": "m"}, "UNAVAILABLE"),
        ({"Grpc-Status": "99", "Grpc-Message": "m"}, "UNAVAILABLE"),
        ({"Grpc-Status": "-7", "Grpc-Message": "m"}, "UNAVAILABLE"),
    ],
)
def test_headers_count_only_as_a_pair(headers: dict[str, str], name: str) -> None:
    assert parse_error(HttpResponse(status=503, headers=headers, body=b"")).name == name


def test_the_body_stands_over_the_headers_and_a_message_is_percent_decoded() -> None:
    headers = {"Grpc-Status": "16", "Grpc-Message": "not%20this%20one%C3%A9"}

    assert (
        parse_error(HttpResponse(status=500, headers=headers, body=b'{"code":5}')).name
        == "NOT_FOUND"
    )
    assert (
        parse_error(HttpResponse(status=500, headers=headers, body=b"")).message == "not this oneé"
    )


@pytest.mark.parametrize(
    "details",
    [
        [{"missing_access_permissions": [{"resource_type": "tenant", "action": "get"}]}],
        [{"missingAccessPermissions": [{"resourceType": "tenant", "action": "get"}]}],
        [
            {"type": "x", "value": "CgA"},
            {"debug": {"missingAccessPermissions": [{"resourceType": "tenant", "action": "get"}]}},
        ],
    ],
)
async def test_missing_permissions_are_shown(
    pipeline: Pipeline, sandbox: Sandbox, details: list[object]
) -> None:
    document = {"code": 7, "message": "no", "details": details}
    sandbox.fail("IssueIdToken", status=403, body=json.dumps(document))

    assert "PERMISSION_DENIED: no; missing: tenant/get" in str(await error_of(pipeline))


@pytest.mark.parametrize(
    "details", [5, "x", {}, [5], [[]], [{"missing_access_permissions": 5}], [{"debug": []}]]
)
def test_details_of_another_form_are_ignored(details: object) -> None:
    body = json.dumps({"code": 7, "details": details}).encode()

    assert parse_error(HttpResponse(status=403, headers={}, body=body)).missing == ()


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Wed, 02 Jan 2030 03:05:05 GMT", 60.0),
        ("Wed, 02 Jan 2030 03:00:00 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("1e9", None),
        ("99999999999999", None),
        ("", None),
    ],
)
def test_a_wanted_pause_is_in_seconds_or_until_a_date(header: str, pause_s: float | None) -> None:
    headers = {"Retry-After": header, "Date": "Wed, 02 Jan 2030 03:04:05 GMT"}

    assert retry_after_s(headers) == pause_s


def test_a_date_without_a_date_to_count_from_is_ignored() -> None:
    assert retry_after_s({"Retry-After": "Wed, 02 Jan 2030 03:05:05 GMT"}) is None
    assert retry_after_s({"Retry-After": "Wed, 02 Jan 2030 03:05:05 GMT", "Date": "x"}) is None


async def test_a_wanted_pause_is_passed_on(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.fail("IssueIdToken", code="RESOURCE_EXHAUSTED", headers={"Retry-After": "17"})

    error = await error_of(pipeline)

    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 17


async def test_upstreams_words_are_short_printable_and_without_the_bearer(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    long = f"bad {BEARER}\n\x1b[31m " + "x" * 1000
    sandbox.fail("IssueIdToken", code="INVALID_ARGUMENT", message=long)

    error = str(await error_of(pipeline))

    assert BEARER not in error
    assert error.isprintable()
    assert len(error) < 600


# No answer at all.


async def test_a_reset_connection_is_unavailable(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.fail("IssueIdToken", reset=True)

    error = await error_of(pipeline)

    assert isinstance(error, Unavailable)
    assert error.word == "unreachable"


async def test_an_answer_that_breaks_off_is_unavailable(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.fail("IssueIdToken", truncated=True)

    assert isinstance(await error_of(pipeline), Unavailable)


async def test_nobody_listening_is_unavailable(http: HttpClient) -> None:
    with pytest.raises(
        Unavailable, match=r"127.0.0.1:1\) was not reached \(Connection ref"
    ) as error:
        await NamespaceIam(http, "http://127.0.0.1:1").get_tenant(BEARER)

    assert error.value.word == "unreachable"


async def test_a_name_that_does_not_resolve_is_unavailable(http: HttpClient) -> None:
    with pytest.raises(Unavailable, match="was not reached"):
        await NamespaceIam(http, "https://iam.invalid").get_tenant(BEARER)


async def test_an_upstream_that_hangs_is_given_up(http: HttpClient) -> None:
    async with hanging() as url:
        with pytest.raises(Unavailable, match="no answer within") as error:
            await NamespaceIam(http, url, call_limit_s=0.05).get_tenant(BEARER)

    assert error.value.word == "timeout"


async def test_a_server_without_tls_is_told_apart(http: HttpClient) -> None:
    async with answering(http_answer(200, b"{}")) as url:
        with pytest.raises(Unavailable) as error:
            await NamespaceIam(http, url.replace("http:", "https:")).get_tenant(BEARER)

    assert error.value.word == "tls"


# What we send.


async def test_a_call_is_spelled_as_the_vendors_own(pipeline: Pipeline, sandbox: Sandbox) -> None:
    bearer = sandbox.namespace.workload_token()

    await pipeline.iam.issue_id_token(bearer, audience="sts.amazonaws.com", duration_s=600)

    (call,) = sandbox.namespace.calls
    assert call.path == "/nsl.tenants.TenantsService/IssueIdToken"
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["Authorization"] == f"Bearer {bearer}"
    assert call.headers["NS-Internal-Version"] == "162"
    assert "NS-API-Mode" not in call.headers


async def test_a_slash_at_the_end_of_the_endpoint_does_no_harm(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    iam = NamespaceIam(pipeline.http, sandbox.namespace.url + "//")

    await iam.get_tenant(sandbox.namespace.workload_token())

    assert sandbox.namespace.calls[0].path == "/nsl.tenants.TenantsService/GetTenant"


# Anything at all.

json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=20,
)
documents = some.dictionaries(
    some.sampled_from(["code", "message", "details", "missing_access_permissions", "debug"]),
    json_values,
)


@given(
    document=documents | json_values,
    raw=some.none() | some.binary(max_size=200),
    status=some.integers(201, 599),
    headers=some.dictionaries(
        some.sampled_from(["Grpc-Status", "Grpc-Message", "Retry-After", "Date"]), some.text()
    ),
)
def test_any_answer_is_sorted(
    document: object, raw: bytes | None, status: int, headers: dict[str, str]
) -> None:
    body = json.dumps(document).encode() if raw is None else raw
    reply = HttpResponse(status=status, headers=headers, body=body)

    error = api_error(reply, upstream="IssueIdToken", next_steps={}, hiding=[BEARER])

    assert isinstance(error, SourceError)
    assert str(error).isprintable()


def test_the_third_spelling_is_left_to_the_status() -> None:
    packed = base64.b64encode(b"\x08\x07").decode().rstrip("=")

    fault = parse_error(
        HttpResponse(status=403, headers={"Grpc-Status-Details-Bin": packed}, body=b"")
    )

    assert fault.name == "PERMISSION_DENIED"
