"""The guide's second table, step by step: AWS workloads reach Namespace, by STS web identity.

Setting up has commands of its own; here its result stands, and has to admit the login.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt

from broker.sandbox import Sandbox
from broker.sandbox.aws.server import WEB_IDENTITY_POLICY_NAME
from tests.support.broker_process import until
from tests.support.credentials_endpoint import CONTAINER, credentials_endpoint
from tests.support.guide_machine import Machine
from tests.support.nsc_claims import claims_of
from tests.support.workload import workload_by, workspace_of

AUDIENCE = "https://federation.namespaceapis.com"
LOGIN = ("login", "--via", "sts", "--workspace", "ws_1")


def presented(sandbox: Sandbox) -> tuple[dict[str, object], dict[str, object]]:
    """Return header and claims of the token that was last exchanged."""
    token = sandbox.namespace.calls_of("ExchangeOIDCToken")[-1].params["oidc_token"]
    assert isinstance(token, str)
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.get_unverified_header(token), claims


def distrust_all(sandbox: Sandbox) -> None:
    for relationship in sandbox.namespace.trust_relationships():
        sandbox.namespace.distrust(str(relationship["id"]))


# `aws iam enable-outbound-web-identity-federation`, note `IssuerIdentifier`.


def test_an_account_that_issues_no_tokens_yet_is_told_what_switches_it_on(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()
    sandbox.aws.disable_outbound_federation()

    complaint = machine.being(role_arn).does(*LOGIN).complaint()

    assert "aws iam enable-outbound-web-identity-federation" in complaint
    assert "namespace-broker setup to-namespace --via sts" in complaint


def test_an_account_that_issues_tokens_signs_by_the_issuer_that_was_noted(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()

    machine.being(role_arn).does(*LOGIN).well()

    _, claims = presented(sandbox)
    assert claims["iss"] == sandbox.aws.enable_outbound_federation()
    assert machine.workspace() == "Acme"


# `aws iam put-role-policy --policy-name allow-get-web-identity-token` with Allow
# `sts:GetWebIdentityToken` on `*`.


def test_a_role_may_have_tokens_by_the_policy_allow_get_web_identity_token_and_not_without(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()
    assert WEB_IDENTITY_POLICY_NAME == "allow-get-web-identity-token"
    sandbox.aws.remove_policy(role_arn, WEB_IDENTITY_POLICY_NAME)

    complaint = machine.being(role_arn).does(*LOGIN).complaint()
    sandbox.aws.allow_web_identity_tokens(role_arn)
    machine.being(role_arn).does(*LOGIN).well()

    assert "sts:GetWebIdentityToken" in complaint
    assert AUDIENCE in complaint
    assert machine.workspace() == "Acme"


# `nsc auth trust-relationships add --issuer I --subject-match "arn:aws:iam::A:role/R"`; `role/*`
# for any role of the account.


def test_a_role_that_is_not_trusted_is_told_the_relationship_that_would_admit_it(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()
    distrust_all(sandbox)

    complaint = machine.being(role_arn).does(*LOGIN).complaint()

    issuer = sandbox.aws.enable_outbound_federation()
    assert f"iss='{issuer}' sub='{role_arn}' aud='{AUDIENCE}'" in complaint
    assert f'--issuer "{issuer}" --subject-match "{role_arn}"' in complaint
    assert not machine.login.exists()


def test_one_role_that_is_trusted_admits_no_other(sandbox: Sandbox, machine: Machine) -> None:
    trusted = sandbox.guide_by_sts("trusted")
    other = sandbox.guide_by_sts("other")
    distrust_all(sandbox)
    sandbox.namespace.trust(issuer=sandbox.aws.enable_outbound_federation(), subject_match=trusted)

    machine.being(other).does(*LOGIN).complaint()
    machine.being(trusted).does(*LOGIN).well()


def test_role_star_admits_any_role_of_the_account(sandbox: Sandbox, machine: Machine) -> None:
    roles = [sandbox.guide_by_sts("one"), sandbox.guide_by_sts("two", path="/team/")]
    distrust_all(sandbox)
    sandbox.namespace.trust(
        issuer=sandbox.aws.enable_outbound_federation(),
        subject_match="arn:aws:iam::123456789012:role/*",
    )

    for role_arn in roles:
        machine.being(role_arn).does(*LOGIN, "--ensure", "0").well()
        assert presented(sandbox)[1]["sub"] == role_arn


def test_a_token_lasts_as_long_as_its_relationship_says(sandbox: Sandbox, machine: Machine) -> None:
    role_arn = sandbox.guide_by_sts()
    distrust_all(sandbox)
    issuer = sandbox.aws.enable_outbound_federation()
    sandbox.namespace.trust(issuer=issuer, subject_match=role_arn, default_token_duration="1800s")

    machine.being(role_arn).does(*LOGIN).well()

    ends_at = claims_of(machine.nsc().bearer()).expires_at
    assert ends_at is not None
    assert timedelta(minutes=28) < ends_at - datetime.now(UTC) <= timedelta(minutes=30)


# `aws sts get-web-identity-token --audience https://federation.namespaceapis.com
# --signing-algorithm ES384 --region us-east-1`: audience and algorithm required, ES384 recommended,
# RS256 accepted, a regional endpoint only.


def test_the_token_is_asked_for_as_the_guide_asks(sandbox: Sandbox, machine: Machine) -> None:
    role_arn = sandbox.guide_by_sts()

    machine.being(role_arn).does(*LOGIN, "--region", "us-east-1").well()

    (asked,) = sandbox.aws.calls_of("GetWebIdentityToken")
    header, claims = presented(sandbox)
    assert asked.params["SigningAlgorithm"] == "ES384" == header["alg"]
    assert claims["aud"] in (AUDIENCE, [AUDIENCE])
    assert claims["sub"] == role_arn
    assert "/us-east-1/sts/aws4_request" in asked.headers["Authorization"]


def test_rs256_is_accepted(sandbox: Sandbox, machine: Machine) -> None:
    role_arn = sandbox.guide_by_sts()

    machine.being(role_arn).does(*LOGIN, "--algorithm", "RS256").well()

    assert presented(sandbox)[0]["alg"] == "RS256"
    assert machine.workspace() == "Acme"


def test_the_global_endpoint_is_refused_by_the_name_of_what_led_there(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()
    workload = machine.being(role_arn).having(
        AWS_ENDPOINT_URL_STS="https://sts.amazonaws.com",
        HTTPS_PROXY="http://127.0.0.1:9",  # nobody is there, should anything be sent
    )

    complaint = workload.does(*LOGIN).complaint()

    assert "AWS_ENDPOINT_URL_STS leads to https://sts.amazonaws.com" in complaint
    assert "regional" in complaint


# `nsc auth exchange-oidc-token --token "$TOKEN"` (no workspace named).


def test_without_a_workspace_the_field_is_left_out_on_the_wire_with_one_warning(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()

    done = machine.being(role_arn).does("login", "--via", "sts").well()

    (exchanged,) = sandbox.namespace.calls_of("ExchangeOIDCToken")
    assert "tenant_id" not in exchanged.params
    assert not exchanged.authorization_present
    assert done.errors.count("namespace-broker: warning: ") == 1
    assert "--workspace" in done.errors
    assert "Acme" in done.output
    assert machine.workspace() == "Acme"


def test_with_a_workspace_it_is_named_on_the_wire_without_a_warning(
    sandbox: Sandbox, machine: Machine
) -> None:
    role_arn = sandbox.guide_by_sts()

    done = machine.being(role_arn).does(*LOGIN).well()

    (exchanged,) = sandbox.namespace.calls_of("ExchangeOIDCToken")
    assert exchanged.params["tenant_id"] == "ws_1"
    assert "warning" not in done.errors


# "Any AWS workload with an IAM role (EC2, Lambda, ECS, …)", credentials from instance metadata, no
# set-up on the instance.


def test_on_ec2_the_role_comes_from_instance_metadata(sandbox: Sandbox, machine: Machine) -> None:
    keys = sandbox.aws.role_session(sandbox.guide_by_sts())

    with credentials_endpoint(keys) as url:
        instance = machine.having(
            AWS_EC2_METADATA_DISABLED="false",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=url,
            AWS_REGION="us-east-1",
        )
        instance.does(*LOGIN).well()

    assert sandbox.aws.verified_identities[-1].access_key_id == keys.access_key_id
    assert machine.workspace() == "Acme"


def test_on_ecs_the_role_comes_from_the_container_endpoint(
    sandbox: Sandbox, machine: Machine
) -> None:
    keys = sandbox.aws.role_session(sandbox.guide_by_sts())

    with credentials_endpoint(keys) as url:
        task = machine.having(
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}{CONTAINER}", AWS_REGION="us-east-1"
        )
        task.does(*LOGIN).well()

    assert sandbox.aws.verified_identities[-1].access_key_id == keys.access_key_id
    assert machine.workspace() == "Acme"


def test_on_lambda_where_no_daemon_can_live_login_writes_where_it_is_told(
    sandbox: Sandbox, machine: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "token.json"
    function = machine.being(sandbox.guide_by_sts()).having(HOME="/nowhere", TMPDIR=str(tmp_path))

    done = function.does(*LOGIN, "--output", str(file)).well()

    assert "Acme" in done.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert not machine.login.exists()


def test_the_source_sts_keeps_us_signed_in_for_as_long_as_the_daemon_lives(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.namespace.choices.exchanged_lifetime_s = 6
    workload = workload_by(sandbox, tmp_path, source="sts")
    keys = sandbox.aws.role_session(workload.arn)

    with credentials_endpoint(keys) as url:
        instance = {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": url,
            "AWS_REGION": "us-east-1",
        }
        with workload.broker(environ=instance) as broker:
            broker.wait_for("daemon.ready")
            sandbox.namespace.choices.exchanged_lifetime_s = 3600
            first = workload.by_sdk()
            broker.wait_for("lease.renewed")
            until(lambda: workload.by_sdk() != first, what="another token in the file")

            assert workspace_of(sandbox, workload.by_sdk()) == "Acme"
