"""From a bearer to AWS credentials: through the sandbox's STS."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.credentials import Role
from broker.lease import Refused, SourceError, Unavailable
from broker.sandbox import Sandbox
from broker.sources.aws.assume_role import AssumedRole, StsClient, sts_url
from broker.sources.aws.errors import RoleRefused
from broker.sources.http_client import HttpClient
from tests.support.fakes import FakeClock, ScriptedSource, lease_of
from tests.support.sources import (
    ROLE_ARN,
    Pipeline,
    answering,
    chunked_answer,
    hanging,
    http_answer,
    some_id_token,
    some_role,
)

ASSUME = "AssumeRoleWithWebIdentity"
MIB = 1 << 20


def tokens_sent(sandbox: Sandbox) -> list[object]:
    return [call.params["WebIdentityToken"] for call in sandbox.aws.calls_of(ASSUME)]


async def error_of(pipeline: Pipeline, role: Role | None = None) -> SourceError:
    """Return the error that the next attempt ends in."""
    with pytest.raises(SourceError) as error:
        await pipeline.assumed_role(role).fetch()
    return error.value


# What is asked, and what comes.


async def test_a_role_becomes_credentials_for_an_hour(pipeline: Pipeline, sandbox: Sandbox) -> None:
    before = datetime.now(UTC)

    lease = await pipeline.assumed_role().fetch()

    (issued,) = sandbox.aws.issued
    assert lease.value.access_key_id == issued.access_key_id
    assert lease.value.secret_access_key == issued.secret_access_key
    assert lease.value.session_token == issued.session_token
    assert (lease.value.role_arn, lease.value.account_id) == (ROLE_ARN, "123456789012")
    assert lease.expires_at is not None
    assert lease.expires_at.utcoffset() == timedelta()
    assert before <= lease.issued_at <= datetime.now(UTC)
    # AWS tells the end in whole seconds.
    assert abs(lease.expires_at - lease.issued_at - timedelta(hours=1)) < timedelta(minutes=1)


async def test_the_call_is_unsigned_and_says_no_more_than_it_must(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    await pipeline.assumed_role().fetch()

    (call,) = sandbox.aws.calls
    assert not call.authorization_present
    assert set(call.params) == {
        "Action",
        "Version",
        "RoleArn",
        "RoleSessionName",
        "WebIdentityToken",
        "DurationSeconds",
    }
    assert call.params["RoleSessionName"] == "nsc.instance=i-abc"
    assert call.params["DurationSeconds"] == "3600"
    assert call.headers["User-Agent"].startswith("namespace-broker/")


async def test_every_parameter_of_the_role_is_sent(pipeline: Pipeline, sandbox: Sandbox) -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::123456789012:policy/x")
    role = some_role(duration_s=900, session_name="ci", policy=policy, policy_arns=arns)

    await pipeline.assumed_role(role).fetch()

    (call,) = sandbox.aws.calls
    assert call.params["DurationSeconds"] == "900"
    assert call.params["RoleSessionName"] == "ci"
    assert call.params["Policy"] == policy
    assert [call.params[f"PolicyArns.member.{n}.arn"] for n in (1, 2)] == list(arns)


async def test_each_attempt_presents_a_fresh_id_token(pipeline: Pipeline, sandbox: Sandbox) -> None:
    role = pipeline.assumed_role()

    for _ in range(3):
        await role.fetch()

    assert len(set(tokens_sent(sandbox))) == 3


# Stale tokens and durations.


@pytest.mark.parametrize("code", ["ExpiredTokenException", "IDPRejectedClaim"])
async def test_a_stale_id_token_is_replaced_once(
    pipeline: Pipeline, sandbox: Sandbox, code: str
) -> None:
    sandbox.fail(ASSUME, code=code, message="Token too old: 86401", count=1)

    await pipeline.assumed_role().fetch()

    assert len(set(tokens_sent(sandbox))) == 2


async def test_two_stale_id_tokens_are_a_refusal(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.fail(ASSUME, code="ExpiredTokenException", message="Token too old: 86401")

    error = await error_of(pipeline)

    assert isinstance(error, Refused)
    assert error.word == "expired-token"
    assert "Token too old: 86401, also with a second" in str(error)
    assert "clock" in str(error)
    assert len(set(tokens_sent(sandbox))) == 2


async def test_a_duration_that_the_role_does_not_allow_falls_back_to_an_hour_with_one_warning(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    role = pipeline.assumed_role(some_role(duration_s=7200))

    leases = [await role.fetch() for _ in range(2)]

    asked = [call.params["DurationSeconds"] for call in sandbox.aws.calls]
    assert asked == ["7200", "3600", "3600"]
    assert len(set(tokens_sent(sandbox))) == 3
    assert all(lease.expires_at is not None for lease in leases)
    (warning,) = pipeline.warnings
    assert warning.startswith(f"roles.deploy.duration_s: {ROLE_ARN} does not allow 7200 s")


async def test_the_longest_that_a_role_allows_is_learned_and_remembered(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.aws.set_max_session_duration(sandbox.role_arn, 4 * 3600)
    role = pipeline.assumed_role(some_role(duration_s=None))

    first = await role.fetch()
    calls = len(sandbox.aws.calls)
    await role.fetch()

    assert first.expires_at is not None
    assert timedelta(hours=3, minutes=59) < first.expires_at - first.issued_at
    assert len(sandbox.aws.calls) == calls + 1
    assert sandbox.aws.calls[-1].params["DurationSeconds"] == "14400"
    assert pipeline.warnings == []


# The sandbox's true refusals.


async def test_a_role_that_does_not_admit_us_says_who_was_presented(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="another/*"))

    error = await error_of(pipeline)

    assert isinstance(error, Refused)
    assert error.word == "access-denied"
    assert "sub='ws_1/i-abc' aud='sts.amazonaws.com'" in str(error)
    assert str(tokens_sent(sandbox)[0]) not in str(error)


async def test_a_role_that_does_not_exist_is_refused(pipeline: Pipeline) -> None:
    error = await error_of(pipeline, some_role("arn:aws:iam::123456789012:role/gone"))

    assert error.word == "access-denied"


async def test_an_account_without_the_provider_is_told_apart(pipeline: Pipeline) -> None:
    error = await error_of(pipeline, some_role("arn:aws:iam::210987654321:role/deploy"))

    assert error.word == "no-provider"
    assert "account 210987654321 has no OIDC provider for" in str(error)


async def test_an_audience_that_the_provider_does_not_list_is_told_apart(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    role = AssumedRole(
        some_role(), token=pipeline.id_token(audience="other"), sts=pipeline.sts, warn=print
    )

    with pytest.raises(Refused, match="aud='other'") as error:
        await role.fetch()

    assert error.value.word == "invalid-identity-token"


async def test_keys_that_aws_cannot_read_are_a_passing_fault(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.fail("jwks", status=503)

    error = await error_of(pipeline)

    assert isinstance(error, Unavailable)


async def test_a_policy_that_is_none_is_refused(pipeline: Pipeline) -> None:
    error = await error_of(pipeline, some_role(policy="{nope"))

    assert (type(error), error.word) == (Refused, "bad-policy")


@pytest.mark.parametrize("arn", ["", "x", "arn:aws:iam::123456789012:user/deploy-user"])
async def test_an_arn_that_is_no_roles_is_refused(pipeline: Pipeline, arn: str) -> None:
    error = await error_of(pipeline, some_role(arn))

    assert (type(error), error.word) == (Refused, "bad-request")


# What a server's reaction means: the table of aws-api 2.4.

XML = b"<ErrorResponse><Error><Code>%s</Code><Message>m</Message></Error></ErrorResponse>"
REACTIONS: dict[str, tuple[dict[str, object], type[SourceError], str]] = {
    "IDPCommunicationError": ({"code": "IDPCommunicationError"}, Unavailable, "upstream-error"),
    "InvalidIdentityToken": ({"code": "InvalidIdentityToken"}, Refused, "invalid-identity-token"),
    "AccessDenied": ({"code": "AccessDenied"}, RoleRefused, "access-denied"),
    "RegionDisabled": ({"code": "RegionDisabledException"}, Refused, "region-disabled"),
    "PackedPolicyTooLarge": ({"code": "PackedPolicyTooLarge"}, Refused, "bad-policy"),
    "MalformedPolicyDocument": ({"code": "MalformedPolicyDocument"}, Refused, "bad-policy"),
    "ValidationError": ({"code": "ValidationError"}, Refused, "bad-request"),
    "Throttling": ({"code": "Throttling"}, Unavailable, "throttled"),
    "ThrottlingException": ({"code": "ThrottlingException"}, Unavailable, "throttled"),
    "429 with any body": ({"status": 429, "body": XML % b"Odd"}, Unavailable, "throttled"),
    "RequestLimitExceeded": ({"code": "RequestLimitExceeded"}, Unavailable, "throttled"),
    "RequestTimeout": ({"code": "RequestTimeout"}, Unavailable, "upstream-error"),
    "500 with XML": ({"status": 500, "body": XML % b"Odd"}, Unavailable, "upstream-error"),
    "502 empty": ({"status": 502, "body": b""}, Unavailable, "upstream-error"),
    "503 with <html>": ({"status": 503, "body": b"<html></html>"}, Unavailable, "upstream-error"),
    "504 empty": ({"status": 504, "body": b""}, Unavailable, "upstream-error"),
    "502 with HTML": ({"status": 502, "body": b"<!doctype html>"}, Unavailable, "upstream-error"),
    "400 with JSON": ({"status": 400, "body": b'{"no": 1}'}, Unavailable, "bad-answer"),
    "403 with text": ({"status": 403, "body": b"blocked"}, Unavailable, "bad-answer"),
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
async def test_every_reaction_of_a_server_is_sorted_and_asked_for_once(
    pipeline: Pipeline, sandbox: Sandbox, reaction: str
) -> None:
    scripted, kind, word = REACTIONS[reaction]
    sandbox.fail(ASSUME, **scripted)  # type: ignore[arg-type]

    error = await error_of(pipeline)

    assert (type(error), error.word) == (kind, word), str(error)
    assert len(sandbox.aws.calls) == 1


async def test_a_redirect_is_not_followed_with_the_token_in_our_hands(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    for status in (301, 302, 303, 307, 308):
        sandbox.fail(ASSUME, status=status, body=b"", headers={"Location": sandbox.namespace.url})

        error = await error_of(pipeline)

        assert (type(error), error.word) == (Unavailable, "bad-answer")
    assert not sandbox.namespace.calls_of("")


async def test_a_wanted_pause_is_passed_on(pipeline: Pipeline, sandbox: Sandbox) -> None:
    sandbox.fail(ASSUME, code="Throttling", headers={"Retry-After": "17"})

    error = await error_of(pipeline)

    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 17


CREDENTIALS = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
{}</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
KEYS = "<AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
TOKEN = "<SessionToken>t</SessionToken>"
END = "<Expiration>2031-05-01T12:00:00Z</Expiration>"


@pytest.mark.parametrize(
    "members",
    [
        "",
        KEYS,
        KEYS + TOKEN,
        KEYS + END,
        TOKEN + END,
        KEYS + TOKEN + "<Expiration>soon</Expiration>",
        KEYS + TOKEN + "<Expiration></Expiration>",
        KEYS + "<SessionToken></SessionToken>" + END,
        KEYS + "<SessionToken>a b</SessionToken>" + END,
        KEYS + "<SessionToken>a&quot;b</SessionToken>" + END,
        KEYS + "<SessionToken>a\\b</SessionToken>" + END,
        "<AccessKeyId><b>1</b></AccessKeyId>" + TOKEN + END,
    ],
)
async def test_an_answer_without_whole_credentials_is_no_proper_one(
    pipeline: Pipeline, sandbox: Sandbox, members: str
) -> None:
    sandbox.fail(ASSUME, status=200, body=CREDENTIALS.format(members))

    error = await error_of(pipeline)

    assert (type(error), error.word) == (Unavailable, "bad-answer")


async def test_everything_but_the_credentials_may_be_missing(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.fail(ASSUME, status=200, body=CREDENTIALS.format(KEYS + TOKEN + END))

    lease = await pipeline.assumed_role().fetch()

    assert lease.value.access_key_id == "ASIAX"


@pytest.mark.parametrize(
    ("ends_in_s", "believed_s"),
    [(3600, 3600), (900, 900), (3600 + 240, 3600 + 240), (3600 + 360, 3600), (10 * 3600, 3600)],
)
async def test_an_end_far_beyond_what_was_asked_for_is_not_believed(
    sandbox: Sandbox, http: HttpClient, clock: FakeClock, ends_in_s: int, believed_s: int
) -> None:
    ends_at = clock.now() + timedelta(seconds=ends_in_s)
    body = CREDENTIALS.format(KEYS + TOKEN + f"<Expiration>{ends_at.isoformat()}</Expiration>")
    sandbox.fail(ASSUME, status=200, body=body)
    sts = StsClient(http, clock=clock, endpoint=sandbox.aws.url)

    lease = await sts.assume_role(some_role(), some_id_token(), duration_s=3600)

    assert lease.expires_at == clock.now() + timedelta(seconds=believed_s)


# Where it is asked.


@pytest.mark.parametrize("region", ["", "aws-global", "eu", "eu-central-1.evil.example/", "EU-A-1"])
def test_what_is_no_region_is_refused(region: str) -> None:
    with pytest.raises(Refused, match="no AWS region"):
        sts_url(region)


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "sts.eu-central-1.amazonaws.com"),
        ({"use_fips": True}, "sts-fips.eu-central-1.amazonaws.com"),
        ({"use_dualstack": True}, "sts.eu-central-1.api.aws"),
        ({"use_fips": True, "use_dualstack": True}, "sts-fips.eu-central-1.api.aws"),
    ],
)
async def test_the_endpoint_is_the_regions_own_and_what_the_environment_wants(
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    http: HttpClient,
    settings: dict[str, bool],
    host: str,
) -> None:
    seen: list[bytes] = []

    def refusing(asked: bytes) -> bytes:
        seen.append(asked)
        return http_answer(502, b"")

    async with answering(refusing) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        sts = StsClient(http, clock=clock, **settings)  # type: ignore[arg-type]
        with pytest.raises(Unavailable) as error:
            await sts.assume_role(some_role(), some_id_token(), duration_s=3600)

    assert error.value.word == "unreachable"
    assert seen[0].startswith(f"CONNECT {host}:443 ".encode())


async def test_nothing_of_the_shared_configuration_or_the_ambient_chain_is_used(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path
) -> None:
    nowhere = "http://127.0.0.1:1"
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nendpoint_url = {nowhere}\nregion = us-west-2\nservices = s\n"
        "sts_regional_endpoints = legacy\nuse_fips_endpoint = true\n"
        f"credential_process = touch {tmp_path}/read\nmax_attempts = 5\n"
        f"[services s]\nsts =\n  endpoint_url = {nowhere}\n"
    )
    settings = {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_PROFILE": "there-is-none",
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ENDPOINT_URL_STS": nowhere,
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{nowhere}/creds",
        "AWS_ACCESS_KEY_ID": "AKIDAMBIENT",
        "AWS_SECRET_ACCESS_KEY": "chain",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    await pipeline.assumed_role().fetch()

    (call,) = sandbox.aws.calls
    assert not call.authorization_present
    assert not (tmp_path / "read").exists()


async def test_a_shared_configuration_that_cannot_be_read_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_bytes(b"\xff[[[ no = config")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    await pipeline.assumed_role().fetch()


@pytest.mark.parametrize("content", [None, "", "garbage"])
async def test_a_ca_bundle_that_is_none_is_named(
    clock: FakeClock, http: HttpClient, tmp_path: Path, content: str | None
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    sts = StsClient(http, clock=clock, endpoint="https://127.0.0.1:1", ca_bundle=str(bundle))

    with pytest.raises(Refused, match=r"ca\.pem cannot be used .* correct AWS_CA_BUNDLE") as error:
        await sts.assume_role(some_role(), some_id_token(), duration_s=3600)

    assert error.value.word == "tls"


# No answer, and answers without end.


async def sts_error(url: str, clock: FakeClock, *, call_limit_s: float = 15) -> SourceError:
    async with HttpClient() as http:
        sts = StsClient(http, clock=clock, endpoint=url, call_limit_s=call_limit_s)
        with pytest.raises(SourceError) as error:
            await sts.assume_role(some_role(), some_id_token(), duration_s=3600)
    return error.value


async def test_nobody_listening_is_unavailable(clock: FakeClock) -> None:
    error = await sts_error("http://127.0.0.1:1", clock)

    assert (type(error), error.word) == (Unavailable, "unreachable")


async def test_a_name_that_does_not_resolve_is_unavailable(clock: FakeClock) -> None:
    error = await sts_error("https://sts.invalid", clock)

    assert (type(error), error.word) == (Unavailable, "unreachable")


async def test_an_upstream_that_hangs_is_given_up(clock: FakeClock) -> None:
    async with hanging() as url:
        error = await sts_error(url, clock, call_limit_s=0.5)

    assert (type(error), error.word) == (Unavailable, "timeout")


async def test_a_server_without_tls_is_told_apart(clock: FakeClock) -> None:
    async with answering(http_answer(200, b"")) as url:
        error = await sts_error(url.replace("http:", "https:"), clock)

    assert (type(error), error.word) == (Unavailable, "tls")


@pytest.mark.parametrize(
    "answer",
    [
        chunked_answer(200, b"x" * 65536, times=160),
        chunked_answer(400, b"x" * 65536, times=160),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (10 * MIB),
    ],
    ids=["chunked", "chunked error", "without a length"],
)
async def test_an_answer_of_10_mib_is_cut_off_however_it_comes(
    clock: FakeClock, answer: bytes
) -> None:
    async with answering(answer) as url:
        error = await sts_error(url, clock)

    assert (type(error), error.word) == (Unavailable, "bad-answer")
    assert "more than 1 MiB" in str(error)


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"\x16\x03"],
)
async def test_what_is_no_http_is_unavailable(clock: FakeClock, answer: bytes) -> None:
    async with answering(answer) as url:
        error = await sts_error(url, clock)

    assert type(error) is Unavailable


@pytest.mark.parametrize(
    "endpoint", ["not a url", "http://", "ftp://127.0.0.1:1", "http://sts.example"]
)
async def test_an_endpoint_where_no_token_may_go_is_refused(
    clock: FakeClock, endpoint: str
) -> None:
    error = await sts_error(endpoint, clock)

    assert (type(error), error.word) == (Refused, "bad-request")
    assert "correct AWS_ENDPOINT_URL_STS" in str(error)


async def test_no_secret_is_in_the_repr_of_a_lease(pipeline: Pipeline) -> None:
    lease = await pipeline.assumed_role().fetch()

    assert lease.value.secret_access_key not in repr(lease)
    assert lease.value.session_token not in repr(lease.value)


async def test_an_unavailable_namespace_is_unavailable_here_too(
    pipeline: Pipeline, clock: FakeClock
) -> None:
    source = ScriptedSource[object](Unavailable("namespace is down", word="timeout"))
    role = AssumedRole(some_role(), token=source, sts=pipeline.sts, warn=print)  # type: ignore[arg-type]

    with pytest.raises(Unavailable, match="namespace is down"):
        await role.fetch()


async def test_a_token_that_sts_takes_for_none_is_refused(
    pipeline: Pipeline, sandbox: Sandbox, clock: FakeClock
) -> None:
    source = ScriptedSource(lease_of(some_id_token("x.y"), clock, minutes=10))
    role = AssumedRole(some_role(), token=source, sts=pipeline.sts, warn=print)

    with pytest.raises(Refused) as error:
        await role.fetch()

    assert error.value.word == "bad-request"
    assert len(sandbox.aws.calls) == 1
