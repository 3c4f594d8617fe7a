"""The Namespace side: who gets an ID token, how refusals are spelled, what metadata serves."""

import base64
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from broker.sandbox import ErrorShape, Sandbox
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import http, rpc

ISSUE = "nsl.tenants.TenantsService/IssueIdToken"
TENANT = "nsl.tenants.TenantsService/GetTenant"
MINT = "nsl.signin.SigninService/IssueTenantTokenFromSession"
VERIFY = "nsl.signin.SigninService/VerifySession"
FOR_AWS: Mapping[str, object] = {"audience": "sts.amazonaws.com", "version": 1}


def claims_in(token: str) -> dict[str, Any]:
    encoded = token.removeprefix("nsct_").removeprefix("nscw_")
    claims: dict[str, Any] = jwt.decode(encoded, options={"verify_signature": False})
    return claims


async def get(url: str) -> tuple[int, str]:
    async with http() as session, session.get(url) as response:
        return response.status, await response.text()


# ID tokens.


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("workload_token", "ws_1/i-abc"),
        ("tenant_token", "ws_1/user_1"),
        ("revocable_token", "ws_1/tok_"),
    ],
)
async def test_every_kind_of_tenant_token_gets_an_id_token(
    timed: Sandbox, clock: FakeClock, kind: str, subject: str
) -> None:
    bearer = getattr(timed.namespace, kind)()

    status, body, _ = await rpc(timed, ISSUE, {**FOR_AWS, "duration_secs": 600}, bearer=bearer)

    claims = claims_in(body["id_token"])
    assert status == 200
    assert claims["iss"] == "https://federation.namespaceapis.com"
    assert claims["aud"] == "sts.amazonaws.com"
    assert claims["sub"].startswith(subject)
    assert claims["tenant_id"] == "ws_1"
    assert claims["iat"] == int(clock.now().timestamp())
    assert claims["exp"] - claims["iat"] == 600


async def test_the_issuer_publishes_the_key_that_signs_its_id_tokens(sandbox: Sandbox) -> None:
    _, discovery = await get(sandbox.namespace.url + "/.well-known/openid-configuration")
    _, jwks = await get(json.loads(discovery)["jwks_uri"])

    [key] = jwt.PyJWKSet.from_json(jwks).keys
    claims = jwt.decode(sandbox.namespace.id_token(), key, audience="sts.amazonaws.com")
    assert claims["iss"] == json.loads(discovery)["issuer"] == sandbox.namespace.issuer


async def test_an_endpoint_that_ends_in_a_slash_is_served_too(sandbox: Sandbox) -> None:
    bearer = sandbox.namespace.workload_token()

    status, _, _ = await rpc(sandbox, "/" + ISSUE, FOR_AWS, bearer=bearer)

    assert status == 200
    assert [call.operation for call in sandbox.namespace.calls] == ["IssueIdToken"]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"version": 1},
        {"audience": "", "version": 1},
        {"audience": 7, "version": 1},
        {"audience": "x"},
        {"audience": "x", "version": 2},
        {**FOR_AWS, "duration_secs": 0},
        {**FOR_AWS, "duration_secs": "600"},
        {**FOR_AWS, "duration_secs": True},
        {**FOR_AWS, "duration_secs": 86401},
        [],
        "x",
    ],
)
async def test_an_id_token_is_refused_for_a_wrong_request(sandbox: Sandbox, params: object) -> None:
    bearer = sandbox.namespace.workload_token()

    status, body, _ = await rpc(sandbox, ISSUE, params, bearer=bearer)

    assert (status, body["code"]) == (400, 3)


async def test_an_unknown_method_is_unimplemented(sandbox: Sandbox) -> None:
    status, body, _ = await rpc(sandbox, "nsl.tenants.TenantsService/Nope", {})

    assert (status, body["code"]) == (501, 12)


# Bearers.


async def test_a_call_without_a_bearer_is_unauthenticated(sandbox: Sandbox) -> None:
    status, body, _ = await rpc(sandbox, ISSUE, FOR_AWS)

    assert (status, body["code"]) == (401, 16)
    assert not sandbox.namespace.calls[0].authorization_present


async def test_a_bearer_is_checked_for_kind_signature_and_life(sandbox: Sandbox) -> None:
    ours = sandbox.namespace
    encoded = ours.workload_token().removeprefix("nscw_")
    async with Sandbox() as elsewhere:
        foreign = elsewhere.namespace.workload_token()
    refused = {
        "ended": ours.workload_token(lifetime_s=-1),
        "foreign": foreign,
        "other prefix": "nsct_" + encoded,
        "no prefix": encoded,
        "an id token": ours.id_token(),
        "a session": ours.session_token(),
        "unknown": "nsrt_unknown",
        "ended key": ours.revocable_token(lifetime_s=-1),
    }

    answers = {
        name: (await rpc(sandbox, ISSUE, FOR_AWS, bearer=bearer))[0]
        for name, bearer in refused.items()
    }

    assert set(answers.values()) == {401}, answers


