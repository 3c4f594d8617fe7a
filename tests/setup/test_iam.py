"""IAM as it is read, made, changed and deleted, against the sandbox's over HTTP."""

from dataclasses import replace

import pytest

from broker.clock import Clock
from broker.lease import Refused, Unavailable
from broker.sandbox import Sandbox
from broker.setup import to_aws
from broker.setup.aws import AwsAccount
from broker.setup.plan import Plan, apply, plan_changes, plan_removal, read_states, revert
from broker.setup.resource import CloudAccess
from broker.setup.resources import AttachedPolicy, InlinePolicy
from broker.setup.to_aws import ToAwsRequest
from tests.support.setup import (
    FOREIGN,
    PLACE,
    PROVIDER,
    READ_ONLY,
    Impatient,
    Open,
    desired_provider,
    desired_role,
    statement,
)

DOCUMENT = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}],
}
ASKED = ToAwsRequest(
    role_name="deploy",
    policy_arns=(READ_ONLY,),
    policies={"mine": DOCUMENT},
    max_session_duration_s=7200,
)
TAG = {"managed-by": "namespace-broker"}


def access(aws: AwsAccount, clock: Clock | None = None) -> CloudAccess:
    return CloudAccess(aws=aws.api, clock=clock or Impatient())


async def made(aws: AwsAccount, asked: ToAwsRequest = ASKED) -> Plan:
    cloud = access(aws)
    states = await read_states(cloud, to_aws.desired_resources(asked, PLACE))
    planned = plan_changes(states)
    await apply(planned, states, cloud, lambda _: None)
    return planned


async def unmade(aws: AwsAccount, asked: ToAwsRequest = ASKED) -> Plan:
    cloud = access(aws)
    states = await read_states(cloud, to_aws.desired_resources(asked, PLACE), deep=True)
    planned = plan_removal(states)
    await revert(planned, states, cloud, lambda _: None)
    return planned


async def test_in_an_empty_account_everything_is_made_and_ours(
    sandbox: Sandbox, opened: Open
) -> None:
    async with opened() as aws:
        await made(aws)

    provider, role = sandbox.aws.provider(sandbox.provider_arn), sandbox.aws.role(sandbox.role_arn)
    assert provider is not None
    assert role is not None
    assert (provider.client_ids, provider.tags) == (("sts.amazonaws.com",), TAG)
    assert role.trust_policy == sandbox.guide_trust()
    assert (role.tags, role.max_session_duration_s) == (TAG, 7200)
    assert (role.attached, role.policies) == ((READ_ONLY,), {"mine": DOCUMENT})


async def test_planned_again_there_is_nothing_to_do_and_nothing_is_called_but_reading(
    sandbox: Sandbox, opened: Open
) -> None:
    async with opened() as aws:
        await made(aws)
        before = len(sandbox.aws.calls)
        again = await made(aws)

    assert again.pending == ()
    called = {call.operation for call in sandbox.aws.calls[before:]}
    assert all(name.startswith(("Get", "List")) for name in called)


async def test_what_was_made_is_removed_to_an_empty_account(sandbox: Sandbox, opened: Open) -> None:
    async with opened() as aws:
        await made(aws)
        await unmade(aws)

    assert sandbox.aws.roles() == ()
    assert sandbox.aws.providers() == ()


async def test_a_role_made_by_hand_gets_our_statement_beside_its_own(
    sandbox: Sandbox, opened: Open
) -> None:
    policy = {"Version": "2008-10-17", "Statement": FOREIGN}
    arn = sandbox.aws.add_role("deploy", trust_policy=policy)

    async with opened() as aws:
        await made(aws, ToAwsRequest(role_name="deploy", max_session_duration_s=7200))

    role = sandbox.aws.role(arn)
    assert role is not None
    assert role.trust_policy == {"Version": "2008-10-17", "Statement": [FOREIGN, statement()]}
    assert (role.tags, role.max_session_duration_s) == ({}, 3600)


async def test_taken_back_from_a_role_made_by_hand_leaves_it_as_it_was(
    sandbox: Sandbox, opened: Open
) -> None:
    policy = {"Version": "2012-10-17", "Statement": [FOREIGN]}
    arn = sandbox.aws.add_role("deploy", trust_policy=policy)

    async with opened() as aws:
        await made(aws)
        await unmade(aws)

    role = sandbox.aws.role(arn)
    assert role is not None
    assert (role.trust_policy, role.attached, role.policies) == (policy, (), {})


async def test_a_provider_with_another_audience_gets_ours_too(
    sandbox: Sandbox, opened: Open
) -> None:
    arn = sandbox.aws.add_provider(to_aws.ISSUER, client_ids=("theirs",))

    async with opened() as aws:
        await made(aws)

    provider = sandbox.aws.provider(arn)
    assert provider is not None
    assert provider.client_ids == ("theirs", "sts.amazonaws.com")


