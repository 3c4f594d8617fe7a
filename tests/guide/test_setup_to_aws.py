"""The guide's third table, where it speaks of the console: an account comes to trust a workspace.

One row after the other by `setup to-aws`, from an account with nothing in it; then what it shows,
what it refuses, and what it removes.
"""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import broker_process, get
from tests.support.guide_machine import Machine

SETUP = ("setup", "to-aws", "--role-name", "deploy")
SHOW = ("setup", "show", "to-aws", "--role-name", "deploy")
REMOVE = ("setup", "remove", "to-aws", "--role-name", "deploy")
READ_ONLY = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
SERVICES = ["ecs-tasks.amazonaws.com", "lambda.amazonaws.com"]
MACHINES: Mapping[str, object] = {
    "Effect": "Allow",
    "Principal": {"Service": "ec2.amazonaws.com"},
    "Action": "sts:AssumeRole",
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread(empty=True) as world:
        yield world


@pytest.fixture
def admin(sandbox: Sandbox, machine: Machine) -> Machine:
    """A machine of the workspace, with the keys of somebody who may do everything in AWS."""
    keys = sandbox.administrator_environment()
    return machine.having(NSC_TOKEN_SPEC=sandbox.namespace.token_spec(), **keys)


def changes(sandbox: Sandbox) -> list[str]:
    """Return the calls that changed something, or would have."""
    reading = ("Get", "List", "Assume")
    return [call.operation for call in sandbox.aws.calls if not call.operation.startswith(reading)]


def statement_of(sandbox: Sandbox) -> Mapping[str, object]:
    """Return the guide's trust statement."""
    listed = sandbox.guide_trust()["Statement"]
    assert isinstance(listed, list)
    return dict(listed[0])


# IAM identity provider, OpenID Connect, its URL, thumbprint and audience; its ARN.


def test_the_provider_is_made_as_the_guide_has_it(sandbox: Sandbox, admin: Machine) -> None:
    admin.does_here(*SETUP, "--yes").well()

    (provider,) = sandbox.aws.providers()
    assert provider.arn == ("arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com")
    assert provider.issuer == "https://federation.namespaceapis.com"
    assert provider.client_ids == ("sts.amazonaws.com",)
    assert provider.thumbprints == ("a053375bfe84e8b748782c7cee15827a6af5a405",)
    assert provider.tags == {"managed-by": "namespace-broker"}


# A role with this trust policy: StringLike on aud and sub.


def test_the_role_is_made_with_the_guides_trust_policy_for_this_workspace(
    sandbox: Sandbox, admin: Machine
) -> None:
    done = admin.does(*SETUP, "--yes").well()

    assert sandbox.aws.trust_of(sandbox.role_arn) == sandbox.guide_trust()
    assert "Proven: ws_1/i-abc obtained credentials of " + sandbox.role_arn in done.output


def test_a_subject_narrows_it_to_one_identity(sandbox: Sandbox, admin: Machine) -> None:
    admin.does_here(*SETUP, "--yes", "--subject", "ws_1/i-abc").well()

    assert sandbox.aws.trust_of(sandbox.role_arn) == sandbox.guide_trust(subject="ws_1/i-abc")


def test_what_was_made_by_hand_by_the_guide_is_kept(sandbox: Sandbox, admin: Machine) -> None:
    sandbox.aws.add_provider(sandbox.namespace.issuer, client_ids=("sts.amazonaws.com",))
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust())

    done = admin.does_here(*SETUP).well()

    assert "Nothing to do" in done.output
    assert "Proven" in done.output
    assert changes(sandbox) == []


def test_a_role_below_a_path_is_known_by_its_whole_arn(sandbox: Sandbox, admin: Machine) -> None:
    arn = sandbox.aws.add_role("deploy", path="/team/", trust_policy=sandbox.guide_trust())

    done = admin.does_here(*SETUP, "--yes").well()

    assert f"obtained credentials of {arn}" in done.output
    assert f"--role-arn {arn}" in done.output