@pytest.mark.parametrize("kind", ["workload_token", "tenant_token", "revocable_token"])
async def test_a_revoked_token_is_unauthenticated_from_then_on(sandbox: Sandbox, kind: str) -> None:
    bearer = getattr(sandbox.namespace, kind)()

    before, _, _ = await rpc(sandbox, TENANT, bearer=bearer)
    sandbox.namespace.revoke(bearer)
    after, body, _ = await rpc(sandbox, TENANT, bearer=bearer)

    assert (before, after) == (200, 401)
    assert "revoked" in body["message"]


async def test_a_token_ends_by_the_sandboxs_clock(timed: Sandbox, clock: FakeClock) -> None:
    bearer = timed.namespace.tenant_token(lifetime_s=60)

    await clock.advance(seconds=59)
    in_time, _, _ = await rpc(timed, TENANT, bearer=bearer)
    await clock.advance(seconds=1)
    too_late, _, _ = await rpc(timed, TENANT, bearer=bearer)

    assert (in_time, too_late) == (200, 401)


async def test_a_restricted_token_is_told_which_permission_is_missing(sandbox: Sandbox) -> None:
    bearer = sandbox.namespace.revocable_token(permissions=("tenant/get",))

    allowed, _, _ = await rpc(sandbox, TENANT, bearer=bearer)
    status, body, _ = await rpc(sandbox, ISSUE, FOR_AWS, bearer=bearer)

    assert allowed == 200
    assert (status, body["code"]) == (403, 7)
    assert body["details"][0]["missing_access_permissions"] == [
        {"resource_type": "federation", "action": "issue_federation"}
    ]


# The other methods.


async def test_a_tenant_is_named_by_id_and_name(sandbox: Sandbox) -> None:
    _, body, _ = await rpc(sandbox, TENANT, bearer=sandbox.namespace.tenant_token())

    assert body["tenant"]["tenant_id"] == "ws_1"
    assert body["tenant"]["name"] == "Acme"


async def test_a_session_mints_tenant_tokens_that_work(sandbox: Sandbox) -> None:
    session = sandbox.namespace.session_token()

    _, body, _ = await rpc(sandbox, MINT, {"token_duration_secs": 1800}, bearer=session)
    status, _, _ = await rpc(sandbox, ISSUE, FOR_AWS, bearer=body["tenant_token"])

    claims = claims_in(body["tenant_token"])
    assert body["tenant_token"].startswith("nsct_")
    assert claims["exp"] - claims["iat"] == 1800
    assert status == 200


async def test_a_session_mints_no_more_than_eight_hours(sandbox: Sandbox) -> None:
    session = sandbox.namespace.session_token()

    most, _, _ = await rpc(sandbox, MINT, {"token_duration_secs": 28800}, bearer=session)
    more, body, _ = await rpc(sandbox, MINT, {"token_duration_secs": 28801}, bearer=session)

    assert (most, more, body["code"]) == (200, 400, 3)


async def test_a_session_can_be_verified_until_it_is_revoked(sandbox: Sandbox) -> None:
    session = sandbox.namespace.session_token()

    before, body, _ = await rpc(sandbox, VERIFY, bearer=session)
    sandbox.namespace.revoke(session)
    after, _, _ = await rpc(sandbox, VERIFY, bearer=session)

    assert (before, body, after) == (200, {}, 401)


@pytest.mark.parametrize("method", [MINT, VERIFY])
async def test_only_a_session_token_opens_the_session_methods(
    sandbox: Sandbox, method: str
) -> None:
    status, _, _ = await rpc(sandbox, method, bearer=sandbox.namespace.tenant_token())

    assert status == 401


# How errors are spelled.


