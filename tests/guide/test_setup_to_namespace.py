"""The set-up in the guide's first two tables, by our commands.

From two empty clouds until a daemon serves a token that it got under the trust that was made.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.sandbox import EC2_TRUST_POLICY
from tests.support.broker_process import ANYWHERE, broker_process
from tests.support.guide_machine import Machine
from tests.support.workload import workspace_of

ACCOUNT = "123456789012"
BY_STS = ("--via", "sts", "--role-name", "builder")
BY_COGNITO = ("--via", "cognito", "--role-name", "builder")
BOTH = pytest.mark.parametrize("asked", [BY_STS, BY_COGNITO], ids=["sts", "cognito"])
PARTITIONS = [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")]
LETS_THE_ACCOUNT_IN = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread(empty=True) as world:
        yield world


@pytest.fixture
def role(sandbox: Sandbox) -> str:
    """The role of an EC2 instance, which its administrators may assume too."""
    return sandbox.aws.add_role("builder", trust_policy=LETS_THE_ACCOUNT_IN, path="/ci/")


@pytest.fixture
def laptop(sandbox: Sandbox, machine: Machine) -> Machine:
    """Of somebody who administers the account and the workspace."""
    login = sandbox.namespace.inline_token_spec(sandbox.namespace.tenant_token())
    return machine.having(NSC_TOKEN_SPEC=login, **sandbox.administrator_environment())


@pytest.fixture
def of_aws_alone(sandbox: Sandbox, machine: Machine) -> Machine:
    """Of somebody who administers the account only."""
    return machine.having(**sandbox.administrator_environment())


def snippet_in(output: str) -> str:
    """Return the lines for the configuration file, as a reader would copy them."""
    found = re.search(r"(?ms)^\[identities\.default\]$.*?^http = true$", output)
    assert found is not None, output
    return found[0]


def login_in(output: str) -> tuple[str, ...]:
    """Return the words of the login command that was printed, after our program's name."""
    lines = re.findall(r"(?m)^    namespace-broker (login .*)$", output)
    assert lines, output
    return tuple(lines[-1].split())


def state_of(sandbox: Sandbox, role: str) -> str:
    """Return everything that stands in both clouds."""
    return json.dumps(
        [
            sandbox.aws.policies_of(role),
            [pool.pool_id for pool in sandbox.aws.identity_pools()],
            sandbox.namespace.trust_relationships(),
            sorted(sandbox.namespace.trusted_pools()),
        ]
    )


# The whole guide.


