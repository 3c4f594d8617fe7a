"""The guide's first table, step by step: AWS workloads reach Namespace, by Cognito.

Setting up has commands of its own; here its result stands, and has to admit the login.
"""

from pathlib import Path

import pytest

from broker.sandbox import Sandbox
from tests.support.broker_process import until
from tests.support.guide_machine import Machine
from tests.support.namespace_sdk import load_defaults
from tests.support.workload import workload_by, workspace_of

REGION = "eu-central-1"


def exchange(region: str, pool: str, tenant_id: str = "ws_1") -> tuple[str, ...]:
    """Return the flags of `nsc auth exchange-aws-cognito-token`, after ours."""
    flags = ("--aws_region", region, "--identity_pool", pool, "--tenant_id", tenant_id)
    return ("login", "--via", "cognito", *flags)


def guid_of(pool_id: str) -> str:
    return pool_id.partition(":")[2]


# Create a Cognito identity pool: authenticated access, custom developer provider named
# `namespace.so`, any pool name; AWS asks for an IAM role, minimal permissions are enough.


def test_an_identity_pool_of_any_name_with_the_provider_namespace_so_is_enough(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn, _ = sandbox.guide_by_cognito()
    pool_id = sandbox.aws.add_identity_pool("any pool name", region=REGION)
    sandbox.aws.allow_developer_tokens(role_arn, pool_id)
    sandbox.namespace.trust_pool(pool_id)

    machine.being(role_arn).does(*exchange(REGION, guid_of(pool_id))).well()

    assert machine.workspace() == "Acme"


def test_an_identity_pool_without_that_provider_is_told_to_need_it(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn, _ = sandbox.guide_by_cognito()
    pool_id = sandbox.aws.add_identity_pool(developer_provider="example.com", region=REGION)
    sandbox.aws.allow_developer_tokens(role_arn, pool_id)

    refused = machine.being(role_arn).does(*exchange(REGION, guid_of(pool_id)))

    assert pool_id in refused.complaint()
    assert "namespace.so" in refused.complaint()


# The pool id is `{region}:{guid}`; later commands take the bare guid.


@pytest.mark.parametrize("form", ["{guid}", "{region}:{guid}"])
def test_the_pool_id_is_taken_bare_and_with_its_region_by_a_command(
    sandbox: Sandbox, machine: Machine, form: str
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)
    pool = form.format(region=REGION, guid=guid_of(pool_id))

    machine.being(role_arn).does(*exchange(REGION, pool)).well()

    assert machine.workspace() == "Acme"


@pytest.mark.parametrize("form", ["{guid}", "{region}:{guid}"])
def test_the_pool_id_is_taken_bare_and_with_its_region_by_the_configuration(
    sandbox: Sandbox, machine: Machine, form: str
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)
    config = machine.home / "config.toml"
    config.write_text(
        f"""
[identities.pool]
source = "cognito"
workspace = "ws_1"
region = "{REGION}"
identity_pool = "{form.format(region=REGION, guid=guid_of(pool_id))}"

[namespace_tokens.pool]
http = true
"""
    )

    shown = machine.being(role_arn).does("token", "--show", "--config", str(config)).well()

    assert workspace_of(sandbox, shown.output.strip()) == "Acme"


# Copy the workspace id from the dashboard.


@pytest.mark.parametrize("flag", ["--workspace", "--tenant_id"])
def test_the_workspace_id_from_the_dashboard_is_whom_the_pool_vouches_for(
    sandbox: Sandbox, machine: Machine, flag: str
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)
    words = ("login", "--via", "cognito", "--identity_pool", pool_id)

    machine.being(role_arn).does(*words, flag, "ws_1").well()

    (issued,) = sandbox.aws.calls_of("GetOpenIdTokenForDeveloperIdentity")
    (exchanged,) = sandbox.namespace.calls_of("ExchangeAWSCognitoJWT")
    assert issued.params["Logins"] == {"namespace.so": "ws_1"}
    assert exchanged.params["tenant_id"] == "ws_1"
    assert not exchanged.authorization_present


def test_without_a_workspace_id_there_is_nobody_to_vouch_for(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)

    refused = machine.being(role_arn).does("login", "--via", "cognito", "--identity_pool", pool_id)

    assert "--workspace" in refused.complaint(2)


# `nsc auth trust-aws-cognito-identity-pool --aws_region R --identity_pool G --tenant_id W`.


def test_a_pool_is_admitted_once_it_is_trusted_and_the_refusal_before_says_how(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)
    sandbox.namespace.distrust_pool(pool_id)
    words = exchange(REGION, guid_of(pool_id))

    complaint = machine.being(role_arn).does(*words).complaint()
    sandbox.namespace.trust_pool(pool_id)
    machine.being(role_arn).does(*words).well()

    trust = f"--aws_region {REGION} --identity_pool {guid_of(pool_id)} --tenant_id"
    assert f"nsc auth trust-aws-cognito-identity-pool {trust}" in complaint
    assert "iss='https://cognito-identity.amazonaws.com'" in complaint
    assert f"aud='{pool_id}'" in complaint


# `nsc auth exchange-aws-cognito-token --aws_region R --identity_pool G --tenant_id W`.


def test_it_succeeds_with_the_name_of_the_workspace_you_have_signed_in_to(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)

    done = machine.being(role_arn).does(*exchange(REGION, guid_of(pool_id))).well()

    assert "Acme" in done.output
    assert "ws_1" in done.output


def test_it_stores_a_short_lived_token_that_is_used_automatically_in_subsequent_calls(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)

    machine.being(role_arn).does(*exchange(REGION, guid_of(pool_id))).well()

    assert machine.workspace() == "Acme"
    assert machine.nsc().bearer() == load_defaults(
        {}, config=machine.login.parent, metadata_dir=machine.home
    )
    assert machine.login.stat().st_mode & 0o777 == 0o600


def test_a_profile_is_for_testing_locally(sandbox: Sandbox, machine: Machine) -> None:
    role_arn, pool_id = sandbox.guide_by_cognito(region=REGION)
    keys = sandbox.aws.role_session(role_arn)
    machine.profile("laptop", keys)

    words = exchange(REGION, guid_of(pool_id))
    machine.does(*words, "--aws_profile", "laptop").well()

    assert sandbox.aws.verified_identities[-1].access_key_id == keys.access_key_id
    assert machine.workspace() == "Acme"


def test_the_source_cognito_keeps_us_signed_in_for_as_long_as_the_daemon_lives(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.namespace.choices.exchanged_lifetime_s = 6
    workload = workload_by(sandbox, tmp_path, source="cognito")

    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        sandbox.namespace.choices.exchanged_lifetime_s = 3600
        first = workload.by_sdk()
        broker.wait_for("lease.renewed")
        until(lambda: workload.by_sdk() != first, what="another token in the file")

        assert workspace_of(sandbox, workload.by_sdk()) == "Acme"