def test_a_role_that_others_use_keeps_their_statements_as_they_are(
    sandbox: Sandbox, admin: Machine
) -> None:
    theirs = [MACHINES, {**MACHINES, "Sid": "Again", "Principal": {"Service": SERVICES}}]
    sandbox.aws.add_role("deploy", trust_policy={"Version": "2012-10-17", "Statement": theirs})

    admin.does_here(*SETUP, "--yes").well()

    ours = statement_of(sandbox)
    assert sandbox.aws.trust_of(sandbox.role_arn)["Statement"] == [*theirs, ours]


# Add the permission policies you want.


def test_permission_policies_and_the_session_duration_are_set(
    sandbox: Sandbox, admin: Machine
) -> None:
    reading = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [reading]}
    (admin.home / "read-one.json").write_text(json.dumps(document))
    policies = ("--policy-arn", READ_ONLY, "--policy-file", "read-one.json")

    done = admin.does_here(*SETUP, "--yes", *policies, "--max-session-duration", "7200").well()

    role = sandbox.aws.role(sandbox.role_arn)
    assert role is not None
    assert (role.attached, dict(role.policies)) == ((READ_ONLY,), {"read-one": document})
    assert role.max_session_duration_s == 7200
    assert "duration_s = 7200" in done.output
    assert 7000 < _seconds_of(sandbox) <= 7200


def _seconds_of(sandbox: Sandbox) -> float:
    (call,) = sandbox.aws.calls_of("AssumeRoleWithWebIdentity")
    return float(str(call.params["DurationSeconds"]))


# Plan, then act.


def test_a_dry_run_shows_the_plan_and_changes_nothing(sandbox: Sandbox, admin: Machine) -> None:
    done = admin.does_here(*SETUP, "--dry-run")

    assert done.code == 3
    assert "create  OIDC provider https://federation.namespaceapis.com" in done.output
    assert "create  role deploy" in done.output
    assert '"federation.namespaceapis.com:sub": "ws_1/*"' in done.output
    assert changes(sandbox) == []


def test_the_second_time_there_is_nothing_to_do(sandbox: Sandbox, admin: Machine) -> None:
    admin.does_here(*SETUP, "--yes").well()
    changed = changes(sandbox)

    again = admin.does_here(*SETUP, "--dry-run").well()

    assert "Nothing to do" in again.output
    assert changes(sandbox) == changed


