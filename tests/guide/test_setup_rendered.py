"""`setup --render` asks no cloud, and its script leaves the account as the command itself does."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.sandbox import EC2_TRUST_POLICY
from tests.support.clients import SCRIPTS
from tests.support.guide_machine import Done, Machine

ACCOUNT = "123456789012"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::it's/${aws:username}/`x`/$(reboot)/*",
        }
    ],
}
TO_AWS = (
    *("to-aws", "--role-name", "deploy", "--max-session-duration", "7200"),
    *("--policy-arn", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"),
    *("--policy-file", "reading.json"),
)
BY_STS = ("to-namespace", "--via", "sts", "--role-name", "builder")
BY_COGNITO = ("to-namespace", "--via", "cognito", "--role-name", "builder")
EACH = pytest.mark.parametrize(
    "asked", [TO_AWS, BY_STS, BY_COGNITO], ids=["to-aws", "sts", "cognito"]
)
WHERE = ("--account", ACCOUNT, "--workspace", "ws_1", "--region", "eu-central-1")
FORMS = pytest.mark.parametrize("form", ["cloudformation", "terraform", "aws-cli", "json"])


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread(empty=True, region="eu-central-1") as world:
        yield world


@pytest.fixture
def twin() -> Iterator[Sandbox]:
    with sandbox_in_thread(empty=True, region="eu-central-1") as world:
        yield world


@pytest.fixture
def nobody(sandbox: Sandbox, tmp_path: Path) -> Machine:
    """A machine with no identity of either cloud."""
    return machine_in(sandbox, tmp_path / "nobody")


def machine_in(world: Sandbox, home: Path) -> Machine:
    """Return a machine on which there is the AWS CLI and no nsc, whatever this one has."""
    programs = home / "programs"
    programs.mkdir(parents=True)
    (programs / "aws").symlink_to(SCRIPTS / "aws")
    (home / "reading.json").write_text(json.dumps(POLICY))
    environ = {**world.environment(), "PATH": str(programs)}
    return Machine(sandbox=world, home=home, environ=environ)


def administered(world: Sandbox, home: Path) -> Machine:
    """Return a machine with an administrator's keys, in an account with one role."""
    world.aws.add_role("builder", trust_policy=EC2_TRUST_POLICY)
    login = world.namespace.inline_token_spec(world.namespace.tenant_token())
    keys = world.administrator_environment()
    return machine_in(world, home).having(NSC_TOKEN_SPEC=login, **keys)


def script_of(machine: Machine, *asked: str) -> str:
    """Write the script down and return its name."""
    rendered = machine.does("setup", *asked, *WHERE, "--render", "aws-cli").well()
    (machine.home / "script").write_text(rendered.output)
    return "script"


def with_nsc(machine: Machine, *, listing: str = "{}") -> Machine:
    """Return the machine with an nsc that notes what it is told, and lists that."""
    nsc = machine.home / "programs" / "nsc"
    nsc.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *" list "*) printf "%s" \'{listing}\'; exit ;; esac\n'
        f'printf "%s\\n" "$@" >>"{machine.home}/told"\n'
    )
    nsc.chmod(0o755)
    return machine


def told(machine: Machine) -> list[str]:
    return (machine.home / "told").read_text().splitlines()


def state_of(world: Sandbox) -> Mapping[str, object]:
    """Return all that stands in the account; what AWS makes up by itself is left out."""
    pools = world.aws.identity_pools()
    stands = {
        "providers": [
            (one.arn, one.issuer, one.client_ids, one.thumbprints, dict(one.tags))
            for one in world.aws.providers()
        ],
        "roles": [
            {
                "arn": one.arn,
                "trust": one.trust_policy,
                "max_session_duration_s": one.max_session_duration_s,
                "description": one.description,
                "tags": one.tags,
                "policies": one.policies,
                "attached": one.attached,
            }
            for one in world.aws.roles()
        ],
        "pools": [
            (one.pool_id, one.name, one.developer_provider, one.allows_unauthenticated, one.tags)
            for one in pools
        ],
        "federation": any(
            call.operation == "EnableOutboundWebIdentityFederation" for call in world.aws.calls
        ),
    }
    text = json.dumps(stands, default=dict)
    for number, pool in enumerate(pools):
        text = text.replace(pool.pool_id.partition(":")[2], f"guid-{number}")
    return dict(json.loads(text))


# The script.


