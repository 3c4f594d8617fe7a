"""Identity pools, and tokens for who logs in by their developer provider."""

from collections.abc import Mapping
from typing import Any

import boto3
import jwt
import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import REGION, Refusal, claims_of, client, http, refusal

ISSUER = "https://cognito-identity.amazonaws.com"
ELSEWHERE = "eu-central-1:00000000-0000-0000-0000-000000000000"
EVERYTHING: Mapping[str, object] = {
    "Statement": {"Effect": "Allow", "Action": "cognito-identity:*", "Resource": "*"}
}


@pytest.fixture
def pool_id(sandbox: Sandbox) -> str:
    return sandbox.aws.add_identity_pool("namespace", region=REGION)


@pytest.fixture
def arn(sandbox: Sandbox, pool_id: str) -> str:
    """A role that may have tokens of every pool."""
    return sandbox.aws.add_role("builder", trust_policy={}, policies={"all": EVERYTHING})


@pytest.fixture
def keys(sandbox: Sandbox, arn: str) -> IssuedKeys:
    return sandbox.aws.role_session(arn)


async def log_in(sandbox: Sandbox, keys: IssuedKeys, pool_id: str, **params: object) -> Any:
    """GetOpenIdTokenForDeveloperIdentity, good but for *params*; None leaves one out."""
    good: dict[str, object] = {"IdentityPoolId": pool_id, "Logins": {"namespace.so": "ws_1"}}
    sent = {name: value for name, value in (good | params).items() if value is not None}
    async with client("cognito-identity", sandbox, keys, checks=False) as signed:
        return await signed.get_open_id_token_for_developer_identity(**sent)


async def refused(sandbox: Sandbox, keys: IssuedKeys, pool_id: str, **params: object) -> Refusal:
    return await refusal(log_in(sandbox, keys, pool_id, **params))


# Pools.


async def test_a_pool_is_made_described_and_found_again(sandbox: Sandbox, keys: IssuedKeys) -> None:
    async with client("cognito-identity", sandbox, keys) as signed:
        made = await signed.create_identity_pool(
            IdentityPoolName="my pool",
            AllowUnauthenticatedIdentities=False,
            DeveloperProviderName="namespace.so",
            IdentityPoolTags={"by": "test"},
        )
        described = await signed.describe_identity_pool(IdentityPoolId=made["IdentityPoolId"])
        listed = await signed.list_identity_pools(MaxResults=60)

    assert made["IdentityPoolId"].startswith("eu-central-1:")
    assert described["DeveloperProviderName"] == "namespace.so"
    assert described["AllowUnauthenticatedIdentities"] is False
    assert described["IdentityPoolTags"] == {"by": "test"}
    assert [one["IdentityPoolName"] for one in listed["IdentityPools"]] == ["namespace", "my pool"]


async def test_the_same_name_makes_another_pool(sandbox: Sandbox, keys: IssuedKeys) -> None:
    async with client("cognito-identity", sandbox, keys) as signed:
        made = [
            await signed.create_identity_pool(
                IdentityPoolName="twin", AllowUnauthenticatedIdentities=False
            )
            for _ in range(2)
        ]

    assert len({one["IdentityPoolId"] for one in made}) == 2
    assert "DeveloperProviderName" not in made[0]


async def test_pools_are_listed_a_page_at_a_time(sandbox: Sandbox, keys: IssuedKeys) -> None:
    for number in range(4):
        sandbox.aws.add_identity_pool(f"pool {number}", region=REGION)

    async with client("cognito-identity", sandbox, keys) as signed:
        first = await signed.list_identity_pools(MaxResults=3)
        second = await signed.list_identity_pools(MaxResults=3, NextToken=first["NextToken"])

    assert (len(first["IdentityPools"]), len(second["IdentityPools"])) == (3, 2)
    assert "NextToken" not in second