def test_without_a_terminal_and_without_yes_nothing_is_changed(
    sandbox: Sandbox, admin: Machine
) -> None:
    complaint = admin.does(*SETUP).complaint()

    assert complaint == (
        "namespace-broker: --yes: is not given, and there is no terminal to ask at; "
        "give --yes to carry out the plan; nothing was changed"
    )
    assert changes(sandbox) == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("YES", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_asks(sandbox: Sandbox, admin: Machine, answer: str, code: int) -> None:
    done = admin.does_here(*SETUP, typed=f"{answer}\n")

    assert "Do this? [y/N]" in done.errors
    assert done.code == code
    assert bool(changes(sandbox)) is (code == 0)


def test_a_terminal_that_is_closed_is_no_yes(sandbox: Sandbox, admin: Machine) -> None:
    assert "nothing was changed" in admin.does_here(*SETUP, typed="").errors
    assert changes(sandbox) == []


def test_a_real_terminal_is_known_for_one(sandbox: Sandbox, admin: Machine) -> None:
    done = at_a_terminal(admin, "n", *SETUP)

    assert "Do this? [y/N]" in done.stderr
    assert done.returncode == 1
    assert changes(sandbox) == []


def at_a_terminal(machine: Machine, answer: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run one of our commands with a terminal for its input, at which somebody answers that."""
    ours, its = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        return subprocess.run(
            [sys.executable, "-m", "broker", *words],
            env=machine.variables,
            stdin=its,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(its)


def test_what_fails_half_way_says_what_was_done_and_the_same_command_finishes_it(
    sandbox: Sandbox, admin: Machine
) -> None:
    allowed = {"Effect": "Allow", "NotAction": "iam:CreateRole", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [allowed]}
    half = sandbox.aws.add_user("half", policies={"half": policy})
    someone = admin.having(**sandbox.keys_environment(half))

    failed = someone.does_here(*SETUP, "--yes", "--policy-arn", READ_ONLY)
    finished = admin.does_here(*SETUP, "--yes", "--policy-arn", READ_ONLY).well()

    assert "allow iam:CreateRole to this AWS identity" in failed.complaint()
    assert re.search(r"^done +create +OIDC provider", failed.output, re.MULTILINE)
    assert re.search(r"^not done +create +role deploy", failed.output, re.MULTILINE)
    assert re.search(r"^not done +create +policy of deploy", failed.output, re.MULTILINE)
    assert re.search(r"^keep +OIDC provider", finished.output, re.MULTILINE)
    assert "Proven" in finished.output


@pytest.mark.parametrize(
    ("operation", "undone"),
    [
        ("CreateOpenIDConnectProvider", 4),
        ("CreateRole", 3),
        ("AttachRolePolicy", 2),
        ("PutRolePolicy", 1),
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "LimitExceeded"])
def test_whichever_step_is_refused_the_same_command_finishes_it(
    sandbox: Sandbox, admin: Machine, operation: str, undone: int, code: str
) -> None:
    reading = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    (admin.home / "own.json").write_text(json.dumps({"Statement": [reading]}))
    words = (*SETUP, "--yes", "--policy-arn", READ_ONLY, "--policy-file", "own.json")
    sandbox.fail(operation, status=403, code=code, count=1)

    failed = admin.does_here(*words)
    finished = admin.does_here(*words).well()

    assert code in failed.complaint()
    assert len(re.findall(r"(?m)^not done +create", failed.output)) == undone
    assert len(re.findall(r"(?m)^done +create", failed.output)) == 4 - undone
    assert len(re.findall(r"(?m)^keep ", finished.output)) == 4 - undone
    assert "Proven" in finished.output


def test_throttling_is_sat_out(sandbox: Sandbox, admin: Machine) -> None:
    sandbox.fail("CreateRole", status=400, code="Throttling", count=1)

    assert "Proven" in admin.does_here(*SETUP, "--yes").well().output


def test_on_ctrl_c_it_says_what_was_done_and_what_was_not(sandbox: Sandbox, admin: Machine) -> None:
    sandbox.fail("CreateRole", delay_s=5)

    code, output = interrupted_at(sandbox, "CreateRole", admin, *SETUP, "--yes")

    assert code == 130
    assert re.search(r"(?m)^done +create +OIDC provider", output)
    assert re.search(r"(?m)^not done +create +role deploy", output)


def interrupted_at(
    sandbox: Sandbox, operation: str, machine: Machine, *words: str
) -> tuple[int, str]:
    """Run one of our commands and press Ctrl-C once it has called *operation*.

    Return its exit code and output.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "broker", *words],
        env=machine.variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not sandbox.aws.calls_of(operation):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    return process.returncode, output


def test_a_policy_that_others_have_put_into_one_of_that_name_stays_in_it(
    sandbox: Sandbox, admin: Machine
) -> None:
    theirs = {"Sid": "Theirs", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
    ours = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    stood = {"Version": "2012-10-17", "Statement": [theirs]}
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust(), policies={"own": stood})
    (admin.home / "own.json").write_text(json.dumps({"Statement": [ours]}))
    words = ("--policy-file", "own.json", "--yes")

    done = admin.does_here(*SETUP, *words).well()
    merged = sandbox.aws.policies_of(sandbox.role_arn)["own"]
    admin.does_here(*SETUP, *words).well()
    admin.does_here(*REMOVE, *words).well()

    assert "it also has a statement that is not ours, which stays" in done.output
    assert merged == {**stood, "Statement": [theirs, ours]}
    assert len(sandbox.aws.calls_of("PutRolePolicy")) == 2
    assert sandbox.aws.policies_of(sandbox.role_arn) == {"own": stood}


def test_with_json_plan_and_outcome_are_one_document(sandbox: Sandbox, admin: Machine) -> None:
    planned = json.loads(admin.does_here(*SETUP, "--json", "--dry-run").output)
    done = json.loads(admin.does_here(*SETUP, "--json", "--yes").well().output)

    assert [step["do"] for step in planned["steps"]] == ["create", "create"]
    assert not any(step["done"] for step in planned["steps"])
    assert all(step["done"] for step in done["steps"])
    assert done["role_arn"] == sandbox.role_arn
    assert sandbox.role_arn in done["config"]


def test_another_account_than_was_said_is_not_worked_in(sandbox: Sandbox, admin: Machine) -> None:
    complaint = admin.does_here(*SETUP, "--yes", "--account", "999999999999").complaint(2)

    assert "--account: is 999999999999, and this AWS identity belongs to 123456789012" in complaint
    assert changes(sandbox) == []


def test_the_profile_that_is_named_is_used(sandbox: Sandbox, machine: Machine) -> None:
    machine.profile("boss", sandbox.aws.administrator())
    here = machine.having(NSC_TOKEN_SPEC=sandbox.namespace.token_spec())

    here.does_here(*SETUP, "--yes", "--profile", "boss", "--region", "eu-central-1").well()

    assert sandbox.aws.has_role(sandbox.role_arn)


@pytest.mark.parametrize(
    ("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")]
)
def test_in_another_partition_every_arn_is_of_that(
    machine: Machine, partition: str, region: str
) -> None:
    with sandbox_in_thread(empty=True, partition=partition, region=region) as world:
        clouds = world.environment() | world.administrator_environment()
        there = machine.having(**clouds, NSC_TOKEN_SPEC=world.namespace.token_spec())

        done = there.does_here(*SETUP, "--yes").well()

        assert world.role_arn.startswith(f"arn:{partition}:")
        assert world.aws.trust_of(world.role_arn) == world.guide_trust()
        assert f"Proven: ws_1/i-abc obtained credentials of {world.role_arn}" in done.output


