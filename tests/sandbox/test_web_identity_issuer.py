"""An account issues identity tokens: switched on in IAM, asked for at STS, verified by anybody."""

import json
from collections.abc import Mapping
from typing import Any

import boto3
import jwt
import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import Refusal, claims_of, client, http, refusal, sts

AUDIENCE = "https://federation.namespaceapis.com"
IAM_REGION = "us-east-1"


@pytest.fixture
def arn(sandbox: Sandbox) -> str:
    return sandbox.guide_by_sts(path="/ci/")


@pytest.fixture
def keys(sandbox: Sandbox, arn: str) -> IssuedKeys:
    return sandbox.aws.role_session(arn, session_name="here")


async def ask(sandbox: Sandbox, keys: IssuedKeys, **params: object) -> Any:
    """GetWebIdentityToken, good but for *params*; None leaves one out."""
    good: dict[str, object] = {"Audience": [AUDIENCE], "SigningAlgorithm": "ES384"}
    sent = {name: value for name, value in (good | params).items() if value is not None}
    async with client("sts", sandbox, keys, checks=False) as signed:
        return await signed.get_web_identity_token(**sent)


async def refused(sandbox: Sandbox, keys: IssuedKeys, **params: object) -> Refusal:
    return await refusal(ask(sandbox, keys, **params))


