"""A foreign token for a tenant token: what is admitted, for how long, and what is refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import (
    REGION,
    assume,
    claims_of,
    developer_token,
    rpc,
    web_identity_token,
)

OIDC = "nsl.tenants.TenantsService/ExchangeOIDCToken"
COGNITO = "nsl.tenants.TenantsService/ExchangeAWSCognitoJWT"
TENANT = "nsl.tenants.TenantsService/GetTenant"
ISSUE = "nsl.tenants.TenantsService/IssueIdToken"
COGNITO_ISSUER = "https://cognito-identity.amazonaws.com"


@pytest.fixture
def arn(sandbox: Sandbox) -> str:
    """A role that may have identity tokens, in an account that issues them; nobody trusts it."""
    sandbox.aws.enable_outbound_federation()
    role = sandbox.aws.add_role("builder", trust_policy={}, path="/ci/")
    sandbox.aws.allow_web_identity_tokens(role)
    return role


@pytest.fixture
def issuer(sandbox: Sandbox) -> str:
    return sandbox.aws.enable_outbound_federation()


@pytest.fixture
async def token(sandbox: Sandbox, arn: str) -> str:
    return await web_identity_token(sandbox, sandbox.aws.role_session(arn))


async def exchange(sandbox: Sandbox, token: str, **params: object) -> tuple[int, Any]:
    status, body, _ = await rpc(sandbox, OIDC, {"oidc_token": token, **params})
    return status, body


async def exchange_cognito(
    sandbox: Sandbox, token: str, *, tenant_id: str = "ws_1"
) -> tuple[int, Any]:
    params = {"tenant_id": tenant_id, "aws_cognito_token": token}
    status, body, _ = await rpc(sandbox, COGNITO, params)
    return status, body


# OIDC: admitted.


@pytest.mark.parametrize(
    "subject_match",
    [
        "arn:aws:iam::123456789012:role/ci/builder",
        "arn:aws:iam::123456789012:role/*",
        "arn:aws:iam::*:role/ci/*",
        "*",
    ],
)
@pytest.mark.parametrize("params", [{"tenant_id": "ws_1"}, {}, {"tenant_id": ""}], ids=str)
async def test_a_trusted_roles_token_buys_a_tenant_token(
    sandbox: Sandbox, token: str, issuer: str, subject_match: str, params: Mapping[str, object]
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=subject_match)

    status, body = await exchange(sandbox, token, **params)
    works, _, _ = await rpc(sandbox, TENANT, bearer=body["tenant_token"])

    claims = claims_of(body["tenant_token"])
    assert (status, works) == (200, 200)
    assert body["tenant_token"].startswith("nsct_")
    assert claims["tenant_id"] == "ws_1"
    assert claims["exp"] - claims["iat"] == 3600
    assert (body["tenant"]["tenant_id"], body["tenant"]["name"]) == ("ws_1", "Acme")


@pytest.mark.parametrize("algorithm", ["ES384", "RS256"])
async def test_tokens_of_both_algorithms_are_verified(
    sandbox: Sandbox, arn: str, issuer: str, algorithm: str
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn)
    token = await web_identity_token(
        sandbox, sandbox.aws.role_session(arn), SigningAlgorithm=algorithm
    )

    assert (await exchange(sandbox, token))[0] == 200


async def test_the_issuers_keys_are_read_over_http(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn)

    await exchange(sandbox, token)

    assert [call.operation for call in sandbox.aws.calls][-2:] == ["openid-configuration", "jwks"]


async def test_the_relationship_says_how_long_the_token_lasts(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn, default_token_duration="1800s")

    _, body = await exchange(sandbox, token)

    claims = claims_of(body["tenant_token"])
    assert claims["exp"] - claims["iat"] == 1800


async def test_where_it_does_not_the_lifetime_is_a_tests_to_choose(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn)
    sandbox.namespace.choices.exchanged_lifetime_s = 60

    _, body = await exchange(sandbox, token)

    claims = claims_of(body["tenant_token"])
    assert claims["exp"] - claims["iat"] == 60


async def test_an_audience_counts_where_the_relationship_names_one(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    other = sandbox.namespace.trust(
        issuer=issuer, subject_match=arn, audience="federation.namespaceapis.com"
    )
    refused, _ = await exchange(sandbox, token)
    sandbox.namespace.distrust(other)
    sandbox.namespace.trust(
        issuer=issuer, subject_match=arn, audience="https://federation.namespaceapis.com"
    )
    admitted, _ = await exchange(sandbox, token)

    assert (refused, admitted) == (403, 200)


async def test_grants_are_all_that_the_token_may(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    tenant_only = {"resource_type": "tenant", "resource_id": "*", "actions": ["get"]}
    sandbox.namespace.trust(issuer=issuer, subject_match=arn, default_permissions=[tenant_only])

    _, body = await exchange(sandbox, token)
    allowed, _, _ = await rpc(sandbox, TENANT, bearer=body["tenant_token"])
    denied, told, _ = await rpc(
        sandbox, ISSUE, {"audience": "x", "version": 1}, bearer=body["tenant_token"]
    )

    assert (allowed, denied) == (200, 403)
    assert told["details"][0]["missing_access_permissions"][0]["resource_type"] == "federation"


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (("tenant_id",), {"tenant_id": "ws_1"}),
        (("name", "tenant_id"), {"tenant_id": "ws_1", "name": "Acme"}),
        ((), {}),
        (None, None),
    ],
)
async def test_any_part_of_the_tenant_can_be_left_out_of_the_answer(
    sandbox: Sandbox,
    arn: str,
    token: str,
    issuer: str,
    members: tuple[str, ...] | None,
    told: object,
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn)
    sandbox.namespace.choices.tenant_members = members

    _, body = await exchange(sandbox, token)
    _, asked, _ = await rpc(sandbox, TENANT, bearer=body["tenant_token"])

    assert body.get("tenant") == asked.get("tenant") == told


async def test_another_workspace_is_found_by_its_own_trust(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn, workspace="ws_2")

    found, body = await exchange(sandbox, token)
    by_name, _ = await exchange(sandbox, token, tenant_id="ws_2")
    other, _ = await exchange(sandbox, token, tenant_id="ws_1")

    assert (found, by_name, other) == (200, 200, 403)
    assert body["tenant"]["tenant_id"] == "ws_2"


async def test_the_whole_circle_ends_as_credentials_in_another_account(sandbox: Sandbox) -> None:
    account = "210987654321"
    sandbox.aws.add_provider(
        sandbox.namespace.issuer,
        client_ids=("sts.amazonaws.com",),
        resolve_at=sandbox.namespace.url,
        account=account,
    )
    trust = json.loads(json.dumps(sandbox.guide_trust()).replace("123456789012", account))
    target = sandbox.aws.add_role("target", trust_policy=trust, account=account)
    keys = sandbox.aws.role_session(sandbox.guide_by_sts())

    _, body = await exchange(sandbox, await web_identity_token(sandbox, keys))
    _, issued, _ = await rpc(
        sandbox,
        ISSUE,
        {"audience": "sts.amazonaws.com", "version": 1},
        bearer=body["tenant_token"],
    )
    answer = await assume(sandbox, RoleArn=target, WebIdentityToken=issued["id_token"])

    assert answer.status == 200
    assert answer.texts["Arn"].startswith(f"arn:aws:sts::{account}:assumed-role/target/")


# OIDC: refused.


async def test_an_untrusted_issuer_is_refused_and_not_even_asked_for_its_keys(
    sandbox: Sandbox, token: str
) -> None:
    sandbox.namespace.trust(issuer="https://else.example", subject_match="*")

    status, body = await exchange(sandbox, token)

    assert (status, body) == (403, {"code": 7, "message": "the token's issuer is not trusted"})
    assert not sandbox.aws.calls_of("jwks")


@pytest.mark.parametrize(
    "relationship",
    [
        {"subject_match": "arn:aws:iam::123456789012:role/builder"},
        {"subject_match": "arn:aws:iam::123456789012:role/ci/?uilder"},
        {"subject_match": "arn:aws:sts::123456789012:assumed-role/builder/*"},
        {"subject_match": "*", "audience": "else"},
    ],
    ids=str,
)
async def test_a_relationship_that_does_not_match_admits_nobody(
    sandbox: Sandbox, token: str, issuer: str, relationship: dict[str, Any]
) -> None:
    sandbox.namespace.trust(issuer=issuer, **relationship)

    status, body = await exchange(sandbox, token)

    assert (status, body["code"]) == (403, 7)
    assert body["message"] == "no trust relationship admits the token"


async def test_trust_that_is_taken_back_admits_nobody(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    relationship_id = sandbox.namespace.trust(issuer=issuer, subject_match=arn)

    before, _ = await exchange(sandbox, token)
    sandbox.namespace.distrust(relationship_id)
    after, _ = await exchange(sandbox, token)

    assert (before, after) == (200, 403)


@pytest.mark.parametrize(
    ("code", "number", "status"),
    [
        ("PERMISSION_DENIED", 7, 403),
        ("UNAUTHENTICATED", 16, 401),
        ("INVALID_ARGUMENT", 3, 400),
        ("NOT_FOUND", 5, 404),
        ("FAILED_PRECONDITION", 9, 400),
    ],
)
async def test_the_code_of_a_refusal_is_a_tests_to_choose(
    sandbox: Sandbox, token: str, code: str, number: int, status: int
) -> None:
    sandbox.namespace.choices.refusal_code = code

    answered, body = await exchange(sandbox, token)

    assert (answered, body["code"]) == (status, number)


async def test_a_token_that_ended_is_refused(clock: FakeClock, timed: Sandbox) -> None:
    token = await web_identity_token(timed, timed.aws.role_session(timed.guide_by_sts()))

    await clock.advance(seconds=299)
    in_time, _ = await exchange(timed, token)
    await clock.advance(seconds=1)
    too_late, body = await exchange(timed, token)

    assert (in_time, too_late) == (200, 403)
    assert body["message"] == "the token has expired"


async def test_a_foreign_issuer_is_read_where_the_table_says() -> None:
    async with Sandbox() as elsewhere, Sandbox(issuer="https://ours.example") as sandbox:
        theirs = elsewhere.namespace
        sandbox.namespace.trust(issuer=theirs.issuer, subject_match="ws_1/*")
        good, future = theirs.id_token(), theirs.id_token(iat=9_999_999_999)

        unknown = await exchange(sandbox, good)
        sandbox.namespace.add_issuer(theirs.issuer, resolve_at=theirs.url)
        admitted = await exchange(sandbox, good)
        too_early = await exchange(sandbox, future)
        endless = await exchange(sandbox, theirs.id_token(exp=None))

    assert unknown[1]["message"] == "the token's issuer is not known"
    assert admitted[0] == 200
    assert too_early[1]["message"] == "the token is not yet valid"
    assert endless[1]["message"] == "the token has expired"


async def test_a_forged_token_is_refused(sandbox: Sandbox, issuer: str, token: str) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match="*")
    head, payload, _ = token.split(".")
    async with Sandbox() as elsewhere:
        impostor = elsewhere.namespace.id_token(iss=issuer)

    tampered = await exchange(sandbox, f"{head}.{payload}.{'A' * 128}")
    foreign = await exchange(sandbox, impostor)

    assert tampered[1]["message"] == "the token's signature is not valid"
    assert foreign[1]["message"] == "the token's key is not one of its issuer's"


@pytest.mark.parametrize("document", ["openid-configuration", "jwks"])
@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"body": "<html>"}, {"reset": True}, {"truncated": True}, {"delay_s": 60.0}],
    ids=str,
)
async def test_without_the_issuers_keys_the_exchange_is_unavailable(
    document: str, fault: dict[str, Any]
) -> None:
    async with Sandbox(jwks_timeout_s=0.5) as sandbox:
        keys = sandbox.aws.role_session(sandbox.guide_by_sts())
        token = await web_identity_token(sandbox, keys)
        sandbox.fail(document, **fault)
        status, body = await exchange(sandbox, token)
        sandbox.heal(document)
        healed, _ = await exchange(sandbox, token)

    assert (status, body["code"], healed) == (503, 14, 200)


async def test_a_workspace_that_several_could_be_has_to_be_named(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    for workspace in ("ws_1", "ws_2"):
        sandbox.namespace.trust(issuer=issuer, subject_match=arn, workspace=workspace)

    unnamed, body = await exchange(sandbox, token)
    named, _ = await exchange(sandbox, token, tenant_id="ws_2")

    assert (unnamed, body["code"], named) == (400, 3, 200)


async def test_the_workspace_can_be_made_mandatory(
    sandbox: Sandbox, arn: str, token: str, issuer: str
) -> None:
    sandbox.namespace.trust(issuer=issuer, subject_match=arn)
    sandbox.namespace.choices.tenant_id_required = True

    without, body = await exchange(sandbox, token)
    named, _ = await exchange(sandbox, token, tenant_id="ws_1")

    assert (without, body["message"], named) == (400, "tenant_id is required", 200)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, 3),
        ({"oidc_token": ""}, 3),
        ({"oidc_token": 7}, 3),
        ({"oidc_token": "a.b.c", "tenant_id": 7}, 3),
        ({"oidc_token": "nsct_eyJh"}, 7),
        ({"oidc_token": "a.b.c"}, 7),
        ({"oidc_token": "a.b.c", "tenant_id": "ws_9"}, 7),
    ],
    ids=str,
)
async def test_an_exchange_is_refused_for_a_wrong_request(
    sandbox: Sandbox, params: Mapping[str, object], code: int
) -> None:
    _, body, _ = await rpc(sandbox, OIDC, params)

    assert body["code"] == code


@pytest.mark.parametrize("method", [OIDC, COGNITO])
async def test_an_exchange_takes_no_bearer(sandbox: Sandbox, method: str) -> None:
    status, body, _ = await rpc(sandbox, method, {}, bearer=sandbox.namespace.tenant_token())

    assert (status, body["code"]) == (400, 3)
    assert "takes no Authorization header" in body["message"]


# Cognito.


@pytest.fixture
def pool_id(sandbox: Sandbox) -> str:
    return sandbox.aws.add_identity_pool(region=REGION)


@pytest.fixture
def keys(sandbox: Sandbox, pool_id: str) -> IssuedKeys:
    role = sandbox.aws.add_role("builder", trust_policy={})
    sandbox.aws.allow_developer_tokens(role, pool_id)
    return sandbox.aws.role_session(role)


async def test_a_trusted_pools_token_buys_a_tenant_token(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    sandbox.namespace.trust_pool(pool_id)

    status, body = await exchange_cognito(sandbox, await developer_token(sandbox, keys, pool_id))
    works, _, _ = await rpc(sandbox, TENANT, bearer=body["tenant_token"])

    assert (status, works) == (200, 200)
    assert claims_of(body["tenant_token"])["tenant_id"] == "ws_1"
    assert body["tenant"]["name"] == "Acme"


async def test_a_pool_is_trusted_by_its_id_and_provider_and_workspace(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    token = await developer_token(sandbox, keys, pool_id)
    wrong: list[dict[str, Any]] = [
        {"pool_id": pool_id.replace("eu-central-1", "us-east-1")},
        {"pool_id": pool_id, "provider": "else.example"},
        {"pool_id": pool_id, "workspace": "ws_2"},
    ]

    for trusted in wrong:
        sandbox.namespace.trust_pool(**trusted)
    refused, body = await exchange_cognito(sandbox, token)
    sandbox.namespace.trust_pool(pool_id)
    admitted, _ = await exchange_cognito(sandbox, token)
    sandbox.namespace.distrust_pool(pool_id)
    again, _ = await exchange_cognito(sandbox, token)

    assert (refused, admitted, again) == (403, 200, 403)
    assert body["message"] == "no trusted identity pool admits the token"


async def test_a_login_of_one_workspace_opens_no_other(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    for workspace in ("ws_1", "ws_2"):
        sandbox.namespace.trust_pool(pool_id, workspace=workspace)
    token = await developer_token(sandbox, keys, pool_id, login="ws_2")

    theirs, _ = await exchange_cognito(sandbox, token, tenant_id="ws_2")
    ours, _ = await exchange_cognito(sandbox, token, tenant_id="ws_1")
    nobodys, _ = await exchange_cognito(sandbox, token, tenant_id="ws_9")

    assert (theirs, ours, nobodys) == (200, 403, 403)


async def test_a_cognito_token_ends_by_the_sandboxs_clock(clock: FakeClock, timed: Sandbox) -> None:
    arn, pool_id = timed.guide_by_cognito(region=REGION)
    token = await developer_token(timed, timed.aws.role_session(arn), pool_id, TokenDuration=60)

    await clock.advance(seconds=59)
    in_time, _ = await exchange_cognito(timed, token)
    await clock.advance(seconds=1)
    too_late, _ = await exchange_cognito(timed, token)

    assert (in_time, too_late) == (200, 403)


async def test_a_token_that_is_not_cognitos_opens_nothing(sandbox: Sandbox, pool_id: str) -> None:
    sandbox.namespace.trust_pool(pool_id)
    amr = ["authenticated", "namespace.so", f"namespace.so:{pool_id}:ws_1"]
    claims: dict[str, Any] = {"audience": pool_id, "amr": amr}

    named, body = await exchange_cognito(sandbox, sandbox.namespace.id_token(**claims))
    forged, told = await exchange_cognito(
        sandbox, sandbox.namespace.id_token(**claims, iss=COGNITO_ISSUER)
    )
    prefixed, _ = await exchange_cognito(sandbox, "cognito_a.b.c")

    assert (named, forged, prefixed) == (403, 403, 403)
    assert body["message"] == "the token is not from Cognito"
    assert told["message"] == "the token's key is not one of its issuer's"


@pytest.mark.parametrize("missing", ["tenant_id", "aws_cognito_token"])
async def test_a_cognito_exchange_needs_both_members(sandbox: Sandbox, missing: str) -> None:
    params = {"tenant_id": "ws_1", "aws_cognito_token": "a.b.c"}
    del params[missing]

    status, body, _ = await rpc(sandbox, COGNITO, params)

    assert (status, body["message"]) == (400, f"{missing} is required")


# Scripted.


@pytest.mark.parametrize("method", [OIDC, COGNITO])
async def test_an_exchange_can_be_made_to_fail_and_heals(sandbox: Sandbox, method: str) -> None:
    operation = method.rpartition("/")[2]
    sandbox.fail(operation, code="UNAVAILABLE", count=1)
    sandbox.fail(operation, status=429, headers={"Retry-After": "7"}, count=1)

    answers = [await rpc(sandbox, method, {}) for _ in range(3)]

    assert [status for status, _, _ in answers] == [503, 429, 400]
    assert answers[1][2]["Retry-After"] == "7"