# The proof, and the daemon by the printed snippet.


def test_the_daemon_started_with_the_printed_snippet_serves_credentials(
    sandbox: Sandbox, admin: Machine, tmp_path: Path
) -> None:
    done = admin.does_here(*SETUP, "--yes").well()
    snippet = done.output.partition("configuration file:\n\n")[2].partition("\nNext:")[0]
    config = tmp_path / "config.toml"
    config.write_text(snippet)
    anywhere = ("--container", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--log-format", "json")

    with broker_process(
        sandbox,
        tmp_path,
        *("--config", str(config), "--runtime-dir", str(tmp_path / "run"), *anywhere),
        defaults=False,
    ) as broker:
        broker.wait_for("daemon.ready")
        url = broker.endpoints["container"][0]
        status, body = get(f"{url}/v1/credentials", authorization=broker.container_token)

    assert status == 200
    assert json.loads(body)["RoleArn"] == sandbox.role_arn


def test_a_trust_that_aws_has_not_heard_of_everywhere_is_waited_for(
    sandbox: Sandbox, admin: Machine
) -> None:
    sandbox.aws.propagation_s = 2

    done = admin.does_here(*SETUP, "--yes").well()

    assert "Proven" in done.output
    assert "not admitted yet (no-provider)" in done.errors
    assert "trying again in 5 s" in done.errors


def test_without_an_identity_of_namespaces_it_says_what_proves_it_over_there(
    sandbox: Sandbox, machine: Machine
) -> None:
    laptop = machine.having(**sandbox.administrator_environment())

    done = laptop.does_here(*SETUP, "--yes", "--workspace", "ws_1").well()

    assert "this machine has no Namespace identity" in done.output
    assert f"namespace-broker check --live --role-arn {sandbox.role_arn}" in done.output
    assert sandbox.aws.trust_of(sandbox.role_arn) == sandbox.guide_trust()


def test_an_identity_that_was_not_admitted_proves_nothing_and_waits_for_nothing(
    sandbox: Sandbox, admin: Machine
) -> None:
    done = admin.does_here(*SETUP, "--yes", "--subject", "ws_1/i-other").well()

    assert "Not proven: the Namespace identity of this machine (ws_1/i-abc)" in done.output
    assert sandbox.aws.calls_of("AssumeRoleWithWebIdentity") == ()


def test_a_denial_in_the_role_is_told_at_once(sandbox: Sandbox, admin: Machine) -> None:
    statements = [statement_of(sandbox), {**statement_of(sandbox), "Effect": "Deny"}]
    policy = {"Version": "2012-10-17", "Statement": statements}
    sandbox.aws.add_role("deploy", trust_policy=policy)

    failed = admin.does_here(*SETUP, "--yes")

    assert "statement 2 denies it" in failed.complaint()
    assert sandbox.aws.calls_of("AssumeRoleWithWebIdentity") == ()


def test_no_verify_obtains_nothing(sandbox: Sandbox, admin: Machine) -> None:
    done = admin.does_here(*SETUP, "--yes", "--no-verify").well()

    assert "roven" not in done.output
    assert sandbox.aws.calls_of("AssumeRoleWithWebIdentity") == ()


# Bad input: named, explained, nothing touched.


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            ("--role_name", "arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com"),
            "federation.namespaceapis.com is an identity provider, not a role; give the name",
        ),
        (("--role-name", "a/b"), "--role-name: is 'a/b', which is not a role's name"),
        ((), "--role-name: is not given"),
        (("--workspace", "ws_*"), "--workspace: is 'ws_*', which is not a workspace's id"),
        (
            ("--workspace", "ws_1", "--subject", "*"),
            "--subject: is '*', which does not begin with the workspace; give ws_1/*",
        ),
        (
            ("--policy-arn", "ReadOnly"),
            "--policy-arn: is 'ReadOnly', which is not a managed policy's",
        ),
        (("--policy-file", "/nowhere.json"), "--policy-file: /nowhere.json cannot be read"),
        (("--max-session-duration", "60"), "--max-session-duration: is 60; IAM takes 3600"),
        (("--issuer", "https://federation.namespaceapis.com/"), "not even a slash"),
        (("--issuer", "https://federation.namespaceapis.com:443"), "AWS takes no port"),
        (("--workspace", "ws_1", "--account", "me"), "--account: is 'me'"),
        (("--workspace", "ws_1", "--region", "frankfurt"), "--region: is 'frankfurt'"),
    ],
)
def test_bad_input_is_named_and_explained_and_nothing_is_touched(
    sandbox: Sandbox, admin: Machine, said: tuple[str, ...], told: str
) -> None:
    name = () if "--role_name" in said or "--role-name" in said or not said else SETUP[2:]

    complaint = admin.does_here("setup", "to-aws", *name, *said, "--yes").complaint(2)

    assert told in complaint
    assert sandbox.aws.calls == ()


