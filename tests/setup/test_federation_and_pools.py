"""The federation switch and identity pools, read, made and deleted at AWS over real HTTP."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.clock import SystemClock
from broker.credentials import AwsCredentials
from broker.lease import Refused, Unavailable
from broker.sandbox import Sandbox
from broker.setup.aws import AwsApi, AwsEndpoints, aws_api
from broker.setup.plan import State
from broker.setup.resource import CloudAccess, ResourceState
from broker.setup.resources import IdentityPool, OutboundFederation
from broker.setup.to_namespace import CognitoRequest, desired_by_cognito
from broker.setup.verify import permissions_of
from broker.sources.aws.credential_chain import CredentialChain
from tests.support.setup import PLACE

REGION = "eu-central-1"
SWITCH = OutboundFederation(account="123456789012")
ANY_POOL = IdentityPool(name="namespace", region=REGION)
MACHINES = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


class Hasty(SystemClock):
    """Time as it is, in which nobody waits."""

    async def sleep(self, seconds: float) -> None:
        """Be over at once."""


def access(aws: AwsApi) -> CloudAccess:
    return CloudAccess(aws=aws, clock=Hasty())


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(empty=True, region=REGION) as world:
        yield world


@pytest.fixture
async def aws(sandbox: Sandbox) -> AsyncIterator[AwsApi]:
    issued = sandbox.aws.administrator()
    keys = AwsCredentials(
        access_key_id=issued.access_key_id,
        secret_access_key=issued.secret_access_key,
        session_token="",
        role_arn=issued.arn,
    )
    url = sandbox.aws.url
    async with (
        CredentialChain(clock=Hasty(), keys=keys) as chain,
        aws_api(
            chain=chain,
            clock=Hasty(),
            region=REGION,
            partition="aws",
            endpoints=AwsEndpoints(iam=url, sts=url, cognito=url),
            ca_bundle=None,
        ) as api,
    ):
        yield api


# The switch.


async def test_the_switch_is_put_on_and_its_issuer_read_back(sandbox: Sandbox, aws: AwsApi) -> None:

    before = await SWITCH.read(access(aws), deep=False)
    known = await SWITCH.create(access(aws))

    after = await SWITCH.read(access(aws), deep=False)
    assert before is None
    assert after is not None
    assert after.issuer == known.issuer == sandbox.aws.enable_outbound_federation()


async def test_a_switch_that_is_on_by_then_is_success(sandbox: Sandbox, aws: AwsApi) -> None:
    issuer = sandbox.aws.enable_outbound_federation()

    assert (await SWITCH.create(access(aws))).issuer == issuer


@pytest.mark.parametrize(
    ("operation", "code", "told"),
    [
        ("EnableOutboundWebIdentityFederation", "AccessDenied", "allow iam:EnableOutbound"),
        ("GetOutboundWebIdentityFederationInfo", "AccessDenied", "allow iam:GetOutbound"),
    ],
)
async def test_a_refused_switch_says_which_right_is_wanting(
    sandbox: Sandbox, aws: AwsApi, operation: str, code: str, told: str
) -> None:
    sandbox.fail(operation, code=code, status=403)

    with pytest.raises(Refused, match=told):
        await SWITCH.create(access(aws))


# Pools.


async def test_a_pool_is_made_with_the_provider_for_nobody_unknown_and_with_our_tag(
    sandbox: Sandbox, aws: AwsApi
) -> None:

    known = await ANY_POOL.create(access(aws))

    found = await ANY_POOL.read(access(aws), deep=False)
    assert found is not None
    assert (found.pool_id, found.name, found.is_ours) == (known.pool_id, "namespace", True)
    (made,) = sandbox.aws.calls_of("CreateIdentityPool")
    assert made.params["AllowUnauthenticatedIdentities"] is False
    assert made.params["DeveloperProviderName"] == "namespace.so"


async def test_the_only_pool_for_namespace_is_found_whatever_its_name(
    sandbox: Sandbox, aws: AwsApi
) -> None:
    for number in range(65):  # more than one page
        sandbox.aws.add_identity_pool(f"other-{number}", developer_provider=None)
    pool_id = sandbox.aws.add_identity_pool("made by hand")

    found = await ANY_POOL.read(access(aws), deep=False)

    assert found is not None
    assert (found.pool_id, found.is_ours) == (pool_id, False)


async def test_a_pool_of_another_provider_is_not_the_one_of_that_name(
    sandbox: Sandbox, aws: AwsApi
) -> None:
    sandbox.aws.add_identity_pool("namespace", developer_provider="example.com")

    assert await ANY_POOL.read(access(aws), deep=False) is None


async def test_a_name_that_was_said_is_looked_for_alone(sandbox: Sandbox, aws: AwsApi) -> None:
    sandbox.aws.add_identity_pool("namespace")
    named = IdentityPool(name="mine", region=REGION)

    assert await named.read(access(aws), deep=False) is None


async def test_several_pools_that_would_do_are_named(sandbox: Sandbox, aws: AwsApi) -> None:
    pools = [sandbox.aws.add_identity_pool("namespace") for _ in range(2)]

    with pytest.raises(Refused, match="give one by --identity-pool") as caught:
        await ANY_POOL.read(access(aws), deep=False)

    assert all(pool_id in str(caught.value) for pool_id in pools)


async def test_a_pool_that_is_named_by_id_must_be_there(aws: AwsApi) -> None:
    wanted = IdentityPool(name="namespace", region=REGION, pool_id=f"{REGION}:0000-1111")

    with pytest.raises(Refused, match="no identity pool eu-central-1:0000-1111"):
        await wanted.read(access(aws), deep=False)


async def test_a_pool_that_is_named_by_id_must_have_the_provider(
    sandbox: Sandbox, aws: AwsApi
) -> None:
    pool_id = sandbox.aws.add_identity_pool(developer_provider="example.com")
    wanted = IdentityPool(name="namespace", region=REGION, pool_id=pool_id)

    with pytest.raises(Refused, match=r"does not have the developer provider namespace\.so"):
        await wanted.read(access(aws), deep=False)


async def test_a_pool_whose_making_was_not_answered_is_not_made_twice(
    sandbox: Sandbox, aws: AwsApi
) -> None:
    sandbox.fail("CreateIdentityPool", truncated=True, count=1)

    known = await ANY_POOL.create(access(aws))

    (pool,) = sandbox.aws.identity_pools()
    assert known.pool_id == pool.pool_id


async def test_a_pool_that_was_not_made_is_not_said_to_be(sandbox: Sandbox, aws: AwsApi) -> None:
    sandbox.fail("CreateIdentityPool", status=500, code="InternalErrorException", count=1)

    with pytest.raises(Unavailable):
        await ANY_POOL.create(access(aws))


REFUSALS = [
    ("CreateIdentityPool", "LimitExceededException", "a quota of the account is used up"),
    ("CreateIdentityPool", "ResourceConflictException", "run the command again"),
    ("CreateIdentityPool", "InvalidParameterException", "correct the flag"),
    ("CreateIdentityPool", "NotAuthorizedException", "by --profile"),
    ("CreateIdentityPool", "AccessDeniedException", "allow cognito-identity:CreateIdentityPool"),
]


@pytest.mark.parametrize(("operation", "code", "told"), REFUSALS)
async def test_a_refusal_of_cognitos_says_what_to_do(
    sandbox: Sandbox, aws: AwsApi, operation: str, code: str, told: str
) -> None:
    sandbox.fail(operation, code=code, status=400)

    with pytest.raises(Refused, match=told):
        await ANY_POOL.create(access(aws))


async def test_too_many_requests_are_tried_again(sandbox: Sandbox, aws: AwsApi) -> None:
    pool_id = sandbox.aws.add_identity_pool()
    sandbox.fail("ListIdentityPools", code="TooManyRequestsException", status=400, count=2)

    found = await ANY_POOL.read(access(aws), deep=False)

    assert found is not None
    assert found.pool_id == pool_id


# Taking a pool back.


def beside(role: str = "builder") -> list[State]:
    wanted: Any = desired_by_cognito(CognitoRequest(role_name=role), PLACE)
    return [ResourceState(desired=each, actual=None) for each in wanted]


async def test_our_pool_goes_and_that_it_is_gone_by_then_is_no_error(
    sandbox: Sandbox, aws: AwsApi
) -> None:
    await ANY_POOL.create(access(aws))
    found = await ANY_POOL.read(access(aws), deep=True)
    assert found is not None

    await ANY_POOL.delete(access(aws), found)
    await ANY_POOL.delete(access(aws), found)

    assert ANY_POOL.removal(found, beside()).kind == "remove"
    assert sandbox.aws.identity_pools() == ()


async def test_a_pool_that_another_role_uses_stays(sandbox: Sandbox, aws: AwsApi) -> None:
    known = await ANY_POOL.create(access(aws))
    for name in ("builder", "other"):
        arn = sandbox.aws.add_role(name, trust_policy=MACHINES)
        sandbox.aws.allow_developer_tokens(arn, str(known.pool_id))

    found = await ANY_POOL.read(access(aws), deep=True)

    planned = ANY_POOL.removal(found, beside("builder"))
    assert planned.kind == "keep"
    assert "is used by other" in planned.note


async def test_a_pool_without_our_tag_stays(sandbox: Sandbox, aws: AwsApi) -> None:
    sandbox.aws.add_identity_pool("namespace")

    found = await ANY_POOL.read(access(aws), deep=True)

    planned = ANY_POOL.removal(found, beside())
    assert planned.kind == "keep"
    assert "our tag" in planned.note


# Permissions.


async def test_a_roles_own_policies_are_read_and_managed_ones_named(
    sandbox: Sandbox, aws: AwsApi
) -> None:
    arn = sandbox.aws.add_role("builder", trust_policy=MACHINES)
    sandbox.aws.allow_web_identity_tokens(arn)
    admin = "arn:aws:iam::aws:policy/AdministratorAccess"
    await aws.call("iam", "AttachRolePolicy", RoleName="builder", PolicyArn=admin)

    permissions = await permissions_of(aws, "builder")

    assert list(permissions.inline) == ["allow-get-web-identity-token"]
    assert permissions.managed == (admin,)