@BOTH
def test_from_two_empty_clouds_a_daemon_comes_to_serve_a_token_under_the_trust_that_was_made(
    sandbox: Sandbox, laptop: Machine, role: str, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    done = laptop.does("setup", "to-namespace", *asked, "--yes").well()
    config = tmp_path / "config.toml"
    config.write_text(snippet_in(done.output))
    shared = ("--config", str(config), "--runtime-dir", str(tmp_path / "run"))

    with broker_process(
        sandbox,
        tmp_path,
        *(*shared, "--container", ANYWHERE, "--ops", ANYWHERE, "--log-format", "json"),
        environ={**sandbox.aws_environment(role), "AWS_EC2_METADATA_DISABLED": "true"},
        defaults=False,
    ) as broker:
        broker.wait_for("daemon.ready")
        shown = laptop.does_here("token", "--show", "--runtime-dir", str(tmp_path / "run")).well()

    assert "Proven" in done.output
    assert workspace_of(sandbox, shown.output.strip()) == "Acme"


@BOTH
def test_the_login_line_that_is_printed_signs_the_workload_in(
    sandbox: Sandbox, laptop: Machine, machine: Machine, role: str, asked: tuple[str, ...]
) -> None:
    done = laptop.does_here("setup", "to-namespace", *asked, "--yes").well()

    machine.being(role).does_here(*login_in(done.output)).well()

    assert machine.workspace() == "Acme"


@BOTH
def test_run_twice_the_second_changes_nothing(
    sandbox: Sandbox, laptop: Machine, role: str, asked: tuple[str, ...]
) -> None:
    laptop.does_here("setup", "to-namespace", *asked, "--yes").well()
    before = state_of(sandbox, role)

    laptop.does_here("setup", "to-namespace", *asked, "--dry-run").well()
    laptop.does_here("setup", "to-namespace", *asked, "--yes").well()

    assert state_of(sandbox, role) == before


@BOTH
def test_a_dry_run_finds_something_to_do_and_does_nothing(
    sandbox: Sandbox, laptop: Machine, role: str, asked: tuple[str, ...]
) -> None:
    before = state_of(sandbox, role)

    shown = laptop.does_here("setup", "to-namespace", *asked, "--dry-run")

    assert shown.code == 3
    assert state_of(sandbox, role) == before


@BOTH
def test_without_a_terminal_and_without_yes_nothing_is_changed(
    sandbox: Sandbox, laptop: Machine, role: str, asked: tuple[str, ...]
) -> None:
    before = state_of(sandbox, role)

    complaint = laptop.does_here("setup", "to-namespace", *asked).complaint()

    assert "--yes" in complaint
    assert state_of(sandbox, role) == before


@BOTH
def test_what_was_made_is_shown_and_taken_back(
    sandbox: Sandbox, laptop: Machine, role: str, asked: tuple[str, ...]
) -> None:
    laptop.does_here("setup", "to-namespace", *asked, "--yes").well()

    shown = laptop.does_here("setup", "show", "to-namespace", *asked).well()
    laptop.does_here("setup", "remove", "to-namespace", *asked, "--yes").well()
    gone = laptop.does_here("setup", "show", "to-namespace", *asked)

    assert "would be admitted" in shown.output
    assert gone.code == 1
    assert sandbox.aws.policies_of(role) == {}
    assert sandbox.aws.identity_pools() == ()
    assert sandbox.namespace.trust_relationships() == ()


@BOTH
def test_what_fails_half_way_is_finished_by_the_same_command(
    sandbox: Sandbox, laptop: Machine, role: str, asked: tuple[str, ...]
) -> None:
    sandbox.fail("PutRolePolicy", code="LimitExceeded", status=409, count=1)

    failed = laptop.does_here("setup", "to-namespace", *asked, "--yes")
    laptop.does_here("setup", "to-namespace", *asked, "--yes").well()

    assert failed.code == 1
    assert re.search(r"(?m)^done +create", failed.output)
    assert re.search(r"(?m)^not done +create", failed.output)


# `aws iam enable-outbound-web-identity-federation`, note `IssuerIdentifier`.


def test_the_switch_is_put_on_once_and_never_off(
    sandbox: Sandbox, laptop: Machine, role: str
) -> None:
    laptop.does_here("setup", "to-namespace", *BY_STS, "--yes").well()
    laptop.does_here("setup", "remove", "to-namespace", *BY_STS, "--yes").well()
    shown = laptop.does_here("setup", "show", "to-namespace", *BY_STS)

    assert sandbox.aws.enable_outbound_federation() in shown.output
    assert len(sandbox.aws.calls_of("EnableOutboundWebIdentityFederation")) == 1
    assert not sandbox.aws.calls_of("DisableOutboundWebIdentityFederation")


# `aws iam put-role-policy --policy-name allow-get-web-identity-token`; `nsc auth
# trust-relationships add --issuer I --subject-match "arn:aws:iam::A:role/R"`.


def test_what_was_made_by_hand_by_the_guide_is_kept(sandbox: Sandbox, laptop: Machine) -> None:
    role = sandbox.guide_by_sts(path="/ci/")
    before = state_of(sandbox, role)

    done = laptop.does_here("setup", "to-namespace", *BY_STS, "--dry-run").well()

    assert len(re.findall(r"(?m)^keep ", done.output)) == 3
    assert state_of(sandbox, role) == before


def test_the_guides_plain_policy_is_put_where_it_is_asked_for(
    sandbox: Sandbox, laptop: Machine, role: str
) -> None:
    laptop.does_here("setup", "to-namespace", *BY_STS, "--unconditional", "--yes").well()

    (policy,) = sandbox.aws.policies_of(role).values()
    assert policy["Statement"] == [
        {"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
    ]


def test_any_role_of_the_account_is_trusted_when_asked_for_in_so_many_words(
    sandbox: Sandbox, laptop: Machine, role: str
) -> None:
    pattern = f"arn:aws:iam::{ACCOUNT}:role/*"

    laptop.does_here("setup", "to-namespace", *BY_STS, "--subject-match", pattern, "--yes").well()

    (relationship,) = sandbox.namespace.trust_relationships()
    assert relationship["subject_match"] == pattern


def test_grants_and_duration_reach_the_workspace_and_the_token(
    sandbox: Sandbox, laptop: Machine, machine: Machine, role: str
) -> None:
    grant = {"resource_type": "tenant", "resource_id": "*", "actions": ["get"]}
    flags = ("--grant", json.dumps(grant), "--token-duration", "1800s")

    done = laptop.does_here("setup", "to-namespace", *BY_STS, *flags, "--yes").well()

    (relationship,) = sandbox.namespace.trust_relationships()
    assert relationship["default_permissions"] == [grant]
    assert relationship["default_token_duration"] == "1800s"
    assert "full access" not in done.output


def test_without_grants_the_plan_says_that_this_is_full_access(laptop: Machine, role: str) -> None:
    shown = laptop.does_here("setup", "to-namespace", *BY_STS, "--dry-run")

    assert "full access to the workspace" in shown.output


def test_other_trust_relationships_come_back_as_they_were(
    sandbox: Sandbox, laptop: Machine, role: str
) -> None:
    sandbox.namespace.trust(issuer="https://other.example", subject_match="x", newer={"a": [1]})
    (before,) = sandbox.namespace.trust_relationships()

    laptop.does_here("setup", "to-namespace", *BY_STS, "--yes").well()

    first, _ = sandbox.namespace.trust_relationships()
    assert json.dumps(first) == json.dumps(before)


# Create a Cognito identity pool …; the pool id is `{region}:{guid}`.


def test_the_plan_says_that_the_pools_role_is_not_needed(laptop: Machine, role: str) -> None:
    shown = laptop.does_here("setup", "to-namespace", *BY_COGNITO, "--dry-run")

    assert "none is used" in shown.output


@pytest.mark.parametrize("form", ["{guid}", "{region}:{guid}"])
def test_a_pool_that_was_made_by_hand_is_taken_by_its_id(
    sandbox: Sandbox, laptop: Machine, role: str, form: str
) -> None:
    sandbox.aws.add_identity_pool("another", region="eu-central-1")
    pool_id = sandbox.aws.add_identity_pool("by hand", region="eu-central-1")
    region, _, guid = pool_id.partition(":")
    pool = ("--identity-pool", form.format(region=region, guid=guid), "--region", region)

    laptop.does_here("setup", "to-namespace", *BY_COGNITO, *pool, "--yes").well()

    assert len(sandbox.aws.identity_pools()) == 2
    assert sandbox.namespace.trusted_pools() == {(pool_id, "namespace.so")}


# Copy the workspace id from the dashboard.


def test_the_workspace_is_asked_for_where_no_identity_tells_it(
    sandbox: Sandbox, of_aws_alone: Machine, role: str
) -> None:
    before = state_of(sandbox, role)

    complaint = of_aws_alone.does_here("setup", "to-namespace", *BY_STS, "--yes").complaint(2)

    assert "--workspace" in complaint
    assert state_of(sandbox, role) == before


@BOTH
def test_without_the_right_at_namespace_awss_side_is_done_and_the_line_to_run_is_told(
    sandbox: Sandbox, of_aws_alone: Machine, role: str, asked: tuple[str, ...]
) -> None:
    words = ("setup", "to-namespace", *asked, "--workspace", "ws_1")

    shown = of_aws_alone.does_here(*words, "--dry-run")
    failed = of_aws_alone.does_here(*words, "--yes")

    assert "by hand: nsc auth trust-" in shown.output
    assert "`nsc auth trust-" in failed.complaint()
    assert sandbox.aws.policies_of(role)
    assert re.search(r"(?m)^not done +create +trust", failed.output)


@BOTH
def test_without_the_right_at_namespace_nobody_can_tell_and_awss_side_is_taken_back(
    sandbox: Sandbox, of_aws_alone: Machine, role: str, asked: tuple[str, ...]
) -> None:
    words = (*asked, "--workspace", "ws_1")
    of_aws_alone.does_here("setup", "to-namespace", *words, "--yes")

    shown = of_aws_alone.does_here("setup", "show", "to-namespace", *words)
    of_aws_alone.does_here("setup", "remove", "to-namespace", *words, "--yes").well()

    assert shown.code == 1
    assert "not known to be admitted" in shown.output
    assert sandbox.aws.policies_of(role) == {}


@BOTH
def test_once_the_line_was_run_by_somebody_else_the_same_command_finds_nothing_to_do(
    sandbox: Sandbox, of_aws_alone: Machine, role: str, asked: tuple[str, ...]
) -> None:
    words = ("setup", "to-namespace", *asked, "--workspace", "ws_1", "--yes")
    of_aws_alone.does_here(*words)
    for pool in sandbox.aws.identity_pools():
        sandbox.namespace.trust_pool(pool.pool_id)
    sandbox.namespace.trust(issuer=sandbox.aws.enable_outbound_federation(), subject_match=role)

    done = of_aws_alone.does_here(*words).well()

    assert "Proven" in done.output


# The proof, where this machine's identity may not become the role.


@BOTH
def test_where_the_role_lets_nobody_in_both_sides_are_read_back_and_the_login_line_is_told(
    sandbox: Sandbox, laptop: Machine, machine: Machine, asked: tuple[str, ...]
) -> None:
    role = sandbox.aws.add_role("builder", trust_policy=EC2_TRUST_POLICY)

    done = laptop.does_here("setup", "to-namespace", *asked, "--yes").well()
    machine.being(role).does_here(*login_in(done.output)).well()

    assert "Not proven" in done.output
    assert machine.workspace() == "Acme"


def test_as_the_role_itself_it_is_proven_without_becoming_anybody(
    sandbox: Sandbox, machine: Machine
) -> None:
    administrator = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    role = sandbox.aws.add_role(
        "builder",
        trust_policy=EC2_TRUST_POLICY,
        policies={"all": {"Version": "2012-10-17", "Statement": [administrator]}},
    )
    login = sandbox.namespace.inline_token_spec(sandbox.namespace.tenant_token())

    done = (
        machine.being(role)
        .having(NSC_TOKEN_SPEC=login)
        .does_here("setup", "to-namespace", *BY_STS, "--yes")
    )

    assert "Proven" in done.well().output
    assert not sandbox.aws.calls_of("AssumeRole")


def test_no_verify_signs_in_nowhere(sandbox: Sandbox, laptop: Machine, role: str) -> None:
    done = laptop.does_here("setup", "to-namespace", *BY_STS, "--yes", "--no-verify").well()

    assert "roven" not in done.output
    assert not sandbox.namespace.calls_of("ExchangeOIDCToken")


def test_a_role_that_is_denied_by_another_policy_is_told_so(
    sandbox: Sandbox, laptop: Machine
) -> None:
    denial = {"Effect": "Deny", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
    sandbox.aws.add_role(
        "builder",
        trust_policy=EC2_TRUST_POLICY,
        policies={"never": {"Version": "2012-10-17", "Statement": [denial]}},
    )

    failed = laptop.does_here("setup", "to-namespace", *BY_STS, "--yes")

    assert "never statement 1 denies it" in failed.complaint()


@BOTH
@pytest.mark.parametrize("code", ["AccessDenied", "LimitExceeded"])
def test_whichever_step_is_refused_the_same_command_finishes_it(
    sandbox: Sandbox, laptop: Machine, role: str, asked: tuple[str, ...], code: str
) -> None:
    first = "CreateIdentityPool" if asked == BY_COGNITO else "EnableOutboundWebIdentityFederation"
    last = "TrustAWSCognitoIdentityPool" if asked == BY_COGNITO else "UpdateTrustRelationships"
    words = ("setup", "to-namespace", *asked, "--yes")
    undone = []

    for operation in (first, "PutRolePolicy"):
        sandbox.fail(operation, status=403, code=code, count=1)
        undone.append(laptop.does_here(*words).output.count("not done"))
    sandbox.fail(last, status=403, code="permission_denied", count=1)
    undone.append(laptop.does_here(*words).output.count("not done"))
    done = laptop.does_here(*words).well()

    assert undone == [3, 2, 1]
    assert "Proven" in done.output
    assert len(sandbox.aws.identity_pools()) == (1 if asked == BY_COGNITO else 0)


def test_a_statement_of_others_in_the_policy_of_our_name_stays_there(
    sandbox: Sandbox, laptop: Machine
) -> None:
    theirs = {"Sid": "Theirs", "Effect": "Allow", "Action": "sts:TagSession", "Resource": "*"}
    stood = {"Version": "2012-10-17", "Statement": theirs}
    role = sandbox.aws.add_role(
        "builder",
        trust_policy=LETS_THE_ACCOUNT_IN,
        policies={"allow-get-web-identity-token": stood},
    )

    laptop.does_here("setup", "to-namespace", *BY_STS, "--yes").well()
    merged = sandbox.aws.policies_of(role)["allow-get-web-identity-token"]["Statement"]
    laptop.does_here("setup", "remove", "to-namespace", *BY_STS, "--yes").well()
    left = sandbox.aws.policies_of(role)["allow-get-web-identity-token"]["Statement"]

    assert isinstance(merged, list)
    assert merged[0] == theirs
    assert len(merged) == 2
    assert left == [theirs]


def test_what_a_role_that_is_denied_failed_by_is_told_as_json_too(
    sandbox: Sandbox, laptop: Machine
) -> None:
    denial = {"Effect": "Deny", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
    sandbox.aws.add_role(
        "builder",
        trust_policy=EC2_TRUST_POLICY,
        policies={"never": {"Version": "2012-10-17", "Statement": [denial]}},
    )

    failed = laptop.does_here("setup", "to-namespace", *BY_STS, "--yes", "--json")

    assert "denies it" in failed.complaint()
    assert all(step["done"] for step in json.loads(failed.output)["steps"])
    assert json.loads(failed.output)["proof"] is None


@pytest.mark.parametrize(("partition", "region"), PARTITIONS)
@BOTH
def test_in_another_partition_every_arn_is_of_that(
    machine: Machine, partition: str, region: str, asked: tuple[str, ...]
) -> None:
    with sandbox_in_thread(empty=True, partition=partition, region=region) as world:
        lets_in = json.loads(
            json.dumps(LETS_THE_ACCOUNT_IN).replace("arn:aws:", f"arn:{partition}:")
        )
        role = world.aws.add_role("builder", trust_policy=lets_in)
        login = world.namespace.inline_token_spec(world.namespace.tenant_token())
        clouds = world.environment() | world.administrator_environment()
        there = machine.having(**clouds, NSC_TOKEN_SPEC=login)

        done = there.does_here("setup", "to-namespace", *asked, "--yes").well()

        assert role.startswith(f"arn:{partition}:")
        assert f"Proven: {role} signed in" in done.output
        assert "arn:aws:" not in json.dumps(world.aws.policies_of(role))


# What is no good is told before anything is touched.


def test_an_issuer_that_is_not_the_accounts_is_not_trusted(
    sandbox: Sandbox, laptop: Machine, role: str
) -> None:
    words = ("setup", "to-namespace", *BY_STS, "--yes", "--issuer")

    off = laptop.does_here(*words, "https://x.example").complaint(2)
    issuer = sandbox.aws.enable_outbound_federation()
    another = laptop.does_here(*words, "https://x.example").complaint(2)
    laptop.does_here(*words, issuer).well()

    assert "the account has none before federation is on; leave it out" in off
    assert f"--issuer: is https://x.example, and the account has {issuer}" in another
    assert [one["issuer"] for one in sandbox.namespace.trust_relationships()] == [issuer]


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "arn:aws:iam::*:role/*",
        "arn:aws:iam::123456789012:*",
        "arn:aws:iam::123456789012:role*",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:*:iam::123456789012:role/*",
    ],
)
def test_a_pattern_wider_than_the_roles_of_one_account_is_refused(
    sandbox: Sandbox, laptop: Machine, pattern: str
) -> None:
    words = ("setup", "to-namespace", *BY_STS, "--subject-match", pattern, "--yes")

    assert "--subject-match" in laptop.does_here(*words).complaint(2)
    assert not sandbox.aws.calls


def test_show_names_a_role_that_is_not_there(laptop: Machine) -> None:
    shown = laptop.does_here("setup", "show", "to-namespace", *BY_STS)

    assert shown.code == 1
    assert re.search(r"(?m)^NO +the account has the role: there is no role builder", shown.output)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--role-name", f"arn:aws:iam::{ACCOUNT}:oidc-provider/x"), "identity provider"),
        (("--role-name", "no/name"), "--role-name"),
        (("--role-name", "builder", "--workspace", "w/*"), "--workspace"),
        (("--role-name", "builder", "--issuer", "https://x.example/"), "slash"),
        (("--role-name", "builder", "--issuer", "https://x.example:443"), "port"),
        (("--role-name", "builder", "--grant", "full"), "--grant"),
        (("--role-name", "builder", "--token-duration", "1800"), "--token-duration"),
        (("--role-name", "builder", "--identity-pool", "x"), "--identity-pool"),
    ],
)
def test_bad_input_is_named_and_nothing_is_asked(
    sandbox: Sandbox, laptop: Machine, words: tuple[str, ...], told: str
) -> None:
    complaint = laptop.does_here(
        "setup", "to-namespace", "--via", "sts", *words, "--yes"
    ).complaint(2)

    assert told in complaint
    assert not sandbox.aws.calls
    assert not sandbox.namespace.calls


def test_a_role_that_is_not_there_is_named_and_nothing_is_touched(
    sandbox: Sandbox, laptop: Machine
) -> None:
    complaint = laptop.does_here("setup", "to-namespace", *BY_STS, "--yes").complaint()

    assert "no role builder" in complaint
    assert not sandbox.aws.calls_of("EnableOutboundWebIdentityFederation")
