"""STS admits what AWS would admit, and refuses the rest with AWS's codes and words."""

import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from broker.sandbox import Sandbox
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import assume, client, sts

BROKEN = "Syntax errors in policy."
NO_KEY = "Couldn't retrieve verification key from your identity provider"
NO_HOP = "AccessDenied.* is not authorized to perform: sts:AssumeRole on resource"
NOT_AUTHORIZED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
S3_POLICY = json.dumps(
    {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}, separators=(",", ":")
)


# AssumeRoleWithWebIdentity.


async def test_a_trusted_id_token_buys_an_hour_of_credentials(
    timed: Sandbox, clock: FakeClock
) -> None:
    answer = await assume(timed)

    assert answer.status == 200
    assert answer.texts["AccessKeyId"].startswith("ASIA")
    assert answer.texts["SubjectFromWebIdentityToken"] == "ws_1/i-abc"
    assert answer.texts["Audience"] == "sts.amazonaws.com"
    assert answer.texts["Provider"] == "https://federation.namespaceapis.com"
    assert answer.texts["Arn"] == "arn:aws:sts::123456789012:assumed-role/deploy/nsc.instance=i-abc"
    assert answer.texts["AssumedRoleId"].endswith(":nsc.instance=i-abc")
    assert answer.texts["Expiration"] == f"{clock.now() + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    issued = timed.aws.issued[-1]
    assert issued.session_token == answer.texts["SessionToken"]