async def test_a_pool_is_seen_in_its_account_and_region_only(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    stranger = sandbox.aws.administrator("210987654321")

    async with client("cognito-identity", sandbox, keys, region="us-east-1") as elsewhere:
        other_region = await refusal(elsewhere.describe_identity_pool(IdentityPoolId=pool_id))
    async with client("cognito-identity", sandbox, stranger) as theirs:
        other_account = await refusal(theirs.describe_identity_pool(IdentityPoolId=pool_id))
        listed = await theirs.list_identity_pools(MaxResults=60)

    assert other_region.kind == other_account.kind == "ResourceNotFoundException"
    assert listed["IdentityPools"] == []


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("create_identity_pool", {"IdentityPoolName": "a!"}, "ValidationException"),
        ("create_identity_pool", {"IdentityPoolName": "a" * 129}, "ValidationException"),
        ("create_identity_pool", {"IdentityPoolName": "a"}, "ValidationException"),
        (
            "create_identity_pool",
            {
                "IdentityPoolName": "a",
                "AllowUnauthenticatedIdentities": False,
                "DeveloperProviderName": "a b",
            },
            "ValidationException",
        ),
        ("describe_identity_pool", {"IdentityPoolId": "nope"}, "ValidationException"),
        ("describe_identity_pool", {"IdentityPoolId": ELSEWHERE}, "ResourceNotFoundException"),
        ("list_identity_pools", {}, "ValidationException"),
        ("list_identity_pools", {"MaxResults": 61}, "ValidationException"),
        (
            "list_identity_pools",
            {"MaxResults": 1, "NextToken": "nope"},
            "InvalidParameterException",
        ),
    ],
)
async def test_a_request_about_pools_is_refused_for(
    sandbox: Sandbox, keys: IssuedKeys, operation: str, params: dict[str, object], code: str
) -> None:
    async with client("cognito-identity", sandbox, keys, checks=False) as signed:
        told = await refusal(getattr(signed, operation)(**params))

    assert (told.status, told.code) == (400, code)


# Tokens.


async def test_a_token_says_which_login_by_which_pool_and_can_be_verified(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    answer = await log_in(sandbox, keys, pool_id)

    at = sandbox.aws.resolve_at(ISSUER)
    async with http() as session, session.get(f"{at}/.well-known/jwks.json") as response:
        [key] = jwt.PyJWKSet.from_dict(await response.json()).keys
    claims = jwt.decode(answer["Token"], key, algorithms=["RS512"], audience=pool_id)
    header = jwt.get_unverified_header(answer["Token"])
    assert (header["alg"], header["typ"], header["kid"]) == ("RS512", "JWS", key.key_id)
    assert claims["iss"] == ISSUER
    assert claims["sub"] == answer["IdentityId"]
    assert claims["amr"] == ["authenticated", "namespace.so", f"namespace.so:{pool_id}:ws_1"]
    assert claims[f"{ISSUER}/identity-pool-arn"] == (
        f"arn:aws:cognito-identity:eu-central-1:123456789012:identitypool/{pool_id}"
    )
    assert claims["exp"] - claims["iat"] == 900


def test_boto3_gets_one_too() -> None:
    with sandbox_in_thread() as sandbox:
        arn, pool_id = sandbox.guide_by_cognito()
        keys = sandbox.aws.role_session(arn)
        signed = boto3.client(
            "cognito-identity",
            region_name="us-east-1",
            endpoint_url=sandbox.aws.url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.session_token,
        )
        answer = signed.get_open_id_token_for_developer_identity(
            IdentityPoolId=pool_id, Logins={"namespace.so": "ws_1"}
        )
        signed.close()

    assert claims_of(answer["Token"])["aud"] == pool_id


async def test_the_same_login_is_the_same_identity_and_another_is_not(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    again = [(await log_in(sandbox, keys, pool_id))["IdentityId"] for _ in range(2)]
    other = await log_in(sandbox, keys, pool_id, Logins={"namespace.so": "ws_2"})

    assert again[0] == again[1] != other["IdentityId"]
    assert again[0].startswith("eu-central-1:")


@pytest.mark.parametrize("duration_s", [1, 86400])
async def test_the_duration_may_be_up_to_a_day(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str, duration_s: int
) -> None:
    answer = await log_in(sandbox, keys, pool_id, TokenDuration=duration_s)

    claims = claims_of(answer["Token"])
    assert claims["exp"] - claims["iat"] == duration_s


async def test_a_token_is_issued_by_the_sandboxs_clock(clock: FakeClock, timed: Sandbox) -> None:
    arn, pool_id = timed.guide_by_cognito(region=REGION)
    await clock.advance(minutes=7)

    answer = await log_in(timed, timed.aws.role_session(arn), pool_id)

    assert claims_of(answer["Token"])["iat"] == int(clock.now().timestamp())


# Refusals: the table of aws-api.md 7, one row each.


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({"IdentityPoolId": None}, "ValidationException", "Value null at 'identityPoolId'"),
        ({"IdentityPoolId": "x"}, "ValidationException", r"pattern: [\w-]+:[0-9a-f-]+"),
        ({"IdentityPoolId": ELSEWHERE}, "ResourceNotFoundException", "not found"),
        ({"Logins": None}, "ValidationException", "Value null at 'logins'"),
        ({"Logins": {}}, "NotAuthorizedException", "Logins don't match"),
        ({"Logins": {"namespace.so": ""}}, "ValidationException", "have length from 1 to"),
        ({"Logins": {"else.example": "ws_1"}}, "InvalidParameterException", "developer provider"),
        (
            {"Logins": {"namespace.so": "ws_1", "else.example": "ws_1"}},
            "InvalidParameterException",
            "developer provider",
        ),
        (
            {"Logins": {"namespace.so": "ws_1", "accounts.google.com": "eyJ"}},
            "NotAuthorizedException",
            "Logins don't match",
        ),
        (
            {"Logins": {f"p{number}": "x" for number in range(11)}},
            "ValidationException",
            "length less than or equal to 10",
        ),
        ({"TokenDuration": 0}, "ValidationException", "greater than or equal to 1"),
        ({"TokenDuration": 86401}, "ValidationException", "less than or equal to 86400"),
        ({"IdentityId": ELSEWHERE}, "ResourceNotFoundException", "Identity "),
    ],
    ids=str,
)
async def test_a_token_is_refused_for(
    sandbox: Sandbox,
    keys: IssuedKeys,
    pool_id: str,
    params: dict[str, object],
    code: str,
    message: str,
) -> None:
    told = await refused(sandbox, keys, pool_id, **params)

    assert (told.status, told.code) == (400, code)
    assert message in told.message