def test_without_workspace_and_identity_it_says_how_to_name_one(
    sandbox: Sandbox, machine: Machine
) -> None:
    laptop = machine.having(**sandbox.administrator_environment())

    complaint = laptop.does_here(*SETUP, "--yes").complaint(2)

    assert complaint.startswith("namespace-broker: --workspace: is not given")
    assert sandbox.aws.calls == ()


def test_without_an_aws_identity_it_says_so(sandbox: Sandbox, machine: Machine) -> None:
    nobody = machine.having(NSC_TOKEN_SPEC=sandbox.namespace.token_spec())

    assert "this machine has no AWS identity" in nobody.does_here(*SETUP, "--yes").complaint()


# `setup show` and `setup remove`.


def test_show_tells_what_is_missing(admin: Machine) -> None:
    shown = admin.does_here(*SHOW)

    assert shown.code == 1
    assert re.search(r"^missing +role deploy", shown.output, re.MULTILINE)
    assert "It would not be admitted: the account has no OIDC provider" in shown.output


def test_show_holds_every_claim_against_every_condition(sandbox: Sandbox, admin: Machine) -> None:
    sandbox.aws.add_provider(sandbox.namespace.issuer, client_ids=("sts.amazonaws.com",))
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust(subject="ws_2/*"))

    refused = admin.does_here(*SHOW)
    sandbox.aws.set_trust(sandbox.role_arn, sandbox.guide_trust())
    admitted = admin.does_here(*SHOW).well()

    assert refused.code == 1
    sub = "federation.namespaceapis.com:sub wants 'ws_2/*', the token has 'ws_1/i-abc'"
    assert re.search(rf"^  NO +.*{re.escape(sub)}", refused.output, re.MULTILINE)
    assert re.search(r"^  yes +.*:aud wants 'sts.amazonaws.com'", refused.output, re.MULTILINE)
    assert "It would be admitted: statement 1 admits it" in admitted.output
    assert changes(sandbox) == []