async def test_an_unmodified_sdk_reads_the_answer(sandbox: Sandbox) -> None:
    async with client("sts", sandbox, None) as unsigned:
        answer = await unsigned.assume_role_with_web_identity(
            RoleArn=sandbox.role_arn,
            RoleSessionName="nsc.tenant=ws_1",
            WebIdentityToken=sandbox.namespace.id_token(),
            DurationSeconds=900,
            Policy=S3_POLICY,
            PolicyArns=[{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
        )

    call = sandbox.aws.calls_of("AssumeRoleWithWebIdentity")[0]
    assert answer["Credentials"]["AccessKeyId"] == sandbox.aws.issued[0].access_key_id
    assert 1 <= answer["PackedPolicySize"] <= 100
    assert call.params["RoleSessionName"] == "nsc.tenant=ws_1"
    assert not call.authorization_present
    assert call.status == 200


@pytest.mark.parametrize("algorithm", ["RS256", "ES384", "ES512"])
async def test_tokens_of_every_algorithm_that_aws_takes_are_verified(algorithm: str) -> None:
    async with Sandbox(algorithm=algorithm) as sandbox:
        assert (await assume(sandbox)).status == 200


@pytest.mark.parametrize(
    ("claims", "code", "message"),
    [
        ({"audience": "else"}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"lifetime_s": -60}, "ExpiredTokenException", "Token expired"),
        ({"iat": 0}, "ExpiredTokenException", "Token too old: "),
        ({"iat": 9_999_999_999}, "InvalidIdentityToken", "not yet valid"),
        ({"lifetime_s": 600.5}, "InvalidIdentityToken", "exp must be an integer"),
        ({"exp": None}, "InvalidIdentityToken", "Missing a required claim: exp"),
        ({"iat": None}, "InvalidIdentityToken", "Missing a required claim: iat"),
        ({"sub": None}, "InvalidIdentityToken", "Missing a required claim: sub"),
        ({"iss": "https://else.example"}, "InvalidIdentityToken", "No OpenIDConnect provider"),
        ({"iss": None}, "InvalidIdentityToken", "No OpenIDConnect provider"),
        ({"sub": "ws_2/i-abc"}, "AccessDenied", NOT_AUTHORIZED),
    ],
)
async def test_an_id_token_is_refused_for(
    sandbox: Sandbox, claims: dict[str, Any], code: str, message: str
) -> None:
    answer = await assume(sandbox, WebIdentityToken=sandbox.namespace.id_token(**claims))

    assert answer.status == (403 if code == "AccessDenied" else 400)
    assert answer.code == code
    assert message in (answer.message or "")
    assert not sandbox.aws.issued


ALG_NONE = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2ZlZGVyYXRpb24ubmFtZXNwYWNlYXBpcy5jb20ifQ."


@pytest.mark.parametrize("token", ["aaaa", "a.b.c", "nsct_eyJh", ALG_NONE])
async def test_what_is_no_jwt_is_no_identity_token(sandbox: Sandbox, token: str) -> None:
    answer = await assume(sandbox, WebIdentityToken=token)

    assert answer.code == "InvalidIdentityToken"


async def test_a_tampered_id_token_is_refused(sandbox: Sandbox) -> None:
    head, _, signature = sandbox.namespace.id_token().split(".")
    _, payload, _ = sandbox.namespace.id_token(sub="ws_1/root").split(".")

    answer = await assume(sandbox, WebIdentityToken=f"{head}.{payload}.{signature}")

    assert (answer.code, answer.message) == ("InvalidIdentityToken", "Token signature is not valid")


async def test_a_token_of_a_key_that_the_issuer_does_not_publish_is_refused(
    sandbox: Sandbox,
) -> None:
    async with Sandbox() as impostor:
        answer = await assume(sandbox, WebIdentityToken=impostor.namespace.id_token())

    assert answer.code == "InvalidIdentityToken"
    assert NO_KEY in (answer.message or "")


@pytest.mark.parametrize("document", ["openid-configuration", "jwks"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 429},
        {"body": "<html>"},
        {"body": b""},
        {"body": b"[]"},
        {"body": b" " * 10_000_000},
        {"reset": True},
        {"truncated": True},
        {"delay_s": 60.0},
    ],
    ids=str,
)
async def test_without_the_issuers_keys_no_token_can_be_verified(
    document: str, fault: dict[str, Any]
) -> None:
    async with Sandbox(jwks_timeout_s=0.5) as sandbox:
        sandbox.fail(document, **fault)
        refused = await assume(sandbox)
        sandbox.heal(document)
        admitted = await assume(sandbox)

    assert refused.code == "InvalidIdentityToken"
    assert NO_KEY in (refused.message or "")
    assert admitted.status == 200


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({"RoleArn": "arn:aws:iam::123456789012:role/gone"}, "AccessDenied", NOT_AUTHORIZED),
        (
            {"RoleArn": "arn:aws:iam::210987654321:role/deploy"},
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://federation",
        ),
        (
            {"RoleArn": "arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com"},
            "ValidationError",
            "Request ARN is invalid",
        ),
        ({"RoleArn": "deploy"}, "ValidationError", "length greater than or equal to 20"),
        ({"RoleSessionName": "a b"}, "ValidationError", r"expression pattern: [\w+=,.@-]*"),
        ({"RoleSessionName": "ä" * 8}, "ValidationError", "regular expression pattern"),
        ({"RoleSessionName": "a"}, "ValidationError", "length greater than or equal to 2"),
        ({"RoleSessionName": "a" * 65}, "ValidationError", "length less than or equal to 64"),
        ({"WebIdentityToken": "a" * 20001}, "ValidationError", "less than or equal to 20000"),
        ({"DurationSeconds": "899"}, "ValidationError", "value greater than or equal to 900"),
        ({"DurationSeconds": "43201"}, "ValidationError", "value less than or equal to 43200"),
        (
            {"DurationSeconds": "3601"},
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        ({"DurationSeconds": "long"}, "MalformedInput", "not an integer"),
        ({"Policy": "{nope"}, "MalformedPolicyDocument", BROKEN),
        ({"Policy": '{"Statement":[{"Effect":"Allow"}]}'}, "MalformedPolicyDocument", BROKEN),
        ({"Policy": " " * 2049}, "ValidationError", "length less than or equal to 2048"),
        (
            {
                "Policy": S3_POLICY + " " * 1900,
                "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/" + "x" * 200,
            },
            "PackedPolicyTooLarge",
            "of allotted space",
        ),
        ({"PolicyArns.member.1.arn": "ReadOnly"}, "ValidationError", "ARN in PolicyArns"),
        (
            {
                f"PolicyArns.member.{n}.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"
                for n in range(1, 12)
            },
            "ValidationError",
            "length less than or equal to 10",
        ),
        ({"Version": "2010-05-08"}, "InvalidAction", "Could not find operation"),
        ({"Action": "GetSessionToken"}, "InvalidAction", "Could not find operation"),
    ],
)
async def test_a_request_is_refused_for(
    sandbox: Sandbox, params: dict[str, str], code: str, message: str
) -> None:
    answer = await assume(sandbox, **params)

    assert answer.status == (403 if code == "AccessDenied" else 400)
    assert answer.code == code
    assert message in (answer.message or "")


