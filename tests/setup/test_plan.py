"""A plan is carried out in order, each step checked again, and its result reported."""

from dataclasses import replace

import pytest

from broker.lease import Refused, Unavailable
from broker.setup import to_aws
from broker.setup.plan import Plan, State, apply, plan_changes, plan_removal, read_states, revert
from broker.setup.resource import ResourceState, Step
from broker.setup.resources.oidc_provider import ActualProvider
from broker.setup.to_aws import ToAwsRequest
from tests.support.setup import FOREIGN, PLACE, READ_ONLY, Account, actual_role, statement

ASKED = ToAwsRequest(role_name="deploy", policy_arns=(READ_ONLY,))


async def looked(account: Account, *, deep: bool = False) -> tuple[State, ...]:
    return await read_states(account.access(), to_aws.desired_resources(ASKED, PLACE), deep=deep)


async def test_every_step_that_stands_is_told_in_order() -> None:
    account = Account(provider=ActualProvider(audiences=("sts.amazonaws.com",)))
    done: list[Step] = []
    states = await looked(account)

    await apply(plan_changes(states), states, account.access(), done.append)

    assert [(step.kind, step.title) for step in done] == [
        ("keep", "OIDC provider https://federation.namespaceapis.com"),
        ("create", "role deploy"),
        ("create", "policy of deploy"),
    ]


async def test_after_a_failure_the_same_plan_made_anew_does_the_rest() -> None:
    account, done = Account(), list[Step]()
    states = await looked(account)
    account.failing.add("CreateRole")

    with pytest.raises(Unavailable, match="IAM is down"):
        await apply(plan_changes(states), states, account.access(), done.append)
    account.failing.clear()
    rest = plan_changes(await looked(account))

    assert [step.kind for step in done] == ["create"]
    assert [step.kind for step in rest.steps] == ["keep", "create", "create"]


async def test_what_was_changed_since_the_plan_was_shown_is_not_touched() -> None:
    account = Account(roles={"deploy": actual_role(FOREIGN)})
    states = await looked(account)
    account.roles["deploy"] = actual_role(FOREIGN, statement(sub="ws_2/*"))

    with pytest.raises(Refused, match="role deploy was changed since the plan was made"):
        await apply(plan_changes(states), states, account.access(), lambda _: None)

    assert account.roles["deploy"] == actual_role(FOREIGN, statement(sub="ws_2/*"))


async def test_what_somebody_else_did_meanwhile_in_just_that_way_is_done() -> None:
    account = Account(roles={"deploy": actual_role(FOREIGN)})
    states = await looked(account)
    account.roles["deploy"] = actual_role(FOREIGN, statement())

    await apply(plan_changes(states), states, account.access(), lambda _: None)

    assert account.roles["deploy"] == actual_role(FOREIGN, statement())


async def test_a_role_that_somebody_began_to_use_is_not_removed_by_an_older_plan() -> None:
    account = Account()
    states = await looked(account)
    await apply(plan_changes(states), states, account.access(), lambda _: None)
    states = await looked(account, deep=True)
    made = account.roles["deploy"]
    account.roles["deploy"] = replace(
        made, trust_policy={"Version": "2012-10-17", "Statement": [statement(), FOREIGN]}
    )

    with pytest.raises(Refused, match="run the command again"):
        await revert(plan_removal(states), states, account.access(), lambda _: None)

    assert "deploy" in account.roles


async def test_a_provider_that_somebody_began_to_trust_is_not_removed() -> None:
    account = Account()
    states = await looked(account)
    await apply(plan_changes(states), states, account.access(), lambda _: None)
    states = await looked(account, deep=True)
    account.roles["theirs"] = actual_role(statement(sub="ws_2/*"))

    await revert(plan_removal(states), states, account.access(), lambda _: None)

    assert account.provider is not None
    assert "deploy" not in account.roles


def test_a_plan_tells_each_step_as_json() -> None:
    step = plan_changes(
        (ResourceState(desired=to_aws.desired_resources(ASKED, PLACE)[0], actual=None),)
    ).steps[0]

    (told,) = Plan((step,)).as_json()

    assert told["do"] == "create"
    assert told["what"] == "OIDC provider https://federation.namespaceapis.com"
