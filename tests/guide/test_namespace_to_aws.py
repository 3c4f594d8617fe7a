"""The guide's third table, where it speaks of commands: Namespace workloads reach AWS.

`aws s3 cp` by keys, container endpoint and instance metadata is in tests/clients/test_s3_copies.py.
"""

import shlex

import pytest

from broker.sandbox import Sandbox
from tests.support.guide_machine import Machine

WRITE_ENV = ("env", "--static", "--write_env", "aws.env", "--role_arn")


@pytest.fixture
def runner(sandbox: Sandbox, machine: Machine) -> Machine:
    """A runner of Namespace's."""
    return machine.having(NSC_TOKEN_SPEC=sandbox.namespace.token_spec())


# `nsc aws assume-role --role_arn … --write_env aws.env`.


def test_assume_role_writes_keys_region_and_their_end_for_us_alone(
    sandbox: Sandbox, runner: Machine
) -> None:
    runner.does(*WRITE_ENV, sandbox.role_arn, "--region", "eu-central-1").well()

    written = runner.home / "aws.env"
    (issued,) = sandbox.aws.issued
    words = shlex.split(written.read_text(), comments=True)
    assert f"AWS_ACCESS_KEY_ID={issued.access_key_id}" in words
    assert f"AWS_SESSION_TOKEN={issued.session_token}" in words
    assert "AWS_REGION=eu-central-1" in words
    assert f"{issued.expires_at:%Y-%m-%dT%H:%M}" in written.read_text()
    assert written.stat().st_mode & 0o777 == 0o600


def test_where_the_guide_prints_the_providers_arn_the_roles_is_asked_for(
    sandbox: Sandbox, runner: Machine
) -> None:
    complaint = runner.does(*WRITE_ENV, sandbox.provider_arn).complaint(2)

    assert complaint == (
        f"namespace-broker: --role-arn: {sandbox.provider_arn} is an identity provider,"
        " not a role; "
        "give the role whose trust policy names it: arn:aws:iam::123456789012:role/NAME"
    )
    assert not (runner.home / "aws.env").exists()


def test_a_role_that_does_not_trust_the_workspace_leaves_no_file(
    sandbox: Sandbox, runner: Machine
) -> None:
    theirs = sandbox.aws.add_role("theirs", trust_policy=sandbox.guide_trust(subject="ws_2/*"))

    complaint = runner.does(*WRITE_ENV, theirs).complaint()

    assert theirs in complaint
    assert "ws_1/i-abc" in complaint
    assert not (runner.home / "aws.env").exists()


# `source aws.env`.


@pytest.mark.parametrize(("shell", "source"), [("sh", "."), ("bash", "source")])
def test_source_aws_env_makes_every_tool_of_the_shell_that_role(
    sandbox: Sandbox, runner: Machine, shell: str, source: str
) -> None:
    runner.does(*WRITE_ENV, sandbox.role_arn, "--region", "us-east-1").well()

    tool = runner.having(AWS_ENDPOINT_URL=sandbox.aws.url)
    asking = "aws sts get-caller-identity --query Arn --output text"
    shown = tool.runs(shell, "-c", f"{source} ./aws.env && {asking}").well()

    assert shown.output.strip() == sandbox.aws.verified_identities[-1].arn
    assert shown.output.startswith("arn:aws:sts::123456789012:assumed-role/deploy/")
