"""Both directions in one daemon.

AWS and Namespace identities side by side, each with roles of its own, and the whole circle from a
role of one account into another.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.sandbox import guide_trust_policy
from tests.support.broker_process import ANYWHERE
from tests.support.clients import BOTO3, Client
from tests.support.workload import Workload, workload_by, workspace_of

HERE, ELSEWHERE = "123456789012", "210987654321"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """An AWS workload by both ways, on a machine of Namespace's.

    A role admits each identity and no other.
    """

    workload: Workload
    config: str = field(repr=False)

    def arn_seen_by_aws(self, client: Client, told: Mapping[str, str]) -> str:
        """Let *client* ask AWS who it is, and return what AWS verified."""
        sandbox = self.workload.sandbox
        own = {"PATH": os.environ["PATH"], "HOME": str(self.workload.folder)}
        ran = client.run({**own, **sandbox.client_environment(), **told})
        assert ran.code == 0, ran.errors
        verified = sandbox.aws.verified_identities[-1]
        assert verified.arn == ran.output.strip()
        return verified.arn

    def told(self, *flags: str) -> Mapping[str, str]:
        variables: dict[str, str] = json.loads(
            self.workload.command("env", "--for", "json", *flags)
        )
        return variables


@pytest.fixture
def circle(sandbox: Sandbox, tmp_path: Path) -> Circle:
    by_sts = workload_by(sandbox, tmp_path, source="sts")
    by_cognito = workload_by(sandbox, tmp_path, source="cognito")
    ((pool_id, _),) = sandbox.namespace.trusted_pools()
    far = role_elsewhere(sandbox, "far", subject="ws_1/tr_*")
    pool = role_elsewhere(sandbox, "pool", subject=f"ws_1/{pool_id.partition(':')[2]}")
    near = sandbox.aws.add_role("near", trust_policy=sandbox.guide_trust(subject="ws_1/i-abc"))
    config = f"""
[identities.aws]
{by_sts.identity}

[identities.pool]
{by_cognito.identity}

[identities.machine]
source = "token-spec"
path = "{tmp_path / "token.spec"}"

[roles.far]
arn = "{far}"
identity = "aws"

[roles.pool]
arn = "{pool}"
identity = "pool"

[roles.near]
arn = "{near}"
identity = "machine"

[namespace_tokens.aws]
file = "{by_sts.file}"
http = true

[imds]
listen = ["{ANYWHERE}"]
"""
    (tmp_path / "token.spec").write_text(sandbox.namespace.token_spec())
    return Circle(workload=by_sts, config=config)


def role_elsewhere(sandbox: Sandbox, name: str, *, subject: str) -> str:
    """Make a role in another account, which has the guide's provider, and return its ARN."""
    namespace = sandbox.namespace
    sandbox.aws.add_provider(
        namespace.issuer,
        client_ids=("sts.amazonaws.com",),
        resolve_at=namespace.url,
        account=ELSEWHERE,
    )
    policy = guide_trust_policy(workspace="ws_1", account=ELSEWHERE, subject=subject)
    return sandbox.aws.add_role(name, trust_policy=policy, account=ELSEWHERE)


def test_a_role_of_one_account_becomes_a_role_of_another_on_both_surfaces(circle: Circle) -> None:
    with circle.workload.broker(config=circle.config) as broker:
        broker.wait_for("daemon.ready")
        by_imds = circle.arn_seen_by_aws(BOTO3, circle.told("--surface", "imds"))
        by_container = circle.arn_seen_by_aws(BOTO3, circle.told("--surface", "container"))

    assert by_imds == by_container
    assert by_imds.startswith(f"arn:aws:sts::{ELSEWHERE}:assumed-role/far/")
    assert circle.workload.arn.startswith(f"arn:aws:iam::{HERE}:role/")


def test_each_role_is_had_by_the_identity_that_it_names(circle: Circle) -> None:
    with circle.workload.broker(config=circle.config) as broker:
        broker.wait_for("daemon.ready")
        assert broker.ready()["ready"] is True
        seen = {
            role: circle.arn_seen_by_aws(BOTO3, circle.told("--role", role))
            for role in ("far", "pool", "near")
        }
        handed_on = circle.workload.by_file().bearer()

    assert [arn.rpartition("/")[0] for arn in seen.values()] == [
        f"arn:aws:sts::{ELSEWHERE}:assumed-role/far",
        f"arn:aws:sts::{ELSEWHERE}:assumed-role/pool",
        f"arn:aws:sts::{HERE}:assumed-role/near",
    ]
    assert workspace_of(circle.workload.sandbox, handed_on) == "Acme"


def test_a_role_whose_identity_is_refused_takes_no_other_down(
    sandbox: Sandbox, circle: Circle
) -> None:
    (relationship,) = sandbox.namespace.trust_relationships()
    sandbox.namespace.distrust(str(relationship["id"]))

    with circle.workload.broker(config=circle.config) as broker:
        broker.wait_for("daemon.ready")
        states = {lease["name"]: lease["state"] for lease in broker.ready()["leases"]}
        near = circle.arn_seen_by_aws(BOTO3, circle.told("--role", "near"))

    assert states == {
        "identity/aws": "refused",
        "identity/pool": "live",
        "identity/machine": "live",
        "role/far": "refused",
        "role/pool": "live",
        "role/near": "live",
    }
    assert near.startswith(f"arn:aws:sts::{HERE}:assumed-role/near/")