def allowing(**condition: object) -> dict[str, object]:
    statement = {"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
    return {"Statement": [statement | {"Condition": condition}]}


async def verified(sandbox: Sandbox, token: str) -> dict[str, Any]:
    """Verify as a relying party that knows only where the issuer's discovery is read."""
    at = sandbox.aws.resolve_at(claims_of(token)["iss"])
    async with http() as session:
        async with session.get(f"{at}/.well-known/openid-configuration") as response:
            document = await response.json()
        async with session.get(document["jwks_uri"]) as response:
            keys = jwt.PyJWKSet.from_dict(await response.json()).keys
    header = jwt.get_unverified_header(token)
    [key] = [one for one in keys if one.key_id == header["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=[header["alg"]], issuer=document["issuer"], audience=AUDIENCE
    )
    return claims


# The switch.


async def test_federation_is_switched_on_told_and_switched_off(sandbox: Sandbox) -> None:
    admin = sandbox.aws.administrator()

    async with client("iam", sandbox, admin, region=IAM_REGION) as iam:
        before = await refusal(iam.get_outbound_web_identity_federation_info())
        enabled = await iam.enable_outbound_web_identity_federation()
        again = await refusal(iam.enable_outbound_web_identity_federation())
        told = await iam.get_outbound_web_identity_federation_info()
        await iam.disable_outbound_web_identity_federation()
        after = await refusal(iam.get_outbound_web_identity_federation_info())
        twice = await refusal(iam.disable_outbound_web_identity_federation())

    issuer = enabled["IssuerIdentifier"]
    assert issuer.startswith("https://")
    assert issuer.endswith(".tokens.sts.global.api.aws")
    assert (told["IssuerIdentifier"], told["JwtVendingEnabled"]) == (issuer, True)
    assert (again.status, again.code) == (409, "FeatureEnabled")
    assert again.kind == "FeatureEnabledException"
    assert {one.kind for one in (before, after, twice)} == {"FeatureDisabledException"}
    assert {one.status for one in (before, after, twice)} == {404}


async def test_an_account_keeps_its_issuer_and_no_other_has_it(sandbox: Sandbox) -> None:
    first = sandbox.aws.enable_outbound_federation()
    sandbox.aws.disable_outbound_federation()

    assert sandbox.aws.enable_outbound_federation() == first
    assert sandbox.aws.enable_outbound_federation("210987654321") != first


async def test_iam_is_global_and_signed_for_one_region(sandbox: Sandbox, keys: IssuedKeys) -> None:
    async with client("iam", sandbox, keys, region="eu-central-1") as iam:
        told = await refusal(iam.get_outbound_web_identity_federation_info())

    assert (told.status, told.code) == (403, "SignatureDoesNotMatch")
    assert "expecting 'us-east-1'" in told.message


async def test_the_switch_has_to_be_signed_for(sandbox: Sandbox) -> None:
    version = {"Version": "2010-05-08"}

    answer = await sts(sandbox, "EnableOutboundWebIdentityFederation", version)
    at_sts = await sts(sandbox, "EnableOutboundWebIdentityFederation")

    assert (answer.status, answer.code) == (403, "MissingAuthenticationToken")
    assert (at_sts.status, at_sts.code) == (400, "InvalidAction")


# The token.


@pytest.mark.parametrize("algorithm", ["ES384", "RS256"])
async def test_a_token_says_who_the_role_is_and_anybody_can_verify_it(
    sandbox: Sandbox, keys: IssuedKeys, algorithm: str
) -> None:
    answer = await ask(sandbox, keys, SigningAlgorithm=algorithm)

    token = answer["WebIdentityToken"]
    claims = await verified(sandbox, token)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert claims["iss"] == sandbox.aws.enable_outbound_federation()
    assert claims["aud"] == AUDIENCE
    assert claims["sub"] == "arn:aws:iam::123456789012:role/ci/builder"
    assert claims["exp"] - claims["iat"] == 300
    assert claims["https://sts.amazonaws.com/"] == {
        "aws_account": "123456789012",
        "source_region": "eu-central-1",
    }
    assert int(answer["Expiration"].timestamp()) == claims["exp"]


def test_boto3_gets_one_too() -> None:
    with sandbox_in_thread() as sandbox:
        keys = sandbox.aws.role_session(sandbox.guide_by_sts())
        signed = boto3.client(
            "sts",
            region_name="eu-central-1",
            endpoint_url=sandbox.aws.url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.session_token,
        )
        answer = signed.get_web_identity_token(Audience=[AUDIENCE], SigningAlgorithm="ES384")
        signed.close()

    assert claims_of(answer["WebIdentityToken"])["aud"] == AUDIENCE


async def test_no_two_tokens_are_the_same(sandbox: Sandbox, keys: IssuedKeys) -> None:
    tokens = [(await ask(sandbox, keys))["WebIdentityToken"] for _ in range(2)]

    assert len({claims_of(token)["jti"] for token in tokens}) == 2


async def test_several_audiences_are_a_list(sandbox: Sandbox, keys: IssuedKeys) -> None:
    answer = await ask(sandbox, keys, Audience=["one", "two"])

    assert claims_of(answer["WebIdentityToken"])["aud"] == ["one", "two"]


async def test_a_users_token_names_the_user_and_no_session_bounds_it(sandbox: Sandbox) -> None:
    sandbox.aws.enable_outbound_federation()
    user = sandbox.aws.add_user("alice", policies={"any": allowing()})

    answer = await ask(sandbox, user, DurationSeconds=3600)

    claims = claims_of(answer["WebIdentityToken"])
    assert claims["sub"] == "arn:aws:iam::123456789012:user/alice"
    assert claims["exp"] - claims["iat"] == 3600


async def test_tags_become_claims_where_they_are_allowed(
    sandbox: Sandbox, arn: str, keys: IssuedKeys
) -> None:
    tags = [{"Key": "team", "Value": "a"}]

    without = await refused(sandbox, keys, Tags=tags)
    tagging = {"Effect": "Allow", "Action": "sts:Tag*", "Resource": "*"}
    sandbox.aws.set_policy(arn, "tags", {"Statement": tagging})
    answer = await ask(sandbox, keys, Tags=tags)

    claims = claims_of(answer["WebIdentityToken"])
    assert "perform: sts:TagGetWebIdentityToken" in without.message
    assert claims["https://sts.amazonaws.com/"]["request_tags"] == {"team": "a"}


async def test_a_token_from_before_the_switch_off_can_still_be_verified(
    sandbox: Sandbox, keys: IssuedKeys
) -> None:
    token = (await ask(sandbox, keys))["WebIdentityToken"]

    sandbox.aws.disable_outbound_federation()

    assert (await verified(sandbox, token))["aud"] == AUDIENCE


# Refusals: the table of aws-api.md 5, one row each, and the limits of its parameters.


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"Audience": None}, "Value null at 'audience'"),
        ({"Audience": ["x"] * 11}, "length less than or equal to 10"),
        ({"Audience": [""]}, "length greater than or equal to 1"),
        ({"Audience": ["x" * 1001]}, "length less than or equal to 1000"),
        ({"SigningAlgorithm": None}, "Value null at 'signingAlgorithm'"),
        ({"SigningAlgorithm": "HS256"}, "enum value set: [ES384, RS256]"),
        ({"SigningAlgorithm": "es384"}, "enum value set: [ES384, RS256]"),
        ({"DurationSeconds": 59}, "value greater than or equal to 60"),
        ({"DurationSeconds": 3601}, "value less than or equal to 3600"),
        ({"Tags": [{"Key": "k", "Value": "!"}]}, "at 'tags'"),
        ({"Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]}, "less than or equal to 50"),
    ],
    ids=str,
)
async def test_a_parameter_beyond_its_limits_is_refused(
    sandbox: Sandbox, keys: IssuedKeys, params: dict[str, object], message: str
) -> None:
    told = await refused(sandbox, keys, **params)

    assert (told.status, told.code) == (400, "ValidationError")
    assert message in told.message