async def test_a_provider_that_a_role_on_a_later_page_trusts_stays(
    sandbox: Sandbox, opened: Open
) -> None:
    for number in range(120):
        trust = {"Version": "2012-10-17", "Statement": [FOREIGN]}
        sandbox.aws.add_role(f"a{number:03}", trust_policy=trust)
    sandbox.aws.add_role("theirs", trust_policy=sandbox.guide_trust(subject="ws_2/*"))

    async with opened() as aws:
        await made(aws)
        planned = await unmade(aws)

    assert sandbox.aws.provider(sandbox.provider_arn) is not None
    assert planned.steps[-1].note == "trusted by theirs"


async def test_a_role_whose_making_was_answered_too_late_is_taken_for_made(
    sandbox: Sandbox, opened: Open
) -> None:
    async with opened(Impatient()) as aws:
        clouds = access(aws, Impatient())
        await desired_provider().create(clouds)
        await desired_role().create(clouds)

        await desired_provider().create(clouds)
        await desired_role().create(clouds)

    assert sandbox.aws.trust_of(sandbox.role_arn) == sandbox.guide_trust()


async def test_a_role_that_somebody_else_made_meanwhile_is_not_taken_for_ours(
    sandbox: Sandbox, opened: Open
) -> None:
    async with opened() as aws:
        sandbox.aws.add_role("deploy", trust_policy={"Statement": [FOREIGN]})

        with pytest.raises(Refused, match="EntityAlreadyExists"):
            await desired_role().create(access(aws, Impatient()))


async def test_a_role_in_other_upper_and_lower_case_is_explained(
    sandbox: Sandbox, opened: Open
) -> None:
    sandbox.aws.add_role("Deploy", trust_policy=sandbox.guide_trust())

    async with opened() as aws:
        with pytest.raises(Refused, match="differs only in upper and lower case"):
            await made(aws)


async def test_a_provider_that_iam_does_not_know_everywhere_yet_is_waited_for(
    sandbox: Sandbox, opened: Open
) -> None:
    sandbox.fail(
        "CreateRole",
        status=400,
        code="MalformedPolicyDocument",
        message=f'Invalid principal in policy: "FEDERATED":"{PROVIDER}"',
        count=2,
    )
    sandbox.aws.add_provider(to_aws.ISSUER, client_ids=("sts.amazonaws.com",))
    clock = Impatient()

    async with opened() as aws:
        await desired_role().create(access(aws, clock))

    assert clock.slept == [5.0, 10.0]
    assert sandbox.aws.has_role(sandbox.role_arn)


async def test_a_policy_document_that_iam_does_not_take_is_told_at_once(
    sandbox: Sandbox, opened: Open
) -> None:
    sandbox.fail("CreateRole", status=400, code="MalformedPolicyDocument", message="Bad syntax")
    clock = Impatient()

    async with opened() as aws:
        with pytest.raises(Refused, match="Bad syntax; correct the policy"):
            await desired_role().create(access(aws, clock))

    assert clock.slept == []


async def test_a_managed_policy_that_is_not_there_is_named(opened: Open) -> None:
    gone = "arn:aws:iam::123456789012:policy/gone"

    async with opened() as aws:
        with pytest.raises(Refused, match=f"there is no policy {gone}.*correct --policy-arn"):
            await made(aws, replace(ASKED, policy_arns=(gone,)))


async def test_policies_of_a_role_that_iam_does_not_know_everywhere_yet_are_waited_for(
    sandbox: Sandbox, opened: Open
) -> None:
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust())
    for operation in ("AttachRolePolicy", "PutRolePolicy"):
        sandbox.fail(
            operation,
            status=404,
            code="NoSuchEntity",
            message="The role with name deploy cannot be found.",
            count=1,
        )
    clock = Impatient()

    async with opened() as aws:
        clouds = access(aws, clock)
        await AttachedPolicy(role="deploy", arn=READ_ONLY).create(clouds)
        await InlinePolicy(role="deploy", name="mine", document=DOCUMENT).create(clouds)

    role = sandbox.aws.role(sandbox.role_arn)
    assert role is not None
    assert (role.attached, role.policies) == ((READ_ONLY,), {"mine": DOCUMENT})
    assert clock.slept == [5.0, 5.0]


async def test_a_trust_policy_that_cannot_be_read_is_not_written_over(
    sandbox: Sandbox, opened: Open
) -> None:
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust())
    sandbox.fail("GetRole", status=200, body=GARBLED)

    async with opened(Impatient()) as aws:
        with pytest.raises(Unavailable):
            await made(aws)

    assert sandbox.aws.calls_of("UpdateAssumeRolePolicy") == ()


GARBLED = """<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role>
<Path>/</Path><RoleName>deploy</RoleName><RoleId>AROAX</RoleId><CreateDate>2030-01-01T00:00:00Z
</CreateDate><Arn>arn:aws:iam::123456789012:role/deploy</Arn><AssumeRolePolicyDocument>nope
</AssumeRolePolicyDocument></Role></GetRoleResult></GetRoleResponse>"""
