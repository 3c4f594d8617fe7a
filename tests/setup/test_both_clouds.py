"""Trust set up and tried out in both clouds over real HTTP, from whatever exists there.

Time moves when we would wait.
"""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from broker.clock import SystemClock
from broker.config import AutoIdentityConfig, Upstream
from broker.lease import Refused
from broker.sandbox import Sandbox, sandbox_in_thread
from broker.setup.aws import AwsEndpoints, AwsSettings
from broker.setup.both_clouds import ToNamespaceTask, open_clouds
from broker.setup.plan import Plan, apply, plan_changes
from broker.setup.resources import PoolTrust
from broker.setup.to_namespace import CognitoRequest, StsRequest

BY_STS, BY_COGNITO = StsRequest(role_name="builder"), CognitoRequest(role_name="builder")
BOTH = pytest.mark.parametrize("asked", [BY_STS, BY_COGNITO], ids=["sts", "cognito"])
GUIDES = {"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
TAGGING = {"Effect": "Allow", "Action": "sts:TagSession", "Resource": "*"}
LETS_THE_ACCOUNT_IN = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": "sts:AssumeRole",
        }
    ],
}


class Hurried(SystemClock):
    """The time, which goes on by as much as anybody would wait."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=sum(self.slept))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock() -> Hurried:
    return Hurried()


@pytest.fixture
def sandbox(clock: Hurried, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with sandbox_in_thread(empty=True, now=clock.now, signing_clock=SystemClock().now) as world:
        for name, value in world.administrator_environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield world


def task(sandbox: Sandbox, clock: Hurried, asked: StsRequest | CognitoRequest) -> ToNamespaceTask:
    url = sandbox.aws.url
    login = sandbox.namespace.inline_token_spec(sandbox.namespace.tenant_token())
    return ToNamespaceTask(
        request=asked,
        aws=AwsSettings(
            region="eu-central-1", endpoints=AwsEndpoints(iam=url, sts=url, cognito=url)
        ),
        upstream=Upstream(
            iam_endpoint=sandbox.namespace.url,
            sts_endpoint=url,
            cognito_endpoint=url,
            ca_bundle=None,
        ),
        identity=AutoIdentityConfig(name="default"),
        workspace="ws_1",
        environ={"NSC_TOKEN_SPEC": login},
        clock=clock,
    )


async def set_up(asked: ToNamespaceTask) -> Plan:
    async with open_clouds(asked) as clouds:
        states = await clouds.states()
        planned = plan_changes(states)
        await apply(planned, states, clouds.access, lambda _: None)
    return planned


async def sign_in(asked: ToNamespaceTask) -> tuple[str | None, list[str]]:
    """Sign in as the role; return the workspace, and why it was waited."""
    reasons: list[str] = []

    def waiting(_: float, reason: Refused) -> None:
        reasons.append(reason.word)

    async with open_clouds(asked) as clouds:
        pool = next(
            (
                f"{one.desired.region}:{one.desired.guid}"
                for one in await clouds.states()
                if isinstance(one.desired, PoolTrust)
            ),
            None,
        )
        return await clouds.sign_in(pool_id=pool, on_wait=waiting), reasons


@BOTH
async def test_what_was_just_made_is_waited_for_until_sts_has_heard_of_it(
    sandbox: Sandbox, clock: Hurried, asked: StsRequest | CognitoRequest
) -> None:
    sandbox.aws.add_role("builder", trust_policy=LETS_THE_ACCOUNT_IN)
    sandbox.aws.propagation_s = 100
    await set_up(task(sandbox, clock, asked))
    clock.slept.clear()

    workspace, reasons = await sign_in(task(sandbox, clock, asked))

    assert workspace == "Acme (ws_1)"
    assert reasons
    assert clock.slept == [5, 10, 20, 30, 30, 30][: len(clock.slept)]
    assert sum(clock.slept) >= 90


@BOTH
@pytest.mark.parametrize(
    "statements",
    [[GUIDES], [TAGGING], [TAGGING, {**GUIDES, "Sid": "Theirs"}], [{**GUIDES, "Action": "sts:*"}]],
)
async def test_from_any_starting_state_the_role_gets_in_and_nothing_is_left_to_do(
    sandbox: Sandbox, clock: Hurried, asked: StsRequest | CognitoRequest, statements: list[object]
) -> None:
    stood = {"Version": "2012-10-17", "Statement": statements}
    name = "allow-get-web-identity-token"
    role = sandbox.aws.add_role(
        "builder", trust_policy=LETS_THE_ACCOUNT_IN, policies={name: stood}, path="/ci/"
    )
    theirs = sandbox.aws.add_identity_pool("theirs", developer_provider="theirs.example")
    sandbox.namespace.trust(issuer="https://other.example", subject_match="x", newer={"a": [1]})
    (before,) = sandbox.namespace.trust_relationships()

    await set_up(task(sandbox, clock, asked))
    again = await set_up(task(sandbox, clock, asked))
    workspace, _ = await sign_in(task(sandbox, clock, asked))

    assert again.pending == ()
    assert workspace == "Acme (ws_1)"
    assert sandbox.namespace.trust_relationships()[0] == before
    listed = sandbox.aws.policies_of(role)[name]["Statement"]
    assert isinstance(listed, list)
    assert listed[: len(statements)] == statements
    assert theirs in [pool.pool_id for pool in sandbox.aws.identity_pools()]
