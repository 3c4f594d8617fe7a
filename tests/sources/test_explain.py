"""Where the role's trust policy may be read, a refusal says what fails in it."""

import os
import time
from pathlib import Path

import pytest

from broker.clock import SystemClock
from broker.credentials import AwsCredentials
from broker.lease import Refused
from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys
from broker.sources.aws.assume_role import AssumedRole
from broker.sources.aws.explain import IamRoleReader, RoleDocument
from tests.support.fakes import FakeClock
from tests.support.sources import Pipeline, key_variables, some_role

READ_ROLES = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iam:GetRole", "Resource": "*"}],
}
SAID_ALWAYS = "does not admit this identity"
SAID_WITHOUT_THE_ROLE = "The role must exist, and its trust policy must allow"


@pytest.fixture
def documents(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> IamRoleReader:
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", sandbox.aws.url)
    return reading(sandbox)


def reading(sandbox: Sandbox, *, limit_s: float = 20.0) -> IamRoleReader:
    return IamRoleReader(
        environ=os.environ,
        clock=SystemClock(),
        sts_endpoint=sandbox.aws.url,
        limit_s=limit_s,
    )


def become(monkeypatch: pytest.MonkeyPatch, keys: IssuedKeys) -> None:
    for name, value in key_variables(keys).items():
        monkeypatch.setenv(name, value)


def asking(pipeline: Pipeline, documents: IamRoleReader, arn: str | None = None) -> AssumedRole:
    return AssumedRole(
        some_role(arn or pipeline.sandbox.role_arn),
        token=pipeline.id_token(),
        sts=pipeline.sts,
        warn=pipeline.warnings.append,
        clock=pipeline.clock,
        roles=documents,
    )


async def refusal(role: AssumedRole) -> str:
    with pytest.raises(Refused, match=SAID_ALWAYS) as caught:
        await role.fetch()
    assert caught.value.word == "access-denied"
    return str(caught.value)


async def test_whoever_the_environment_names_reads_it(
    pipeline: Pipeline,
    sandbox: Sandbox,
    documents: IamRoleReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="another/*"))
    become(monkeypatch, sandbox.aws.add_user("reader", policies={"p": READ_ROLES}))

    said = await refusal(asking(pipeline, documents))

    assert (
        "Its trust policy does not: statement 1: condition StringLike "
        "federation.namespaceapis.com:sub wants 'another/*', the token has 'ws_1/i-abc'"
    ) in said


async def test_the_role_itself_reads_it_while_its_last_lease_lives(
    pipeline: Pipeline, sandbox: Sandbox, documents: IamRoleReader
) -> None:
    sandbox.aws.set_policy(sandbox.role_arn, "p", READ_ROLES)
    role = asking(pipeline, documents)
    await role.fetch()
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="another/*"))

    said = await refusal(role)

    assert "wants 'another/*'" in said
    (call,) = sandbox.aws.calls_of("GetRole")
    assert call.access_key_id == sandbox.aws.issued[0].access_key_id


async def test_a_lease_that_has_ended_is_not_used(
    pipeline: Pipeline, sandbox: Sandbox, documents: IamRoleReader, clock: FakeClock
) -> None:
    role = AssumedRole(
        some_role(),
        token=pipeline.id_token(),
        sts=pipeline.sts,
        warn=print,
        clock=clock,
        roles=documents,
    )
    await role.fetch()
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="another/*"))
    await clock.advance(minutes=36500 * 24 * 60)

    said = await refusal(role)

    assert SAID_WITHOUT_THE_ROLE in said
    assert sandbox.aws.calls_of("GetRole") == ()


async def test_without_anybody_who_may_the_claims_are_what_is_told(
    pipeline: Pipeline,
    sandbox: Sandbox,
    documents: IamRoleReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="another/*"))

    without = await refusal(asking(pipeline, documents))
    become(monkeypatch, sandbox.aws.add_user("nobody"))
    denied = await refusal(asking(pipeline, documents))

    for said in (without, denied):
        assert "Presented: iss='https://federation.namespaceapis.com' sub='ws_1/i-abc'" in said
        assert SAID_WITHOUT_THE_ROLE in said
    assert [call.status for call in sandbox.aws.calls_of("GetRole")] == [403]


