"""Identity pools as something that stands in an account: roles, tags, the end, and who may."""

from typing import Any

import pytest

from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.sandbox_clients import REGION, client, refusal
from tests.support.sandbox_iam import ACCOUNT, policy, statement

NO_POOL = f"{REGION}:00000000-0000-0000-0000-000000000000"


@pytest.fixture
def keys(sandbox: Sandbox) -> IssuedKeys:
    return sandbox.aws.administrator()


@pytest.fixture
def pool_id(sandbox: Sandbox) -> str:
    return sandbox.aws.add_identity_pool(region=REGION)


def arn_of(pool_id: str) -> str:
    return f"arn:aws:cognito-identity:{REGION}:{ACCOUNT}:identitypool/{pool_id}"


async def test_a_pool_has_no_roles_until_they_are_set_and_keeps_the_last_ones(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    other = sandbox.aws.add_role("other", trust_policy={})

    async with client("cognito-identity", sandbox, keys) as cognito:
        before = await cognito.get_identity_pool_roles(IdentityPoolId=pool_id)
        for arn in (sandbox.role_arn, other):
            roles = {"authenticated": arn}
            await cognito.set_identity_pool_roles(IdentityPoolId=pool_id, Roles=roles)
        after = await cognito.get_identity_pool_roles(IdentityPoolId=pool_id)

    assert before["Roles"] == {}
    assert after["Roles"] == {"authenticated": other}


@pytest.mark.parametrize(
    ("roles", "code"),
    [
        (None, "ValidationException"),
        ({"somebody": f"arn:aws:iam::{ACCOUNT}:role/deploy"}, "ValidationException"),
        ({"authenticated": "deploy"}, "InvalidParameterException"),
        ({"authenticated": 1}, "SerializationException"),
    ],
)
async def test_the_roles_of_a_pool_are_not_set_to(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str, roles: Any, code: str
) -> None:
    sent = {"IdentityPoolId": pool_id} | ({} if roles is None else {"Roles": roles})

    async with client("cognito-identity", sandbox, keys, checks=False) as cognito:
        told = await refusal(cognito.set_identity_pool_roles(**sent))

    assert (told.status, told.code) == (400, code)


async def test_tags_are_added_changed_removed_and_listed(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str
) -> None:
    arn = arn_of(pool_id)

    async with client("cognito-identity", sandbox, keys) as cognito:
        await cognito.tag_resource(ResourceArn=arn, Tags={"a": "1", "b": "1"})
        await cognito.tag_resource(ResourceArn=arn, Tags={"b": "2"})
        await cognito.untag_resource(ResourceArn=arn, TagKeys=["a", "unknown"])
        listed = await cognito.list_tags_for_resource(ResourceArn=arn)
        described = await cognito.describe_identity_pool(IdentityPoolId=pool_id)

    assert listed["Tags"] == described["IdentityPoolTags"] == {"b": "2"}


async def test_a_pool_is_deleted_once(sandbox: Sandbox, keys: IssuedKeys, pool_id: str) -> None:
    async with client("cognito-identity", sandbox, keys) as cognito:
        await cognito.delete_identity_pool(IdentityPoolId=pool_id)
        again = await refusal(cognito.delete_identity_pool(IdentityPoolId=pool_id))

    assert again.kind == "ResourceNotFoundException"
    assert sandbox.aws.identity_pools() == ()


OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("DescribeIdentityPool", {}),
    ("DeleteIdentityPool", {}),
    ("GetIdentityPoolRoles", {}),
    ("SetIdentityPoolRoles", {"Roles": {}}),
    ("ListTagsForResource", {}),
    ("TagResource", {"Tags": {"a": "b"}}),
    ("UntagResource", {"TagKeys": ["a"]}),
]
EVERYWHERE: list[tuple[str, dict[str, Any]]] = [
    ("CreateIdentityPool", {"IdentityPoolName": "p", "AllowUnauthenticatedIdentities": False}),
    ("ListIdentityPools", {"MaxResults": 60}),
]


def about(operation: str, params: dict[str, Any], pool_id: str) -> dict[str, Any]:
    if operation.endswith("Resource"):
        return {"ResourceArn": arn_of(pool_id), **params}
    return {"IdentityPoolId": pool_id, **params}


@pytest.mark.parametrize(("operation", "params"), OPERATIONS)
async def test_a_pool_that_is_not_there_is_not_found(
    sandbox: Sandbox, keys: IssuedKeys, operation: str, params: dict[str, Any]
) -> None:
    async with client("cognito-identity", sandbox, keys) as cognito:
        told = await refusal(cognito._make_api_call(operation, about(operation, params, NO_POOL)))

    assert (told.status, told.kind) == (400, "ResourceNotFoundException")


@pytest.mark.parametrize(("operation", "params"), OPERATIONS + EVERYWHERE)
async def test_who_is_not_allowed_to_is_told_who_it_is_and_what_it_lacks(
    sandbox: Sandbox, pool_id: str, operation: str, params: dict[str, Any]
) -> None:
    nobody = sandbox.aws.add_user("nobody")
    sent = params if (operation, params) in EVERYWHERE else about(operation, params, pool_id)

    async with client("cognito-identity", sandbox, nobody) as cognito:
        told = await refusal(cognito._make_api_call(operation, sent))

    assert (told.status, told.code) == (400, "AccessDeniedException")
    assert told.message.startswith(
        f"User: {nobody.arn} is not authorized to perform: cognito-identity:{operation} on "
    )
    assert sandbox.aws.identity_pool(pool_id) is not None


async def test_a_role_is_handed_to_a_pool_only_by_who_may_pass_it(
    sandbox: Sandbox, pool_id: str
) -> None:
    allowed = policy(statement(Action="cognito-identity:*"))
    setter = sandbox.aws.add_user("setter", policies={"p": allowed})
    roles = {"authenticated": sandbox.role_arn}

    async with client("cognito-identity", sandbox, setter) as cognito:
        call = {"IdentityPoolId": pool_id, "Roles": roles}
        without = await refusal(cognito.set_identity_pool_roles(**call))
        passing = policy(statement(Action="iam:PassRole", Resource=sandbox.role_arn))
        sandbox.aws.set_policy(setter.arn, "pass", passing)
        await cognito.set_identity_pool_roles(**call)

    assert "iam:PassRole" in without.message


async def test_a_pool_with_tags_needs_the_right_to_tag(sandbox: Sandbox) -> None:
    allowed = policy(statement(Action="cognito-identity:CreateIdentityPool"))
    maker = sandbox.aws.add_user("maker", policies={"p": allowed})

    async with client("cognito-identity", sandbox, maker) as cognito:
        told = await refusal(
            cognito.create_identity_pool(
                IdentityPoolName="p",
                AllowUnauthenticatedIdentities=False,
                IdentityPoolTags={"a": "b"},
            )
        )

    assert "cognito-identity:TagResource" in told.message
    assert sandbox.aws.identity_pools() == ()


@pytest.mark.parametrize(
    "arn", ["", "not an arn at all, but long", f"arn:aws:iam::{ACCOUNT}:role/deploy"]
)
async def test_tags_are_only_on_what_is_a_pool(
    sandbox: Sandbox, keys: IssuedKeys, arn: str
) -> None:
    async with client("cognito-identity", sandbox, keys, checks=False) as cognito:
        told = await refusal(cognito.list_tags_for_resource(ResourceArn=arn))

    assert told.code in {"ValidationException", "InvalidParameterException"}