async def test_an_account_that_is_not_switched_on_issues_nothing(
    sandbox: Sandbox, keys: IssuedKeys
) -> None:
    sandbox.aws.disable_outbound_federation()

    told = await refused(sandbox, keys)

    assert (told.status, told.kind) == (403, "OutboundWebIdentityFederationDisabledException")


async def test_a_token_never_outlives_the_session_that_asks_for_it(
    clock: FakeClock, timed: Sandbox
) -> None:
    keys = timed.aws.role_session(timed.guide_by_sts(), lifetime_s=600)

    longer = await refused(timed, keys, DurationSeconds=601)
    await ask(timed, keys, DurationSeconds=600)
    await clock.advance(seconds=301)
    by_default = await refused(timed, keys)
    await ask(timed, keys, DurationSeconds=299)

    assert (longer.status, longer.kind) == (403, "SessionDurationEscalationException")
    assert by_default.kind == "SessionDurationEscalationException"


async def test_tags_that_are_too_much_together_are_refused(
    sandbox: Sandbox, arn: str, keys: IssuedKeys
) -> None:
    everything = {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}
    sandbox.aws.set_policy(arn, "tags", {"Statement": [everything]})
    tags = [{"Key": f"{n:0128}", "Value": "v" * 256} for n in range(50)]

    told = await refused(sandbox, keys, Tags=tags)

    assert (told.status, told.kind) == (400, "JWTPayloadSizeExceededException")


async def test_a_role_without_a_policy_may_not(sandbox: Sandbox) -> None:
    sandbox.aws.enable_outbound_federation()

    told = await refused(sandbox, sandbox.aws.role_session(sandbox.role_arn))

    assert (told.status, told.code) == (403, "AccessDenied")
    assert told.message == (
        "User: arn:aws:sts::123456789012:assumed-role/deploy/test is not authorized to perform: "
        "sts:GetWebIdentityToken on resource: * because no identity-based policy allows the "
        "sts:GetWebIdentityToken action"
    )


LIMITED = {
    "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": [AUDIENCE]},
    "StringEquals": {"sts:SigningAlgorithm": "ES384"},
    "NumericLessThanEquals": {"sts:DurationSeconds": 300},
}


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        ({}, True),
        ({"DurationSeconds": 60}, True),
        ({"DurationSeconds": 301}, False),
        ({"SigningAlgorithm": "RS256"}, False),
        ({"Audience": [AUDIENCE, "else"]}, False),
        ({"Audience": ["else"]}, False),
    ],
    ids=str,
)
async def test_a_policys_conditions_bound_what_may_be_asked_for(
    sandbox: Sandbox, params: Mapping[str, object], allowed: bool
) -> None:
    sandbox.aws.enable_outbound_federation()
    limited = sandbox.aws.add_role("ci", trust_policy={}, policies={"p": allowing(**LIMITED)})
    keys = sandbox.aws.role_session(limited)

    if allowed:
        assert (await ask(sandbox, keys, **params))["WebIdentityToken"]
    else:
        assert (await refused(sandbox, keys, **params)).code == "AccessDenied"