@pytest.mark.parametrize("missing", ["RoleArn", "RoleSessionName", "WebIdentityToken"])
async def test_a_missing_parameter_is_named(sandbox: Sandbox, missing: str) -> None:
    params = {"RoleArn": sandbox.role_arn, "RoleSessionName": "ab", "WebIdentityToken": "aaaa"}
    del params[missing]

    answer = await sts(sandbox, "AssumeRoleWithWebIdentity", params)

    assert answer.code == "ValidationError"
    assert missing[1:] in (answer.message or "")
    assert "must not be null" in (answer.message or "")


async def test_web_identity_has_to_arrive_unsigned(sandbox: Sandbox) -> None:
    answer = await sts(
        sandbox, "AssumeRoleWithWebIdentity", headers={"Authorization": "AWS4-HMAC-SHA256 x"}
    )

    assert (answer.status, answer.code) == (400, "UnexpectedSignature")


async def test_a_role_that_allows_longer_sessions_gives_them(timed: Sandbox) -> None:
    timed.aws.set_max_session_duration(timed.role_arn, 43200)

    await assume(timed, DurationSeconds="43200")

    ends_at = timed.aws.issued[-1].expires_at
    assert ends_at is not None
    assert ends_at - timed.aws.calls[-1].at == timedelta(hours=12)


async def test_trust_can_be_withdrawn_and_given_back(sandbox: Sandbox) -> None:
    given = sandbox.aws.trust_of(sandbox.role_arn)

    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="ws_2/*"))
    refused = await assume(sandbox)
    sandbox.aws.set_trust(sandbox.role_arn, given)
    admitted = await assume(sandbox)
    sandbox.aws.remove_role(sandbox.role_arn)
    removed = await assume(sandbox)

    assert [refused.code, admitted.code, removed.code] == ["AccessDenied", None, "AccessDenied"]


async def test_a_removed_provider_vouches_for_nobody(sandbox: Sandbox) -> None:
    sandbox.aws.remove_provider(sandbox.provider_arn)

    assert "No OpenIDConnect provider" in ((await assume(sandbox)).message or "")


async def test_an_id_token_ends_by_the_sandboxs_clock(timed: Sandbox, clock: FakeClock) -> None:
    token = timed.namespace.id_token(lifetime_s=600)

    await clock.advance(seconds=599)
    in_time = await assume(timed, WebIdentityToken=token)
    await clock.advance(seconds=1)
    too_late = await assume(timed, WebIdentityToken=token)

    assert (in_time.code, too_late.code) == (None, "ExpiredTokenException")


async def test_control_characters_that_are_echoed_do_not_break_the_answer(
    sandbox: Sandbox,
) -> None:
    answer = await assume(sandbox, RoleSessionName="<&\x00\x1b>")

    assert answer.code == "ValidationError"
    assert "<&??>" in (answer.message or "")


# Role chaining.


def hop_trust(*principals: str, **conditions: object) -> dict[str, object]:
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    statement = {"Effect": "Allow", "Action": actions, "Principal": {"AWS": list(principals)}}
    return {"Statement": [statement | {"Condition": conditions}]}


async def test_a_role_session_takes_the_next_role_for_an_hour_at_most(sandbox: Sandbox) -> None:
    target = sandbox.aws.add_role(
        "target", trust_policy=hop_trust(sandbox.role_arn), max_session_duration=43200
    )

    async with client("sts", sandbox, sandbox.aws.role_session(sandbox.role_arn)) as chained:
        answer = await chained.assume_role(RoleArn=target, RoleSessionName="hop")
        with pytest.raises(ClientError, match="1 hour session limit for roles assumed by role ch"):
            await chained.assume_role(RoleArn=target, RoleSessionName="hop", DurationSeconds=3601)

    assert answer["AssumedRoleUser"]["Arn"].endswith("assumed-role/target/hop")