@pytest.mark.parametrize("scripted", [True, False])
@pytest.mark.parametrize(
    ("shape", "body", "headers"),
    [
        ("status", {"code": 16, "message": "a bearer token is required"}, {}),
        ("relaxed", {"code": "unauthenticated", "message": "a bearer token is required"}, {}),
        (
            "grpc-headers",
            None,
            {"Grpc-Status": "16", "Grpc-Message": "a bearer token is required"},
        ),
        (
            "details-bin",
            None,
            {
                "Grpc-Status-Details-Bin": base64.b64encode(
                    b"\x08\x10\x12\x1aa bearer token is required"
                )
                .decode()
                .rstrip("=")
            },
        ),
        ("http-status", None, {}),
    ],
)
async def test_an_error_can_be_had_in_every_spelling(
    sandbox: Sandbox,
    scripted: bool,
    shape: ErrorShape,
    body: object,
    headers: Mapping[str, str],
) -> None:
    if scripted:
        message = "a bearer token is required"
        sandbox.fail("GetTenant", code="UNAUTHENTICATED", message=message, shape=shape)
    else:
        sandbox.namespace.error_shape = shape

    status, spelled, had = await rpc(sandbox, TENANT)

    assert (status, spelled) == (401, body)
    assert {name: had.get(name) for name in headers} == headers


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("CANCELLED", 499),
        ("unknown", 500),
        ("INVALID_ARGUMENT", 400),
        ("DEADLINE_EXCEEDED", 504),
        ("NOT_FOUND", 404),
        ("PERMISSION_DENIED", 403),
        (7, 403),
        ("RESOURCE_EXHAUSTED", 429),
        ("FAILED_PRECONDITION", 400),
        ("ABORTED", 409),
        ("INTERNAL", 500),
        (14, 503),
        ("UNAUTHENTICATED", 401),
    ],
)
async def test_a_scripted_code_comes_with_its_usual_status(
    sandbox: Sandbox, code: str | int, status: int
) -> None:
    sandbox.fail("GetTenant", code=code)

    answered, _, _ = await rpc(sandbox, TENANT, bearer=sandbox.namespace.tenant_token())

    assert answered == status


async def test_a_code_that_nobody_knows_is_passed_on_as_a_word(sandbox: Sandbox) -> None:
    sandbox.fail("GetTenant", status=418, code="teapot")

    status, body, _ = await rpc(sandbox, TENANT)

    assert (status, body["code"]) == (418, "teapot")


# Metadata and token files.


async def test_metadata_serves_a_fresh_workload_token_and_the_instances_id(
    sandbox: Sandbox,
) -> None:
    first, token = await get(sandbox.namespace.metadata_url + "/workload_token")
    _, again = await get(sandbox.namespace.metadata_url + "/workload_token")
    _, name = await get(sandbox.namespace.metadata_url + "/id")
    status, _, _ = await rpc(sandbox, ISSUE, FOR_AWS, bearer=token)
    unknown, _ = await get(sandbox.namespace.metadata_url + "/nope")

    assert (first, name, status, unknown) == (200, "i-abc", 200, 404)
    assert token.startswith("nscw_")
    assert token != again


async def test_metadata_can_answer_an_error_body_in_place_of_a_token(sandbox: Sandbox) -> None:
    sandbox.fail("workload_token", status=500, body="internal error", count=1)

    failed = await get(sandbox.namespace.metadata_url + "/workload_token")
    healed, _ = await get(sandbox.namespace.metadata_url + "/workload_token")

    assert failed == (500, "internal error")
    assert healed == 200


def test_a_token_spec_is_unpadded_and_names_the_metadata(sandbox: Sandbox) -> None:
    spec = sandbox.namespace.token_spec()

    padded = spec + "=" * (-len(spec) % 4)
    assert "=" not in spec
    assert json.loads(base64.b64decode(padded)) == {
        "version": "v1",
        "metadata_url": sandbox.namespace.metadata_url,
    }


def test_an_inline_spec_holds_the_token_itself(sandbox: Sandbox) -> None:
    spec = sandbox.namespace.inline_token_spec("nsct_x")

    assert json.loads(base64.b64decode(spec + "==")) == {"inline_token": "nsct_x"}


@pytest.mark.parametrize(
    ("tokens", "members"),
    [
        ({}, {"bearer_token"}),
        ({"bearer_token": "nsrt_x"}, {"bearer_token"}),
        ({"session_token": "st_x"}, {"session_token"}),
        ({"session_token": "st_x", "bearer_token": "nsct_x"}, {"session_token", "bearer_token"}),
    ],
)
def test_a_token_file_is_written_as_nsc_writes_it(
    sandbox: Sandbox, tmp_path: Path, tokens: dict[str, str], members: set[str]
) -> None:
    path = sandbox.namespace.write_token_file(tmp_path / "token.json", **tokens)

    assert json.loads(path.read_text()).keys() == members
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["token.json"]


async def test_a_call_is_recorded_with_its_parameters_and_never_prints_its_bearer(
    sandbox: Sandbox,
) -> None:
    bearer = sandbox.namespace.workload_token()

    await rpc(sandbox, ISSUE, FOR_AWS, bearer=bearer)

    [call] = sandbox.namespace.calls_of("IssueIdToken")
    assert call.params == FOR_AWS
    assert (call.status, call.authorization_present) == (200, True)
    assert call.headers["Authorization"] == f"Bearer {bearer}"
    assert bearer not in repr(call)