async def test_a_role_that_is_not_there_is_told_by_who_can_see_that(
    pipeline: Pipeline,
    sandbox: Sandbox,
    documents: IamRoleReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become(monkeypatch, sandbox.aws.administrator())

    said = await refusal(asking(pipeline, documents, sandbox.role_arn + "-gone"))

    assert "There is no such role in the account" in said


async def test_in_a_stranger_s_account_nothing_is_learned_of_the_role(
    sandbox: Sandbox, documents: IamRoleReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, sandbox.aws.administrator("210987654321"))

    missing = await documents.read(some_role(), own=None)
    sandbox.aws.add_role("deploy", trust_policy={}, account="210987654321")
    same_name = await documents.read(some_role(), own=None)

    assert (missing, same_name) == (None, None)


async def test_the_path_of_a_role_is_no_part_of_its_name(
    sandbox: Sandbox, documents: IamRoleReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, sandbox.aws.administrator())
    arn = sandbox.aws.add_role("ci", path="/a/b/", trust_policy={"Statement": []})

    found = await documents.read(some_role(arn), own=None)

    assert found == RoleDocument(arn=arn, trust_policy={"Statement": []})


async def test_a_profile_reads_it_too(
    sandbox: Sandbox, documents: IamRoleReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = sandbox.aws.administrator()
    file = tmp_path / "credentials"
    file.write_text(
        f"[work]\naws_access_key_id = {keys.access_key_id}\n"
        f"aws_secret_access_key = {keys.secret_access_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    nobody = await documents.read(some_role(), own=None)
    monkeypatch.setenv("AWS_PROFILE", "work")

    found = await documents.read(some_role(), own=None)

    assert nobody is None
    assert found is not None
    assert found.trust_policy == sandbox.guide_trust()


async def test_metadata_and_container_endpoints_are_not_asked(
    sandbox: Sandbox, documents: IamRoleReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", sandbox.aws.url)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{sandbox.aws.url}/creds")

    found = await documents.read(some_role(), own=None)

    assert found is None
    assert sandbox.aws.calls == ()


async def test_a_broker_that_a_profile_names_is_not_asked(
    sandbox: Sandbox, documents: IamRoleReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    file = tmp_path / "config"
    file.write_text(
        f"[default]\ncredential_process = namespace-broker credential-process > {ran}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))

    found = await documents.read(some_role(), own=None)

    assert found is None
    assert sandbox.aws.calls == ()


@pytest.mark.parametrize(
    "fault",
    [
        {"code": "ServiceFailure", "status": 500},
        {"status": 502, "body": "<!doctype html>"},
        {"status": 200, "body": b"<html></html>"},
        {"status": 200, "body": b"<GetRoleResponse><GetRoleResult/></GetRoleResponse>"},
        {"reset": True},
        {"truncated": True},
    ],
)
async def test_whatever_iam_answers_the_refusal_stands(
    pipeline: Pipeline,
    sandbox: Sandbox,
    documents: IamRoleReader,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, object],
) -> None:
    become(monkeypatch, sandbox.aws.administrator())
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust(subject="another/*"))
    sandbox.fail("GetRole", **fault)  # type: ignore[arg-type]

    assert SAID_WITHOUT_THE_ROLE in await refusal(asking(pipeline, documents))


async def test_an_iam_that_hangs_is_not_waited_for(
    sandbox: Sandbox, documents: IamRoleReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, sandbox.aws.administrator())
    await documents.read(some_role(), own=None)  # imports what takes long the first time
    sandbox.fail("GetRole", delay_s=60)
    began_at = time.monotonic()

    found = await reading(sandbox, limit_s=0.5).read(some_role(), own=None)

    assert found is None
    assert time.monotonic() - began_at < 10


@pytest.mark.parametrize("arn", ["", "x", "arn:aws:iam::123456789012:user/deploy"])
async def test_what_is_no_role_is_not_asked_for(
    sandbox: Sandbox, documents: IamRoleReader, arn: str
) -> None:
    keys = AwsCredentials(
        access_key_id="ASIAX", secret_access_key="s", session_token="t", role_arn=arn
    )

    assert await documents.read(some_role(arn), own=keys) is None
    assert sandbox.aws.calls == ()