def test_show_without_an_identity_tells_whether_it_stands(
    sandbox: Sandbox, machine: Machine
) -> None:
    laptop = machine.having(**sandbox.administrator_environment())

    before = laptop.does_here(*SHOW, "--workspace", "ws_1")
    laptop.does_here(*SETUP, "--workspace", "ws_1", "--yes").well()
    after = laptop.does_here(*SHOW, "--workspace", "ws_1").well()

    assert before.code == 1
    assert "The trust admits ws_1/*" in after.output


def test_show_alone_shows_both_directions_and_one_that_admits_is_enough(admin: Machine) -> None:
    before = admin.does_here("setup", "show", "--role-name", "deploy")
    admin.does_here(*SETUP, "--yes", "--no-verify").well()
    after = admin.does_here("setup", "show", "--role-name", "deploy").well()

    assert before.code == 1
    assert "It would be admitted: statement 1 admits it" in after.output
    assert "role/deploy would not be admitted." in after.output


def test_a_flag_before_the_direction_is_not_passed_over_in_silence(admin: Machine) -> None:
    complaint = admin.does_here("setup", "show", "--role-name", "deploy", "to-aws").complaint(2)

    assert complaint == (
        "namespace-broker: --role-name: stands before to-aws; give it after to-aws"
    )


def test_show_as_json_has_the_verdict(admin: Machine) -> None:
    admin.does_here(*SETUP, "--yes", "--no-verify").well()

    shown = json.loads(admin.does_here(*SHOW, "--json").well().output)

    assert shown["admitted"] is True
    assert shown["claims"]["sub"] == "ws_1/i-abc"
    assert all(check["holds"] for check in shown["statements"][0]["checks"])


def test_remove_shows_first_and_takes_back_all_of_what_was_made(
    sandbox: Sandbox, admin: Machine
) -> None:
    admin.does_here(*SETUP, "--yes", "--policy-arn", READ_ONLY).well()

    shown = admin.does_here(*REMOVE, "--policy-arn", READ_ONLY, "--dry-run")
    admin.does_here(*REMOVE, "--policy-arn", READ_ONLY, "--yes").well()
    again = admin.does_here(*REMOVE, "--policy-arn", READ_ONLY, "--yes").well()

    assert shown.code == 3
    assert re.search(r"^remove +role deploy", shown.output, re.MULTILINE)
    assert (sandbox.aws.roles(), sandbox.aws.providers()) == ((), ())
    assert "Nothing to remove." in again.output


def test_remove_leaves_a_provider_that_another_role_trusts(
    sandbox: Sandbox, admin: Machine
) -> None:
    admin.does_here(*SETUP, "--yes").well()
    sandbox.aws.add_role("theirs", trust_policy=sandbox.guide_trust(subject="ws_2/*"))

    done = admin.does_here(*REMOVE, "--yes").well()

    assert "trusted by theirs" in done.output
    assert [role.name for role in sandbox.aws.roles()] == ["theirs"]
    assert len(sandbox.aws.providers()) == 1


