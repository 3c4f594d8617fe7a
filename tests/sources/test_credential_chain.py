"""The AWS identity of this machine.

Every place of the standard chain, what is looked up again, and the message where there is none.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.clock import SystemClock
from broker.lease import Refused, SourceError, Unavailable
from broker.sandbox.aws.accounts import IssuedKeys
from broker.sources.aws.credential_chain import CredentialChain
from tests.support.sources import Workload, answering, hanging, http_answer, key_variables

BY_STS = "GetWebIdentityToken"


@pytest.fixture
def keys(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> IssuedKeys:
    """Keys of the role, which are not in the environment."""
    keys = workload.sandbox.aws.role_session(workload.arn)
    for name in key_variables(keys):
        monkeypatch.delenv(name)
    return keys


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The shared config file, empty."""
    path = tmp_path / "config"
    path.touch()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    return path


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The shared credentials file, empty."""
    path = tmp_path / "credentials"
    path.touch()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return path


def section(title: str, **members: str | None) -> str:
    lines = [f"{name} = {value}" for name, value in members.items() if value is not None]
    return "\n".join([f"[{title}]", *lines, ""])


def section_of(title: str, keys: IssuedKeys) -> str:
    variables = key_variables(keys)
    return section(title, **{name.lower(): value for name, value in variables.items()})


def endpoint_document(keys: IssuedKeys, *, ends_in: timedelta = timedelta(hours=1)) -> bytes:
    """Return what a container endpoint, instance metadata or a credential process answers."""
    return json.dumps(
        {
            "Version": 1,
            "Code": "Success",
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "Token": keys.session_token,
            "SessionToken": keys.session_token,
            "Expiration": f"{datetime.now(UTC) + ends_in:%Y-%m-%dT%H:%M:%SZ}",
        }
    ).encode()


async def who_signs(workload: Workload, chain: CredentialChain | None = None) -> str | None:
    await workload.web_identity(chain=chain).fetch()
    return workload.sandbox.aws.verified_identities[-1].access_key_id


async def error_of(workload: Workload, chain: CredentialChain | None = None) -> SourceError:
    with pytest.raises(SourceError) as error:
        await workload.web_identity(chain=chain).fetch()
    return error.value


# Every place of the chain.


async def test_the_environment(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = workload.sandbox.aws.role_session(workload.arn)
    for name, value in key_variables(keys).items():
        monkeypatch.setenv(name, value)

    assert await who_signs(workload) == keys.access_key_id


async def test_the_shared_credentials_file(
    workload: Workload, keys: IssuedKeys, credentials: Path
) -> None:
    credentials.write_text(section_of("default", keys))

    assert await who_signs(workload) == keys.access_key_id


async def test_a_profile_that_a_variable_names(
    workload: Workload, keys: IssuedKeys, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(section_of("profile ci", keys))
    monkeypatch.setenv("AWS_PROFILE", "ci")

    assert await who_signs(workload) == keys.access_key_id


async def test_a_profile_of_the_identity_stands_over_keys_in_the_environment(
    workload: Workload, config: Path
) -> None:
    keys = workload.sandbox.aws.role_session(workload.arn)
    config.write_text(section_of("profile ci", keys))

    async with CredentialChain(clock=SystemClock(), profile="ci") as chain:
        assert await who_signs(workload, chain) == keys.access_key_id


async def test_a_credential_process(
    workload: Workload, keys: IssuedKeys, config: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "answer"
    answer.write_bytes(endpoint_document(keys))
    config.write_text(section("default", credential_process=f"cat {answer}"))

    assert await who_signs(workload) == keys.access_key_id


async def test_the_container_endpoint(
    workload: Workload, keys: IssuedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(http_answer(200, endpoint_document(keys))) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds")

        assert await who_signs(workload) == keys.access_key_id


async def test_the_instance_metadata(
    workload: Workload, keys: IssuedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metadata(asked: bytes) -> bytes:
        if asked.startswith(b"PUT"):
            return http_answer(200, b"session-token")
        is_list = asked.split(b" ")[1].endswith(b"/security-credentials/")
        return http_answer(200, b"builder" if is_list else endpoint_document(keys))

    async with answering(metadata) as url:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)

        assert await who_signs(workload) == keys.access_key_id


async def test_a_role_by_web_identity(
    workload: Workload,
    keys: IssuedKeys,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sandbox = workload.sandbox
    sandbox.aws.allow_web_identity_tokens(sandbox.role_arn)
    token = tmp_path / "token"
    token.write_text(sandbox.namespace.id_token())
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", sandbox.role_arn)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sandbox.aws.url)

    await workload.web_identity().fetch()

    assert sandbox.aws.verified_identities[-1].arn.startswith(
        "arn:aws:sts::123456789012:assumed-role/deploy/"
    )


async def test_a_profile_with_a_role_and_another_that_may_assume_it(
    workload: Workload, keys: IssuedKeys, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = workload.sandbox.aws
    statement = {"Effect": "Allow", "Principal": {"AWS": workload.arn}, "Action": "sts:AssumeRole"}
    assumed = aws.add_role("assumed", trust_policy={"Statement": statement})
    aws.allow_web_identity_tokens(assumed)
    base = section_of("profile base", keys)
    config.write_text(base + section("default", role_arn=assumed, source_profile="base"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)

    lease = await workload.web_identity().fetch()

    assert lease.value.subject == assumed


# Looked up anew.


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "ExpiredTokenException"])
async def test_keys_that_have_ended_are_looked_up_anew_once(
    workload: Workload, keys: IssuedKeys, credentials: Path, code: str
) -> None:
    credentials.write_text(section_of("default", keys))
    await who_signs(workload)
    newer = workload.sandbox.aws.role_session(workload.arn)
    credentials.write_text(section_of("default", newer))
    workload.sandbox.fail(BY_STS, code=code, count=1)

    assert await who_signs(workload) == newer.access_key_id


async def test_so_are_keys_that_cognito_does_not_know_any_more(
    workload: Workload, keys: IssuedKeys, credentials: Path
) -> None:
    credentials.write_text(section_of("default", keys))
    operation = "GetOpenIdTokenForDeveloperIdentity"
    workload.sandbox.fail(operation, code="UnrecognizedClientException", status=400, count=1)

    await workload.developer_token().fetch()

    assert len(workload.sandbox.aws.calls_of(operation)) == 2


async def test_keys_that_have_ended_for_good_are_a_refusal(
    workload: Workload, keys: IssuedKeys, credentials: Path
) -> None:
    ended = workload.sandbox.aws.role_session(workload.arn, lifetime_s=-60)
    credentials.write_text(section_of("default", ended))

    error = await error_of(workload)

    assert (type(error), error.word) == (Refused, "expired-token")
    assert "also with credentials that were looked up again" in str(error)
    assert len(workload.sandbox.aws.calls) == 2


async def test_what_is_known_is_not_looked_up_for_every_call(
    workload: Workload, keys: IssuedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def endpoint(request: bytes) -> bytes:
        asked.append(request)
        return http_answer(200, endpoint_document(keys))

    async with answering(endpoint) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds")
        for _ in range(3):
            await who_signs(workload)

    assert len(asked) == 1


async def test_what_is_about_to_end_is_renewed_before_it_does(
    workload: Workload, keys: IssuedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = iter([timedelta(minutes=5), timedelta(hours=1)])

    def endpoint(_: bytes) -> bytes:
        return http_answer(200, endpoint_document(keys, ends_in=next(lives)))

    async with answering(endpoint) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds")
        await who_signs(workload)
        left_s = await workload.chain.seconds_left()

    assert left_s is not None
    assert left_s > 3000
    assert list(lives) == []


# None, or none that is any good.


@pytest.mark.usefixtures("keys")
async def test_without_any_identity_the_chain_is_named(workload: Workload) -> None:
    error = await error_of(workload)

    assert (type(error), error.word) == (Refused, "no-identity")
    assert "this machine has no AWS identity: the standard chain led to no credentials" in str(
        error
    )


async def test_a_profile_that_is_not_there_is_named(workload: Workload) -> None:
    async with CredentialChain(clock=SystemClock(), profile="gone") as chain:
        error = await error_of(workload, chain)

    assert (type(error), error.word) == (Refused, "no-identity")
    assert "there is no AWS profile gone" in str(error)


async def test_so_is_one_that_a_variable_names(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "gone")

    assert "there is no AWS profile gone" in str(await error_of(workload))


@pytest.mark.usefixtures("keys")
async def test_a_profile_without_credentials_is_named(workload: Workload, config: Path) -> None:
    config.write_text(section("profile bare", region="eu-west-1"))

    async with CredentialChain(clock=SystemClock(), profile="bare") as chain:
        error = await error_of(workload, chain)

    assert "the profile bare led to no credentials" in str(error)


PROFILES: dict[str, tuple[str, str]] = {
    "half of the keys": (section("default", aws_access_key_id="AKIAX"), "is missing"),
    "no session at SSO": (
        section(
            "default",
            sso_account_id="123456789012",
            sso_role_name="x",
            sso_start_url="https://sso.example",
            sso_region="eu-west-1",
        ),
        "run `aws sso login`",
    ),
    "no login": (section("default", login_session="x"), "run `aws login`"),
    "a role and nobody to assume it": (
        section("default", role_arn="arn:aws:iam::123456789012:role/x"),
        "source_profile or credential_source is missing",
    ),
    "a source that is not there": (
        section("default", role_arn="arn:aws:iam::123456789012:role/x", source_profile="gone"),
        '"gone" referenced in the profile "default" does not exist',
    ),
    "a circle": (
        section("default", role_arn="arn:aws:iam::1:role/x", source_profile="b")
        + section("profile b", role_arn="arn:aws:iam::1:role/y", source_profile="default"),
        "Infinite loop",
    ),
    "a token file that is not there": (
        section(
            "default",
            role_arn="arn:aws:iam::123456789012:role/x",
            web_identity_token_file="/nowhere/token",
        ),
        "/nowhere/token, which cannot be used (No such file",
    ),
    "a process that is not there": (
        section("default", credential_process="/nowhere/program"),
        "/nowhere/program, which cannot be used (No such file",
    ),
    "a process that fails": (
        section("default", credential_process="sh -c 'echo the-secret >&2; exit 1'"),
        "credential_process of the AWS profile in use failed; run it by hand",
    ),
    "no INI file": ("[[[", "cannot be used: Unable to parse config file"),
}


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("case", PROFILES)
async def test_a_profile_that_cannot_be_used_says_why(
    workload: Workload, config: Path, case: str
) -> None:
    text, told = PROFILES[case]
    config.write_text(text)

    error = await error_of(workload)

    assert (type(error), error.word) == (Refused, "no-identity"), str(error)
    assert told in str(error)
    assert "the-secret" not in str(error)


async def test_a_role_that_wants_an_mfa_code_asks_nobody(
    workload: Workload, keys: IssuedKeys, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", workload.sandbox.aws.url)
    config.write_text(
        section_of("profile base", keys)
        + section("default", role_arn=workload.arn, source_profile="base", mfa_serial="arn:x")
    )

    error = await error_of(workload)

    assert (type(error), error.word) == (Refused, "no-identity")
    assert "wants an MFA code" in str(error)


@pytest.mark.parametrize(
    ("fault", "kind", "word"),
    [
        ({"code": "AccessDenied"}, Refused, "access-denied"),
        ({"code": "ValidationError"}, Refused, "access-denied"),
        ({"code": "Throttling"}, Unavailable, "throttled"),
        ({"status": 503}, Unavailable, "upstream-error"),
        ({"reset": True}, Unavailable, "unreachable"),
        ({"status": 200, "body": b"garbage"}, Unavailable, "bad-answer"),
        ({"code": "ExpiredToken"}, Refused, "expired-token"),
    ],
)
async def test_a_call_that_the_chain_itself_makes_is_sorted_too(
    workload: Workload,
    keys: IssuedKeys,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, object],
    kind: type[SourceError],
    word: str,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", workload.sandbox.aws.url)
    base = section_of("profile base", keys)
    config.write_text(base + section("default", role_arn=workload.arn, source_profile="base"))
    workload.sandbox.fail("AssumeRole", **fault)  # type: ignore[arg-type]

    error = await error_of(workload)

    assert (type(error), error.word) == (kind, word), str(error)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    "answer",
    [
        http_answer(404, b"the-secret"),
        http_answer(200, b"{}"),
        http_answer(200, b"[]"),
        b"",
    ],
)
async def test_a_container_endpoint_without_credentials_is_a_passing_fault(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async with answering(answer) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/t/secret-path")
        error = await error_of(workload)

    assert isinstance(error, Unavailable)
    assert "secret" not in str(error)


async def test_keys_whose_end_is_told_and_past_are_a_refusal(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", past.isoformat())

    error = await error_of(workload)

    assert (type(error), error.word) == (Refused, "expired-token")
    assert workload.sandbox.aws.calls == ()


# A look-up that hangs.


async def test_a_look_up_that_hangs_is_waited_for_but_not_begun_again(
    workload: Workload, keys: IssuedKeys, config: Path, tmp_path: Path
) -> None:
    begun, goes_on, answer = tmp_path / "begun", tmp_path / "goes-on", tmp_path / "answer"
    answer.write_bytes(endpoint_document(keys))
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, sys, time\n"
        f"with open({str(begun)!r}, 'a') as file: file.write('x')\n"
        f"while not pathlib.Path({str(goes_on)!r}).exists(): time.sleep(0.01)\n"
        f"print(pathlib.Path({str(answer)!r}).read_text())\n"
    )
    config.write_text(section("default", credential_process=f"{sys.executable} {program}"))

    async with CredentialChain(clock=SystemClock(), call_limit_s=1) as chain:
        first = await error_of(workload, chain)
        goes_on.touch()
        signer = await until_it_signs(workload, chain)

    assert (type(first), first.word) == (Unavailable, "timeout")
    assert "credential chain gave no answer in time" in str(first)
    assert signer == keys.access_key_id
    assert begun.read_text() == "x"


async def until_it_signs(workload: Workload, chain: CredentialChain) -> str | None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await who_signs(workload, chain)
            except Unavailable:
                pass


@pytest.mark.usefixtures("keys")
async def test_a_look_up_that_never_ends_is_given_up_and_begun_again(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hanging() as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds")
        async with CredentialChain(clock=SystemClock(), lookup_limit_s=0.5) as chain:
            errors = [await error_of(workload, chain) for _ in range(2)]

    assert [(type(error), error.word) for error in errors] == [(Unavailable, "timeout")] * 2


@pytest.mark.usefixtures("keys")
async def test_leaving_gives_up_a_look_up_under_way(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hanging() as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds")
        async with CredentialChain(clock=SystemClock(), call_limit_s=0.5) as chain:
            await error_of(workload, chain)

    assert not [task for task in asyncio.all_tasks() if task.get_name() == "aws-credentials"]