async def test_a_pool_without_a_developer_provider_takes_no_developer_login(
    sandbox: Sandbox, keys: IssuedKeys
) -> None:
    plain = sandbox.aws.add_identity_pool(developer_provider=None, region=REGION)

    told = await refused(sandbox, keys, plain)

    assert told.kind == "InvalidParameterException"


async def test_a_removed_pool_issues_nothing(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    sandbox.aws.remove_identity_pool(pool_id)

    assert (await refused(sandbox, keys, pool_id)).kind == "ResourceNotFoundException"


async def test_a_new_login_is_linked_to_an_identity_and_never_to_a_second(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    one = (await log_in(sandbox, keys, pool_id))["IdentityId"]
    two = (await log_in(sandbox, keys, pool_id, Logins={"namespace.so": "ws_2"}))["IdentityId"]

    linked = await log_in(sandbox, keys, pool_id, Logins={"namespace.so": "ws_3"}, IdentityId=one)
    told = await refused(sandbox, keys, pool_id, IdentityId=two)

    assert linked["IdentityId"] == one
    assert (told.status, told.kind) == (400, "DeveloperUserAlreadyRegisteredException")


async def test_a_policy_on_one_pool_opens_no_other(sandbox: Sandbox, pool_id: str) -> None:
    other = sandbox.aws.add_identity_pool("other", region=REGION)
    narrow = sandbox.aws.add_role("narrow", trust_policy={})
    sandbox.aws.allow_developer_tokens(narrow, pool_id)
    keys = sandbox.aws.role_session(narrow)

    await log_in(sandbox, keys, pool_id)
    told = await refused(sandbox, keys, other)

    assert (told.status, told.code) == (400, "AccessDeniedException")
    assert (
        f"GetOpenIdTokenForDeveloperIdentity on resource: arn:aws:cognito-identity:{REGION}:"
        in (told.message)
    )


async def test_a_role_without_a_policy_may_not(sandbox: Sandbox, pool_id: str) -> None:
    told = await refused(sandbox, sandbox.aws.role_session(sandbox.role_arn), pool_id)

    assert told.code == "AccessDeniedException"


async def test_bad_callers_are_told_so(sandbox: Sandbox, arn: str, pool_id: str) -> None:
    ended = sandbox.aws.role_session(arn, lifetime_s=-1)
    async with Sandbox() as elsewhere:
        foreign = elsewhere.aws.role_session(elsewhere.role_arn)

    told = [await refused(sandbox, keys, pool_id) for keys in (ended, foreign)]

    assert [(one.status, one.code) for one in told] == [
        (400, "ExpiredTokenException"),
        (400, "UnrecognizedClientException"),
    ]


# The protocol.


async def post(sandbox: Sandbox, target: str, body: bytes = b"{}") -> tuple[int, Any]:
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    async with (
        http() as session,
        session.post(sandbox.aws.url, data=body, headers=headers) as response,
    ):
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("AWSCognitoIdentityService.Nope", b"{}", "UnknownOperationException"),
        ("Else.ListIdentityPools", b"{}", "UnknownOperationException"),
        ("AWSCognitoIdentityService.ListIdentityPools", b"[]", "SerializationException"),
        ("AWSCognitoIdentityService.ListIdentityPools", b"nope", "SerializationException"),
        (
            "AWSCognitoIdentityService.ListIdentityPools",
            b"{}",
            "MissingAuthenticationTokenException",
        ),
    ],
)
async def test_what_is_no_proper_request_is_told_so(
    sandbox: Sandbox, target: str, body: bytes, code: str
) -> None:
    status, told = await post(sandbox, target, body)

    assert (status, told["__type"]) == (400, code)


