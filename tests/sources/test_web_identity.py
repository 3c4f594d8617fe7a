"""Tokens by which AWS vouches for us: what is sent, what comes, and where it is sent.

Through the sandbox's STS and Cognito, signatures verified, by an unmodified aiobotocore.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.clock import SystemClock
from broker.lease import Refused, SourceError, Unavailable
from broker.sandbox import Sandbox
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.errors import OutlivesSession
from broker.sources.aws.web_identity import IdentityPoolId, parse_identity_pool
from tests.support.sources import (
    REGION,
    Workload,
    answering,
    chunked_answer,
    hanging,
    http_answer,
    jwt_of,
    key_variables,
)

BY_STS = "GetWebIdentityToken"
BY_COGNITO = "GetOpenIdTokenForDeveloperIdentity"
MIB = 1 << 20


async def sts_error(workload: Workload, **settings: object) -> SourceError:
    """Return the error that the next web identity token ends in."""
    with pytest.raises(SourceError) as error:
        await workload.web_identity(**settings).fetch()  # type: ignore[arg-type]
    return error.value


async def cognito_error(workload: Workload, **settings: object) -> SourceError:
    """Return the error that the next developer token ends in."""
    with pytest.raises(SourceError) as error:
        await workload.developer_token(**settings).fetch()  # type: ignore[arg-type]
    return error.value


# Web identity tokens.


@pytest.mark.parametrize("algorithm", ["ES384", "RS256"])
async def test_sts_vouches_for_the_role_itself_in_a_short_token(
    workload: Workload, sandbox: Sandbox, algorithm: str
) -> None:
    lease = await workload.web_identity(algorithm=algorithm).fetch()

    assert lease.value.subject == workload.arn
    assert lease.value.issuer.endswith(".tokens.sts.global.api.aws")
    assert lease.value.audience == "https://federation.namespaceapis.com"
    assert lease.expires_at == lease.issued_at + timedelta(seconds=300)
    (call,) = sandbox.aws.calls_of(BY_STS)
    assert call.params == {
        "Action": BY_STS,
        "Version": "2011-06-15",
        "Audience.member.1": "https://federation.namespaceapis.com",
        "SigningAlgorithm": algorithm,
        "DurationSeconds": "300",
    }
    assert sandbox.aws.verified_identities[-1].operation == BY_STS


async def test_the_subject_is_the_tokens_own_with_the_path_that_a_session_does_not_show(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = sandbox.guide_by_sts("ci", path="/team/")
    for name, value in key_variables(sandbox.aws.role_session(arn)).items():
        monkeypatch.setenv(name, value)

    lease = await workload.web_identity().fetch()

    assert lease.value.subject == "arn:aws:iam::123456789012:role/team/ci"


async def test_each_fetch_draws_a_fresh_token(workload: Workload) -> None:
    source = workload.web_identity()

    first, second = await source.fetch(), await source.fetch()

    assert first.value.jwt != second.value.jwt


async def test_no_secret_is_in_the_repr_of_a_token(workload: Workload) -> None:
    lease = await workload.web_identity().fetch()

    assert lease.value.jwt not in repr(lease) + repr(lease.value)


async def test_a_switch_that_is_off_says_what_switches_it_on(
    workload: Workload, sandbox: Sandbox
) -> None:
    sandbox.aws.disable_outbound_federation()

    error = await sts_error(workload)

    assert (type(error), error.word) == (Refused, "federation-disabled")
    assert "`namespace-broker setup to-namespace --via sts`" in str(error)
    assert "`aws iam enable-outbound-web-identity-federation`" in str(error)


async def test_a_role_that_may_have_no_token_says_what_to_allow(
    workload: Workload, sandbox: Sandbox
) -> None:
    sandbox.aws.remove_policy(workload.arn, "allow-get-web-identity-token")

    error = await sts_error(workload)

    assert (type(error), error.word) == (Refused, "access-denied")
    assert "allow sts:GetWebIdentityToken for the audience https://federation." in str(error)
    assert "assumed-role/builder/test" in str(error)


# Sessions that end before the token would.


async def with_session(
    sandbox: Sandbox, arn: str, monkeypatch: pytest.MonkeyPatch, *, lifetime_s: int, told: bool
) -> None:
    """Make this process the holder of a session of *arn*, with its end *told* or not."""
    keys = sandbox.aws.role_session(arn, lifetime_s=lifetime_s)
    for name, value in key_variables(keys).items():
        monkeypatch.setenv(name, value)
    assert keys.expires_at is not None
    if told:
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", keys.expires_at.isoformat())


def durations_asked(sandbox: Sandbox) -> list[int]:
    return [int(str(call.params["DurationSeconds"])) for call in sandbox.aws.calls_of(BY_STS)]


async def test_a_token_that_would_outlive_the_session_is_asked_for_shorter(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_session(sandbox, workload.arn, monkeypatch, lifetime_s=200, told=True)

    lease = await workload.web_identity().fetch()

    first, second = durations_asked(sandbox)
    assert first == 300
    assert 150 < second <= 195
    assert lease.expires_at == lease.issued_at + timedelta(seconds=second)


async def test_where_nobody_knows_the_sessions_end_the_shortest_token_is_asked_for(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_session(sandbox, workload.arn, monkeypatch, lifetime_s=200, told=False)

    await workload.web_identity().fetch()

    assert durations_asked(sandbox) == [300, 60]


async def test_a_session_that_ends_too_soon_for_any_token_is_looked_up_anew(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_session(sandbox, workload.arn, monkeypatch, lifetime_s=40, told=False)
    sandbox.fail(BY_STS, code="SessionDurationEscalationException", count=1)
    source = workload.web_identity()
    await workload.chain.seconds_left()  # what is in the environment now is what it knows
    await with_session(sandbox, workload.arn, monkeypatch, lifetime_s=3600, told=True)

    await source.fetch()

    assert durations_asked(sandbox) == [300, 300]
    old, new = sandbox.aws.calls_of(BY_STS)
    assert old.access_key_id != new.access_key_id


async def test_a_session_too_short_for_any_token_says_so(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_session(sandbox, workload.arn, monkeypatch, lifetime_s=40, told=True)

    error = await sts_error(workload)

    assert isinstance(error, OutlivesSession)
    assert "this machine's AWS credentials end before the shortest token would" in str(error)
    assert durations_asked(sandbox) == [300, 60]


# Regional endpoints only.


@pytest.fixture
def nothing_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")


@pytest.mark.usefixtures("nothing_is_reached")
async def test_a_regional_endpoint_is_asked_by_default(workload: Workload) -> None:
    error = await sts_error(workload, endpoint=None)

    assert isinstance(error, Unavailable)
    assert "STS (https://sts.eu-central-1.amazonaws.com)" in str(error)


@pytest.mark.usefixtures("nothing_is_reached")
async def test_the_legacy_setting_in_the_environment_is_named(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")

    error = await sts_error(workload, endpoint=None)

    assert (type(error), error.word) == (Refused, "bad-request")
    assert str(error).startswith(
        "AWS_STS_REGIONAL_ENDPOINTS=legacy leads to https://sts.amazonaws.com, the global STS"
    )


@pytest.mark.usefixtures("nothing_is_reached")
async def test_the_legacy_setting_in_the_shared_files_is_named(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nsts_regional_endpoints = legacy\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    error = await sts_error(workload, endpoint=None)

    assert str(error).startswith(f"sts_regional_endpoints = legacy in {config} leads to https://")


@pytest.mark.usefixtures("nothing_is_reached")
@pytest.mark.parametrize("by_profile", [False, True])
async def test_a_region_that_is_the_global_one_is_named(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_profile: bool
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = aws-global\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    error = await sts_error(workload, endpoint=None, region=None if by_profile else "aws-global")

    assert str(error).startswith("the region aws-global leads to https://sts.amazonaws.com")


async def test_an_endpoint_that_is_the_global_one_is_named(workload: Workload) -> None:
    error = await sts_error(workload, endpoint="https://sts.amazonaws.com")

    assert str(error).startswith("AWS_ENDPOINT_URL_STS leads to https://sts.amazonaws.com")


async def test_a_missing_region_is_named_and_nothing_is_asked(
    workload: Workload, sandbox: Sandbox
) -> None:
    error = await sts_error(workload, region=None)

    assert (type(error), error.word) == (Refused, "bad-request")
    assert "no AWS region is set" in str(error)
    assert sandbox.aws.calls == ()


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
async def test_without_a_region_of_its_own_the_environments_is_used(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "eu-west-3")

    await workload.web_identity(region=None).fetch()

    assert "/eu-west-3/sts/" in sandbox.aws.calls[-1].headers["Authorization"]


async def test_an_endpoint_in_the_shared_files_redirects_nothing(
    workload: Workload, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = "http://127.0.0.1:1"
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = {nowhere}\nuse_fips_endpoint = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ENDPOINT_URL", nowhere)

    await workload.web_identity().fetch()
    await workload.developer_token().fetch()

    assert len(sandbox.aws.verified_identities) == 2


# Developer tokens.


async def test_cognito_vouches_for_who_logs_in_as_the_workspace(
    workload: Workload, sandbox: Sandbox
) -> None:
    lease = await workload.developer_token().fetch()

    assert lease.value.issuer == "https://cognito-identity.amazonaws.com"
    assert lease.value.audience == workload.pool_id
    assert lease.value.subject.startswith("eu-central-1:")
    assert lease.expires_at == lease.issued_at + timedelta(seconds=300)
    (call,) = sandbox.aws.calls_of(BY_COGNITO)
    assert call.params == {
        "IdentityPoolId": workload.pool_id,
        "Logins": {"namespace.so": "ws_1"},
        "TokenDuration": 300,
    }


async def test_a_pool_may_be_named_by_its_bare_guid(workload: Workload) -> None:
    _, _, guid = workload.pool_id.partition(":")

    lease = await workload.developer_token(identity_pool=guid).fetch()

    assert lease.value.audience == workload.pool_id


@pytest.mark.parametrize(
    ("named", "region", "pool"),
    [
        ("6f0a-1", "eu-west-1", IdentityPoolId(region="eu-west-1", guid="6f0a-1")),
        ("us-east-1:6f0a-1", "eu-west-1", IdentityPoolId(region="us-east-1", guid="6f0a-1")),
        ("us-east-1:6f0a-1", None, IdentityPoolId(region="us-east-1", guid="6f0a-1")),
    ],
)
def test_the_region_of_a_pool_is_its_own_else_the_identitys(
    named: str, region: str | None, pool: IdentityPoolId
) -> None:
    assert parse_identity_pool(named, region=region) == pool


@pytest.mark.parametrize(
    ("named", "region", "told"),
    [("6f0a-1", None, "no region"), ("", REGION, "guid"), ("no pool", REGION, "guid")],
)
def test_what_names_no_pool_is_an_error(named: str, region: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_identity_pool(named, region=region)


async def test_a_pool_that_is_not_there_is_refused(workload: Workload, sandbox: Sandbox) -> None:
    policy = {"Effect": "Allow", "Action": "cognito-identity:*", "Resource": "*"}
    sandbox.aws.set_policy(workload.arn, "all", {"Statement": policy})
    elsewhere = f"{REGION}:00000000-0000-0000-0000-000000000000"

    error = await cognito_error(workload, identity_pool=elsewhere)

    assert (type(error), error.word) == (Refused, "not-found")
    assert f"has no identity pool {elsewhere}" in str(error)


async def test_a_role_that_may_not_use_the_pool_says_what_to_allow(
    workload: Workload, sandbox: Sandbox
) -> None:
    for name in sandbox.aws.policies_of(workload.arn):
        sandbox.aws.remove_policy(workload.arn, name)

    error = await cognito_error(workload)

    assert (type(error), error.word) == (Refused, "access-denied")
    assert "allow cognito-identity:GetOpenIdTokenForDeveloperIdentity on" in str(error)
    assert workload.pool_id in str(error)


async def test_a_developer_provider_that_the_pool_does_not_have_is_named(
    workload: Workload,
) -> None:
    error = await cognito_error(workload, developer_provider="other.example")

    assert (type(error), error.word) == (Refused, "bad-request")
    assert "must have the developer provider other.example" in str(error)


# What botocore makes of a server's reaction: the table of aws-api 2.4.

REACTIONS: dict[str, tuple[dict[str, object], type[SourceError], str]] = {
    "500 empty": ({"status": 500, "body": b""}, Unavailable, "upstream-error"),
    "502 empty": ({"status": 502, "body": b""}, Unavailable, "upstream-error"),
    "503 with <html>": ({"status": 503, "body": b"<html></html>"}, Unavailable, ""),
    "502 with other text": ({"status": 502, "body": b"<!doctype html>"}, Unavailable, ""),
    "429": ({"status": 429, "code": "Odd"}, Unavailable, "throttled"),
    "a code nobody knows": ({"status": 400, "code": "Odd"}, Refused, "bad-request"),
    "400 with text": ({"status": 400, "body": b"no"}, Unavailable, "bad-answer"),
    "403 with <html>": ({"status": 403, "body": b"<html></html>"}, Unavailable, "bad-answer"),
    "404 empty": ({"status": 404, "body": b""}, Unavailable, "bad-answer"),
    "200 with garbage": ({"status": 200, "body": b"garbage"}, Unavailable, "bad-answer"),
    "200 with <html>": ({"status": 200, "body": b"<html></html>"}, Unavailable, "bad-answer"),
    "200 empty": ({"status": 200, "body": b""}, Unavailable, "bad-answer"),
    "301": ({"status": 301, "body": b"", "headers": {"Location": "/"}}, Unavailable, "bad-answer"),
    "10 MiB": ({"status": 200, "body": b"x" * (10 * MIB)}, Unavailable, "bad-answer"),
    "10 MiB of error": ({"status": 403, "body": b"<" * (10 * MIB)}, Unavailable, "bad-answer"),
    "a reset": ({"reset": True}, Unavailable, "unreachable"),
    "half an answer": ({"truncated": True}, Unavailable, "bad-answer"),
}


@pytest.mark.parametrize("reaction", REACTIONS)
@pytest.mark.parametrize("operation", [BY_STS, BY_COGNITO])
async def test_every_reaction_of_a_server_is_sorted_and_asked_for_once(
    workload: Workload, sandbox: Sandbox, operation: str, reaction: str
) -> None:
    scripted, kind, word = REACTIONS[reaction]
    sandbox.fail(operation, **scripted)  # type: ignore[arg-type]

    error = await (sts_error if operation == BY_STS else cognito_error)(workload)

    assert type(error) is kind, str(error)
    assert error.word == word or (not word and error.word in ("upstream-error", "bad-answer"))
    assert len(sandbox.aws.calls) == 1


@pytest.mark.parametrize("operation", [BY_STS, BY_COGNITO])
async def test_a_redirect_is_not_followed(
    workload: Workload, sandbox: Sandbox, operation: str
) -> None:
    for status in (301, 302, 303, 307, 308):
        headers = {"Location": sandbox.namespace.url}
        sandbox.fail(operation, status=status, body=b"", headers=headers)

        error = await (sts_error if operation == BY_STS else cognito_error)(workload)

        assert isinstance(error, Unavailable)
    assert sandbox.namespace.calls == ()


TOKEN = "<GetWebIdentityTokenResponse><GetWebIdentityTokenResult>{}</GetWebIdentityTokenResult></GetWebIdentityTokenResponse>"  # noqa: E501


@pytest.mark.parametrize(
    "member",
    [
        "",
        "<WebIdentityToken></WebIdentityToken>",
        "<WebIdentityToken>opaque</WebIdentityToken>",
        "<WebIdentityToken>a.b.c</WebIdentityToken>",
        "<WebIdentityToken><b>x</b></WebIdentityToken>",
    ],
)
async def test_an_answer_without_a_proper_token_is_no_proper_one(
    workload: Workload, sandbox: Sandbox, member: str
) -> None:
    sandbox.fail(BY_STS, status=200, body=TOKEN.format(member))

    error = await sts_error(workload)

    assert (type(error), error.word) == (Unavailable, "bad-answer")


@pytest.mark.parametrize("body", ["{}", '{"Token": 5}', '{"Token": "x"}', "[]", "null", "5"])
async def test_so_is_one_of_cognitos(workload: Workload, sandbox: Sandbox, body: str) -> None:
    sandbox.fail(BY_COGNITO, status=200, body=body)

    error = await cognito_error(workload)

    assert (type(error), error.word) == (Unavailable, "bad-answer")


async def test_claims_that_are_missing_are_told_as_unknown(
    workload: Workload, sandbox: Sandbox
) -> None:
    token = f"<WebIdentityToken>{jwt_of({})}</WebIdentityToken>"
    sandbox.fail(BY_STS, status=200, body=TOKEN.format(token))

    lease = await workload.web_identity().fetch()

    assert (lease.value.issuer, lease.value.subject, lease.value.audience) == ("unknown",) * 3
    assert lease.expires_at is None


# No answer, and answers without end.


async def error_at(workload: Workload, url: str, *, call_limit_s: float = 15) -> SourceError:
    async with CredentialChain(clock=SystemClock(), call_limit_s=call_limit_s) as chain:
        return await sts_error(workload, chain=chain, endpoint=url)


async def test_nobody_listening_is_unavailable(workload: Workload) -> None:
    error = await error_at(workload, "http://127.0.0.1:1")

    assert (type(error), error.word) == (Unavailable, "unreachable")


async def test_an_upstream_that_hangs_is_given_up(workload: Workload) -> None:
    # Once with botocore loaded, so that the limit is that of the call.
    await workload.web_identity().fetch()

    async with hanging() as url:
        error = await error_at(workload, url, call_limit_s=1)

    assert (type(error), error.word) == (Unavailable, "timeout")
    assert url in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        chunked_answer(200, b"x" * 65536, times=160),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (10 * MIB),
    ],
    ids=["chunked", "without a length"],
)
async def test_an_answer_of_10_mib_is_cut_off_however_it_comes(
    workload: Workload, answer: bytes
) -> None:
    async with answering(answer) as url:
        error = await error_at(workload, url)

    assert (type(error), error.word) == (Unavailable, "bad-answer")
    assert "more than 1 MiB" in str(error)


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"\x16\x03"],
)
async def test_what_is_no_http_is_unavailable(workload: Workload, answer: bytes) -> None:
    async with answering(answer) as url:
        error = await error_at(workload, url)

    assert type(error) is Unavailable


async def test_a_server_without_tls_is_told_apart(workload: Workload) -> None:
    async with answering(http_answer(200, b"")) as url:
        error = await error_at(workload, url.replace("http:", "https:"))

    assert (type(error), error.word) == (Unavailable, "tls")


@pytest.mark.parametrize("endpoint", ["not a url", "http://", "ftp://127.0.0.1:1"])
async def test_an_endpoint_that_is_none_is_an_error_of_ours(
    workload: Workload, endpoint: str
) -> None:
    assert isinstance(await error_at(workload, endpoint), SourceError)


async def test_a_region_that_is_none_is_an_error_of_ours(workload: Workload) -> None:
    error = await sts_error(workload, region="nowhere at all", endpoint=None)

    assert (type(error), error.word) == (Refused, "bad-request")


async def test_a_clock_that_is_wrong_is_suspected(workload: Workload, sandbox: Sandbox) -> None:
    async with Sandbox(
        signing_clock=lambda: datetime.now(UTC) + timedelta(hours=1)
    ) as an_hour_ahead:
        arn = an_hour_ahead.guide_by_sts()
        keys = key_variables(an_hour_ahead.aws.role_session(arn))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in keys.items():
                patch.setenv(name, value)
            error = await error_at(workload, an_hour_ahead.aws.url)

    assert (type(error), error.word) == (Refused, "access-denied")
    assert "check this machine's clock" in str(error)