def test_remove_takes_only_our_statement_from_a_role_that_is_not_ours(
    sandbox: Sandbox, admin: Machine
) -> None:
    policy = {"Version": "2012-10-17", "Statement": [MACHINES]}
    sandbox.aws.add_role("deploy", trust_policy=policy)
    admin.does_here(*SETUP, "--yes").well()

    admin.does_here(*REMOVE, "--yes").well()

    assert sandbox.aws.trust_of(sandbox.role_arn) == policy
    assert sandbox.aws.providers() == ()


def test_remove_touches_nothing_that_was_made_by_hand(sandbox: Sandbox, admin: Machine) -> None:
    sandbox.aws.add_provider(sandbox.namespace.issuer, client_ids=("sts.amazonaws.com",))
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust())

    done = admin.does_here(*REMOVE, "--yes").well()

    assert "Nothing to remove." in done.output
    assert changes(sandbox) == []


# Another issuer than Namespace.

GITHUB = "https://token.actions.githubusercontent.com"
FOR_GITHUB = ("--role-name", "deploy", "--issuer", GITHUB, "--subject", "repo:acme/app:*")


@pytest.fixture
def elsewhere(sandbox: Sandbox, machine: Machine) -> Machine:
    """An administrator without any Namespace identity; GitHub's issuer can be reached."""
    sandbox.aws.add_issuer(GITHUB, resolve_at=sandbox.namespace.url)
    return machine.having(**sandbox.administrator_environment())


def test_another_issuers_subject_is_trusted_without_a_workspace(
    sandbox: Sandbox, elsewhere: Machine
) -> None:
    done = elsewhere.does_here("setup", "to-aws", *FOR_GITHUB, "--yes").well()
    shown = elsewhere.does_here("setup", "show", "to-aws", *FOR_GITHUB).well()

    host = GITHUB.removeprefix("https://")
    (statement,) = list(sandbox.aws.trust_of(sandbox.role_arn)["Statement"])  # type: ignore[call-overload]
    assert sandbox.aws.providers()[0].issuer == GITHUB
    assert statement["Condition"] == {
        "StringLike": {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": "repo:acme/app:*"}
    }
    assert "workspace" not in done.output
    assert f"Not proven: this machine has no token of {GITHUB}." in done.output
    assert f"assume-role-with-web-identity --role-arn {sandbox.role_arn}" in done.output
    assert "The trust admits repo:acme/app:*." in shown.output


def test_the_trust_in_another_issuer_is_removed_by_the_same_flags(
    sandbox: Sandbox, elsewhere: Machine
) -> None:
    elsewhere.does_here("setup", "to-aws", *FOR_GITHUB, "--yes").well()
    elsewhere.does_here("setup", "remove", "to-aws", *FOR_GITHUB, "--yes").well()

    assert (sandbox.aws.providers(), sandbox.aws.roles()) == ((), ())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (FOR_GITHUB[:4], f"--subject: is not given; say whom of {GITHUB} to admit"),
        ((*FOR_GITHUB[:4], "--subject", "*"), "is '*', which admits the issuer's other users"),
        (
            (*FOR_GITHUB[:4], "--subject", "repo:*/app:*"),
            "that begins with your own name",
        ),
    ],
)
def test_another_issuers_other_users_are_not_admitted(
    sandbox: Sandbox, elsewhere: Machine, words: tuple[str, ...], told: str
) -> None:
    done = elsewhere.does_here("setup", "to-aws", *words, "--yes")

    assert done.code == 2
    assert told in done.errors
    assert changes(sandbox) == []


def test_trust_in_another_issuer_is_rendered_without_a_workspace(elsewhere: Machine) -> None:
    rendering = ("--account", "123456789012", "--render", "json")
    done = elsewhere.does_here("setup", "to-aws", *FOR_GITHUB, *rendering).well()

    document = json.loads(done.output)
    assert document["workspace"] is None
    assert document["resources"][0]["url"] == GITHUB