async def test_a_member_of_another_type_is_not_taken_for_one(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    told = await refused(sandbox, keys, pool_id, Logins={"namespace.so": None})

    assert told.code == "SerializationException"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"code": "TooManyRequestsException"}, 400, "TooManyRequestsException"),
        ({"code": "InternalErrorException"}, 500, "InternalErrorException"),
        ({"code": "ResourceConflictException"}, 400, "ResourceConflictException"),
        ({"code": "LimitExceededException"}, 400, "LimitExceededException"),
        ({"code": "ThrottlingException"}, 400, "ThrottlingException"),
        ({"status": 429}, 429, "TooManyRequestsException"),
        ({"status": 500}, 500, "InternalErrorException"),
        ({"status": 403}, 403, "AccessDeniedException"),
    ],
    ids=str,
)
async def test_a_scripted_error_is_spelled_as_cognito_spells_it(
    sandbox: Sandbox,
    keys: IssuedKeys,
    pool_id: str,
    fault: dict[str, Any],
    status: int,
    code: str,
) -> None:
    sandbox.fail("GetOpenIdTokenForDeveloperIdentity", **fault, message="because", count=1)

    told = await refused(sandbox, keys, pool_id)
    healed = await log_in(sandbox, keys, pool_id)

    assert (told.status, told.code, told.message) == (status, code, "because")
    assert healed["Token"]


async def test_a_call_is_recorded_with_its_members(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    await log_in(sandbox, keys, pool_id)

    [call] = sandbox.aws.calls_of("GetOpenIdTokenForDeveloperIdentity")
    assert call.params == {"IdentityPoolId": pool_id, "Logins": {"namespace.so": "ws_1"}}
    assert call.status == 200


async def test_a_tampered_body_is_not_what_was_signed(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    await log_in(sandbox, keys, pool_id)
    [call] = sandbox.aws.calls_of("GetOpenIdTokenForDeveloperIdentity")
    headers = {k: v for k, v in call.headers.items() if k.lower() != "content-length"}

    async with (
        http() as session,
        session.post(sandbox.aws.url, data=b"{}", headers=headers) as response,
    ):
        told = await response.json(content_type=None)

    assert told["__type"] == "InvalidSignatureException"