async def test_a_deny_wins_until_it_is_removed(
    sandbox: Sandbox, arn: str, keys: IssuedKeys
) -> None:
    deny = {"Effect": "Deny", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
    sandbox.aws.set_policy(arn, "never", {"Statement": [deny]})

    denied = await refused(sandbox, keys)
    sandbox.aws.remove_policy(arn, "never")
    await ask(sandbox, keys)

    assert denied.code == "AccessDenied"
    assert list(sandbox.aws.policies_of(arn)) == ["allow-get-web-identity-token"]


async def test_a_session_of_a_role_that_is_gone_may_nothing(
    sandbox: Sandbox, arn: str, keys: IssuedKeys
) -> None:
    sandbox.aws.remove_role(arn)

    assert (await refused(sandbox, keys)).code == "AccessDenied"


async def test_bad_callers_are_told_so(sandbox: Sandbox, arn: str) -> None:
    ended = sandbox.aws.role_session(arn, lifetime_s=-1)
    async with Sandbox() as elsewhere:
        foreign = elsewhere.aws.role_session(elsewhere.role_arn)

    told = [await refused(sandbox, keys) for keys in (ended, foreign)]
    unsigned = await sts(sandbox, "GetWebIdentityToken")

    assert [(one.status, one.code) for one in told] == [
        (403, "ExpiredToken"),
        (403, "InvalidClientTokenId"),
    ]
    assert (unsigned.status, unsigned.code) == (403, "MissingAuthenticationToken")


async def test_the_global_endpoint_has_no_such_operation(
    sandbox: Sandbox, keys: IssuedKeys
) -> None:
    sandbox.aws.global_hosts = frozenset({"localhost"})
    at_global = sandbox.aws.url.replace("127.0.0.1", "localhost")

    async with client("sts", sandbox, keys, url=at_global) as signed:
        told = await refusal(
            signed.get_web_identity_token(Audience=[AUDIENCE], SigningAlgorithm="ES384")
        )
        somebody = await signed.get_caller_identity()

    assert (told.status, told.code) == (400, "InvalidAction")
    assert somebody["Account"] == "123456789012"
    assert (await ask(sandbox, keys))["WebIdentityToken"]


# The issuer's documents.


async def test_nothing_else_is_published(sandbox: Sandbox, arn: str) -> None:
    at = sandbox.aws.resolve_at(sandbox.aws.enable_outbound_federation())

    async with http() as session:
        wrong = [f"{at}/", f"{at}/.well-known/else", f"{sandbox.aws.url}/.issuers/else"]
        statuses = [(await session.get(url)).status for url in wrong]

    assert statuses == [404] * 3
    assert sandbox.aws.resolve_at("https://else.example") is None


async def test_the_documents_can_be_made_to_fail(sandbox: Sandbox, arn: str) -> None:
    at = sandbox.aws.resolve_at(sandbox.aws.enable_outbound_federation())
    sandbox.fail("jwks", status=503, count=1)
    sandbox.fail("jwks", body={"keys": []}, count=1)

    async with http() as session:
        answers = []
        for _ in range(3):
            async with session.get(f"{at}/.well-known/jwks.json") as response:
                answers.append((response.status, await response.text()))

    assert [status for status, _ in answers] == [503, 200, 200]
    assert json.loads(answers[1][1]) == {"keys": []}
    assert {key["kty"] for key in json.loads(answers[2][1])["keys"]} == {"EC", "RSA"}


async def test_a_call_is_recorded_with_its_parameters(sandbox: Sandbox, keys: IssuedKeys) -> None:
    await ask(sandbox, keys, DurationSeconds=120)

    [call] = sandbox.aws.calls_of("GetWebIdentityToken")
    assert call.params["Audience.member.1"] == AUDIENCE
    assert call.params["DurationSeconds"] == "120"
    assert (call.status, call.access_key_id) == (200, keys.access_key_id)
    assert sandbox.aws.verified_identities[-1].operation == "GetWebIdentityToken"


async def test_a_token_is_issued_by_the_sandboxs_clock(clock: FakeClock, timed: Sandbox) -> None:
    keys = timed.aws.role_session(timed.guide_by_sts())
    await clock.advance(minutes=7)

    answer = await ask(timed, keys)

    issued_at = claims_of(answer["WebIdentityToken"])["iat"]
    assert issued_at == int(clock.now().timestamp())