@EACH
def test_the_script_makes_what_the_command_makes(
    sandbox: Sandbox, twin: Sandbox, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    by_command = administered(sandbox, tmp_path / "one")
    by_script = administered(twin, tmp_path / "other")

    by_command.does("setup", *asked, "--workspace", "ws_1", "--yes", "--no-verify").well()
    by_script.runs("/bin/sh", script_of(by_script, *asked)).well()

    assert state_of(twin) == state_of(sandbox)


@EACH
def test_run_again_the_script_changes_nothing_and_then_the_command_finds_nothing_to_do(
    sandbox: Sandbox, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    script = script_of(admin, *asked)
    admin.runs("/bin/sh", script).well()
    stood = state_of(sandbox)

    admin.runs("/bin/sh", script).well()
    planned = admin.does("setup", *asked, "--workspace", "ws_1", "--dry-run", "--json")

    assert state_of(sandbox) == stood
    in_aws = [one for one in json.loads(planned.output)["steps"] if "trust" not in one["what"]]
    assert {one["do"] for one in in_aws} == {"keep"}


def test_by_sts_nsc_is_told_the_issuer_that_aws_made(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = with_nsc(administered(sandbox, tmp_path / "admin"))

    admin.runs("/bin/sh", script_of(admin, *BY_STS)).well()

    assert told(admin) == [
        *("auth", "trust-relationships", "add"),
        *("--issuer", sandbox.aws.enable_outbound_federation()),
        *("--subject-match", f"arn:aws:iam::{ACCOUNT}:role/builder"),
        *("--audience", "https://federation.namespaceapis.com"),
    ]


def test_by_cognito_nsc_is_told_the_pool_that_aws_made(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = with_nsc(administered(sandbox, tmp_path / "admin"))

    admin.runs("/bin/sh", script_of(admin, *BY_COGNITO)).well()

    (pool,) = sandbox.aws.identity_pools()
    assert told(admin) == [
        *("auth", "trust-aws-cognito-identity-pool", "--aws_region", "eu-central-1"),
        *("--identity_pool", pool.pool_id.partition(":")[2], "--tenant_id", "ws_1"),
    ]


def test_a_relationship_that_stands_is_not_added_a_second_time(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    listing = json.dumps([{"subject_match": f"arn:aws:iam::{ACCOUNT}:role/builder"}])
    admin = with_nsc(administered(sandbox, tmp_path / "admin"), listing=listing)

    done = admin.runs("/bin/sh", script_of(admin, *BY_STS)).well()

    assert "one for it exists" in done.output
    assert not (admin.home / "told").exists()


def test_where_nsc_is_not_there_its_line_is_printed(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = administered(sandbox, tmp_path / "admin")

    done = admin.runs("/bin/sh", script_of(admin, *BY_STS)).well()

    issuer = sandbox.aws.enable_outbound_federation()
    assert f"    nsc auth trust-relationships add --issuer {issuer} --subject-match" in done.output


def test_a_pool_is_looked_up_over_all_pages_before_one_is_made(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    for number in range(60):
        sandbox.aws.add_identity_pool(f"other-{number}", developer_provider=None)
    meant = sandbox.aws.add_identity_pool("mine")

    done = admin.runs("/bin/sh", script_of(admin, *BY_COGNITO, "--pool-name", "mine")).well()

    assert len(sandbox.aws.identity_pools()) == 61
    assert f"--identity-pool {meant}" in done.output


def test_of_several_pools_that_will_do_none_is_taken(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    pools = [sandbox.aws.add_identity_pool("mine"), sandbox.aws.add_identity_pool("mine")]

    done = admin.runs("/bin/sh", script_of(admin, *BY_COGNITO, "--pool-name", "mine"))

    assert done.code == 1
    assert all(pool in done.errors for pool in pools)
    assert "--identity-pool" in done.errors


def test_a_pool_that_was_named_is_used(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    pool = sandbox.aws.add_identity_pool("mine")

    admin.runs("/bin/sh", script_of(admin, *BY_COGNITO, "--identity-pool", pool)).well()

    guid = pool.partition(":")[2]
    (name,) = sandbox.aws.policies_of(f"arn:aws:iam::{ACCOUNT}:role/builder")
    assert name == f"allow-developer-tokens-{guid}"


# Where the script stops, and has touched nothing.


def stopped(sandbox: Sandbox, done: Done) -> str:
    assert done.code == 1
    reading = ("Get", "List", "Describe", "Assume")
    assert [
        one.operation for one in sandbox.aws.calls if not one.operation.startswith(reading)
    ] == []
    return done.errors


def test_another_account_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    where = ("--account", "999999999999", "--workspace", "ws_1", "--region", "eu-central-1")
    rendered = admin.does("setup", *TO_AWS, *where, "--render", "aws-cli").well()
    (admin.home / "script").write_text(rendered.output)

    done = admin.runs("/bin/sh", "script")

    assert "is of account 123456789012" in stopped(sandbox, done)


def test_a_role_with_a_path_is_asked_for_by_its_whole_arn(sandbox: Sandbox, tmp_path: Path) -> None:
    arn = sandbox.aws.add_role("runner", trust_policy=EC2_TRUST_POLICY, path="/ci/")
    admin = with_nsc(administered(sandbox, tmp_path / "admin"))
    asked = ("to-namespace", "--via", "sts", "--role-name", "runner")

    done = admin.runs("/bin/sh", script_of(admin, *asked))
    complaint = stopped(sandbox, done)
    admin.runs("/bin/sh", script_of(admin, *asked, "--subject-match", arn)).well()

    assert f"render again with --subject-match {arn}" in complaint
    assert arn in told(admin)


def test_a_role_with_another_trust_policy_is_not_written_over(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    arn = sandbox.aws.add_role("deploy", trust_policy=EC2_TRUST_POLICY)

    done = admin.runs("/bin/sh", script_of(admin, *TO_AWS))

    assert done.code == 1
    assert "The role deploy exists" in done.errors
    assert "namespace-broker setup to-aws, without --render" in done.errors
    assert sandbox.aws.trust_of(arn) == EC2_TRUST_POLICY


def test_a_policy_that_stands_is_left_to_a_person(sandbox: Sandbox, tmp_path: Path) -> None:
    admin = administered(sandbox, tmp_path / "admin")
    arn = f"arn:aws:iam::{ACCOUNT}:role/builder"
    sandbox.aws.allow_web_identity_tokens(arn)
    plain = sandbox.aws.policies_of(arn)

    done = admin.runs("/bin/sh", script_of(admin, *BY_STS)).well()

    assert sandbox.aws.policies_of(arn) == plain
    assert "it exists, and is left as it is" in done.output


def test_what_aws_refuses_ends_the_script(sandbox: Sandbox, tmp_path: Path) -> None:
    nobody = sandbox.aws.add_user("nobody")
    machine = machine_in(sandbox, tmp_path / "nobody").having(**sandbox.keys_environment(nobody))

    done = machine.runs("/bin/sh", script_of(machine, *TO_AWS))

    assert "AccessDenied" in stopped(sandbox, done)


# What is printed.


@EACH
@FORMS
def test_rendering_asks_no_cloud_and_needs_no_identity(
    sandbox: Sandbox, nobody: Machine, asked: tuple[str, ...], form: str
) -> None:
    done = nobody.does("setup", *asked, *WHERE, "--render", form).well()

    assert f"namespace-broker setup {' '.join(asked)}" in done.output
    assert done.errors == ""
    assert not sandbox.aws.calls
    assert not sandbox.namespace.calls


@EACH
@pytest.mark.parametrize("flag", ["--account", "--workspace"])
def test_what_it_would_have_read_has_to_be_said(
    nobody: Machine, asked: tuple[str, ...], flag: str
) -> None:
    at = WHERE.index(flag)
    others = (*WHERE[:at], *WHERE[at + 2 :])

    complaint = nobody.does("setup", *asked, *others, "--render", "json").complaint(2)

    assert complaint.startswith(f"namespace-broker: {flag}: is not given; rendering asks no cloud")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (("--render", "yaml"), "--render: "),
        (("--render", "json", "--yes"), "--yes: has no meaning with --render"),
        (("--render", "terraform", "--json"), "--json: has no meaning with --render terraform"),
    ],
)
def test_what_has_no_meaning_is_named(
    nobody: Machine, said: tuple[str, ...], complaint: str
) -> None:
    assert complaint in nobody.does("setup", *TO_AWS, *WHERE, *said).complaint(2)


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns_are_of_the_regions_partition(nobody: Machine, region: str, partition: str) -> None:
    where = ("--account", ACCOUNT, "--workspace", "ws_1", "--region", region)

    done = nobody.does("setup", *BY_COGNITO, *where, "--render", "json").well()

    text = json.dumps(json.loads(done.output)["resources"])
    assert f"arn:{partition}:cognito-identity:{region}:{ACCOUNT}:identitypool/" in text


def test_the_profile_that_was_said_is_the_scripts(sandbox: Sandbox, tmp_path: Path) -> None:
    machine = machine_in(sandbox, tmp_path / "home")
    machine.profile("boss", sandbox.aws.administrator())
    someone = machine.having(**sandbox.keys_environment(sandbox.aws.add_user("nobody")))

    done = someone.runs("/bin/sh", script_of(someone, *TO_AWS, "--profile", "boss"))

    assert done.well()
    assert sandbox.aws.has_role(sandbox.role_arn)