async def test_a_users_first_hop_is_not_chaining(sandbox: Sandbox) -> None:
    user = sandbox.aws.administrator()
    target = sandbox.aws.add_role(
        "target", trust_policy=hop_trust("123456789012"), max_session_duration=7200
    )

    async with client("sts", sandbox, user) as signed:
        answer = await signed.assume_role(
            RoleArn=target, RoleSessionName="hop", DurationSeconds=7200
        )

    assert answer["Credentials"]["AccessKeyId"] == sandbox.aws.issued[-1].access_key_id


@pytest.mark.parametrize(
    ("external_id", "admitted"), [("x-1", True), ("x-2", False), (None, False)]
)
async def test_the_external_id_has_to_be_the_one_that_the_trust_wants(
    sandbox: Sandbox, external_id: str | None, admitted: bool
) -> None:
    trust = hop_trust(sandbox.role_arn, StringEquals={"sts:ExternalId": "x-1"})
    target = sandbox.aws.add_role("target", trust_policy=trust)
    params = {} if external_id is None else {"ExternalId": external_id}

    async with client("sts", sandbox, sandbox.aws.role_session(sandbox.role_arn)) as chained:
        with contextlib.nullcontext() if admitted else pytest.raises(ClientError, match=NO_HOP):
            await chained.assume_role(RoleArn=target, RoleSessionName="hop", **params)

    assert (len(sandbox.aws.issued) == 2) is admitted


async def test_source_identity_and_transitive_tags_stay_over_the_hops(sandbox: Sandbox) -> None:
    second = sandbox.aws.add_role("second", trust_policy=hop_trust(sandbox.role_arn))
    third = sandbox.aws.add_role(
        "third",
        trust_policy=hop_trust(second, StringEquals={"aws:PrincipalTag/team": "a"}),
    )

    async with client("sts", sandbox, sandbox.aws.role_session(sandbox.role_arn)) as first:
        await first.assume_role(
            RoleArn=second,
            RoleSessionName="two",
            SourceIdentity="alice",
            Tags=[{"Key": "team", "Value": "a"}],
            TransitiveTagKeys=["team"],
        )
    async with client("sts", sandbox, sandbox.aws.issued[-1]) as hop:
        answer = await hop.assume_role(RoleArn=third, RoleSessionName="three")
        with pytest.raises(ClientError, match="cannot be changed"):
            await hop.assume_role(RoleArn=third, RoleSessionName="x3", SourceIdentity="bob")

    assert answer["SourceIdentity"] == "alice"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Tags": [{"Key": "k", "Value": "!"}]}, "ValidationError"),
        ({"Tags": [{"Key": "k", "Value": "v"}] * 2}, "InvalidParameterValue"),
        ({"Tags": [{"Key": f"k{n}", "Value": "v"} for n in range(51)]}, "ValidationError"),
        ({"TransitiveTagKeys": ["k"]}, "ValidationError"),
        ({"SourceIdentity": "a b"}, "ValidationError"),
        ({"ExternalId": "a b"}, "ValidationError"),
    ],
)
async def test_a_hop_is_refused_for(sandbox: Sandbox, params: dict[str, Any], code: str) -> None:
    target = sandbox.aws.add_role("target", trust_policy=hop_trust(sandbox.role_arn))

    async with client("sts", sandbox, sandbox.aws.role_session(sandbox.role_arn)) as chained:
        with pytest.raises(ClientError) as refused:
            await chained.assume_role(RoleArn=target, RoleSessionName="hop", **params)

    assert refused.value.response["Error"]["Code"] == code


async def test_tags_need_their_own_action_in_the_trust(sandbox: Sandbox) -> None:
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": sandbox.role_arn},
    }
    target = sandbox.aws.add_role("target", trust_policy={"Statement": statement})

    async with client("sts", sandbox, sandbox.aws.role_session(sandbox.role_arn)) as chained:
        with pytest.raises(ClientError, match="not authorized to perform: sts:TagSession"):
            await chained.assume_role(
                RoleArn=target, RoleSessionName="hop", Tags=[{"Key": "k", "Value": "v"}]
            )
