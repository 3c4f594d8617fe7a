"""Policies of roles by IAM's API, and what callers may do by them."""

import json
from typing import Any

import pytest

from broker.sandbox import Sandbox
from tests.support.sandbox_clients import client, refusal
from tests.support.sandbox_iam import (
    ACCOUNT,
    ISSUER,
    THUMBPRINT,
    iam_of,
    policy,
    statement,
    trusting,
)

READ_S3 = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"


async def test_an_inline_policy_is_put_read_replaced_listed_and_deleted(sandbox: Sandbox) -> None:
    role = {"RoleName": "deploy"}
    first, second = policy(statement()), policy(statement(Action="s3:*"))

    async with iam_of(sandbox) as iam:
        for name, document in (("b", first), ("a", first), ("b", second)):
            text = json.dumps(document)
            await iam.put_role_policy(**role, PolicyName=name, PolicyDocument=text)
        told = await iam.get_role_policy(**role, PolicyName="b")
        listed = await iam.list_role_policies(**role)
        page = await iam.list_role_policies(**role, MaxItems=1)
        await iam.delete_role_policy(**role, PolicyName="a")
        missing = await refusal(iam.get_role_policy(**role, PolicyName="a"))
        again = await refusal(iam.delete_role_policy(**role, PolicyName="a"))

    assert (told["RoleName"], told["PolicyDocument"]) == ("deploy", second)
    assert listed["PolicyNames"] == ["a", "b"]
    assert (page["PolicyNames"], page["IsTruncated"]) == (["a"], True)
    assert {one.kind for one in (missing, again)} == {"NoSuchEntityException"}
    assert sandbox.aws.policies_of(sandbox.role_arn) == {"b": second}


@pytest.mark.parametrize(
    "document",
    [
        "{nope",
        policy(),
        policy(statement(Effect=None)),
        policy(statement(Action=None)),
        policy(statement(Resource=None)),
        policy(statement(Principal="*")),
        policy(statement(Action="GetObject")),
        policy(statement(Resource="my-bucket")),
        policy(statement(Condition={"StringAlike": {"a": "b"}})),
    ],
)
async def test_a_permission_policy_is_refused_when_it_is_none(
    sandbox: Sandbox, document: Any
) -> None:
    text = document if isinstance(document, str) else json.dumps(document)

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam.put_role_policy(RoleName="deploy", PolicyName="p", PolicyDocument=text)
        )

    assert (told.status, told.kind) == (400, "MalformedPolicyDocumentException")
    assert sandbox.aws.policies_of(sandbox.role_arn) == {}


async def test_an_inline_policy_has_10240_characters_at_most(sandbox: Sandbox) -> None:
    long = json.dumps(policy(statement(Sid="a" * 10_200)))

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam.put_role_policy(RoleName="deploy", PolicyName="p", PolicyDocument=long)
        )

    assert (told.status, told.kind) == (409, "LimitExceededException")


@pytest.mark.parametrize("name", ["", "a b", "a" * 129])
async def test_a_policy_is_not_named(sandbox: Sandbox, name: str) -> None:
    text = json.dumps(policy(statement()))

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam.put_role_policy(RoleName="deploy", PolicyName=name, PolicyDocument=text)
        )

    assert (told.status, told.code) == (400, "ValidationError")


async def test_managed_policies_are_attached_and_detached(sandbox: Sandbox) -> None:
    own = sandbox.aws.add_managed_policy("team/read", policy(statement()))
    role = {"RoleName": "deploy"}

    async with iam_of(sandbox) as iam:
        for arn in (READ_S3, own, READ_S3):
            await iam.attach_role_policy(**role, PolicyArn=arn)
        attached = await iam.list_attached_role_policies(**role)
        await iam.detach_role_policy(**role, PolicyArn=READ_S3)
        left = await iam.list_attached_role_policies(**role)
        again = await refusal(iam.detach_role_policy(**role, PolicyArn=READ_S3))

    assert attached["AttachedPolicies"] == [
        {"PolicyName": "AmazonS3ReadOnlyAccess", "PolicyArn": READ_S3},
        {"PolicyName": "read", "PolicyArn": own},
    ]
    assert [one["PolicyArn"] for one in left["AttachedPolicies"]] == [own]
    assert again.kind == "NoSuchEntityException"


@pytest.mark.parametrize(
    ("arn", "status", "code"),
    [
        ("arn:aws:iam::aws:policy/NoSuchPolicy", 404, "NoSuchEntity"),
        (f"arn:aws:iam::{ACCOUNT}:policy/none", 404, "NoSuchEntity"),
        (f"arn:aws:iam::{ACCOUNT}:role/deploy", 400, "InvalidInput"),
        ("policy", 400, "ValidationError"),
    ],
)
async def test_a_policy_that_is_none_is_not_attached(
    sandbox: Sandbox, arn: str, status: int, code: str
) -> None:
    async with iam_of(sandbox) as iam:
        told = await refusal(iam.attach_role_policy(RoleName="deploy", PolicyArn=arn))

    assert (told.status, told.code) == (status, code)


async def test_a_role_has_twenty_managed_policies_at_most(sandbox: Sandbox) -> None:
    arns = [sandbox.aws.add_managed_policy(f"p{number}", policy()) for number in range(21)]

    async with iam_of(sandbox) as iam:
        for arn in arns[:20]:
            await iam.attach_role_policy(RoleName="deploy", PolicyArn=arn)
        told = await refusal(iam.attach_role_policy(RoleName="deploy", PolicyArn=arns[20]))

    assert (told.status, told.kind) == (409, "LimitExceededException")


# What callers may do.


OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("CreateOpenIDConnectProvider", {"Url": ISSUER, "ThumbprintList": [THUMBPRINT]}),
    ("GetOpenIDConnectProvider", {"provider": True}),
    ("ListOpenIDConnectProviders", {}),
    ("AddClientIDToOpenIDConnectProvider", {"provider": True, "ClientID": "a"}),
    ("DeleteOpenIDConnectProvider", {"provider": True}),
    ("CreateRole", {"RoleName": "ci", "AssumeRolePolicyDocument": json.dumps(policy(trusting()))}),
    ("GetRole", {"RoleName": "deploy"}),
    ("ListRoles", {}),
    ("DeleteRole", {"RoleName": "deploy"}),
    ("PutRolePolicy", {"RoleName": "deploy", "PolicyName": "p", "PolicyDocument": "{}"}),
    ("EnableOutboundWebIdentityFederation", {}),
    ("GetOutboundWebIdentityFederationInfo", {}),
    ("DisableOutboundWebIdentityFederation", {}),
]


@pytest.mark.parametrize(("operation", "params"), OPERATIONS)
async def test_who_is_not_allowed_to_is_told_who_it_is_and_what_it_lacks(
    sandbox: Sandbox, operation: str, params: dict[str, Any]
) -> None:
    everything_else = policy(
        statement(Action="*"), statement(Effect="Deny", Action=f"iam:{operation}")
    )
    nobody = sandbox.aws.add_user("nobody")
    but_one = sandbox.aws.add_user("but-one", policies={"p": everything_else})
    sent = {name: value for name, value in params.items() if name != "provider"}
    if "provider" in params:
        sent["OpenIDConnectProviderArn"] = sandbox.provider_arn

    async with iam_of(sandbox, nobody) as iam:
        none = await refusal(iam._make_api_call(operation, sent))
    async with iam_of(sandbox, but_one) as iam:
        denied = await refusal(iam._make_api_call(operation, sent))

    assert (none.status, none.code) == (denied.status, denied.code) == (403, "AccessDenied")
    assert none.message.startswith(
        f"User: {nobody.arn} is not authorized to perform: iam:{operation} on resource: "
    )
    assert none.message.endswith(
        f"because no identity-based policy allows the iam:{operation} action"
    )
    assert denied.message.endswith("with an explicit deny in an identity-based policy")


async def test_a_permission_may_be_for_one_role_alone(sandbox: Sandbox) -> None:
    sandbox.aws.add_role("other", trust_policy={})
    reader = sandbox.aws.add_user(
        "reader",
        policies={"p": policy(statement(Action="iam:GetRole", Resource=sandbox.role_arn))},
    )

    async with iam_of(sandbox, reader) as iam:
        told = await iam.get_role(RoleName="deploy")
        refused = await refusal(iam.get_role(RoleName="other"))

    assert told["Role"]["RoleName"] == "deploy"
    assert refused.code == "AccessDenied"


async def test_a_managed_policy_decides_like_an_inline_one(sandbox: Sandbox) -> None:
    session = sandbox.aws.role_session(sandbox.role_arn)
    managed = "arn:aws:iam::aws:policy/AdministratorAccess"

    async with iam_of(sandbox, session) as iam:
        before = await refusal(iam.list_roles())
        async with iam_of(sandbox) as admin:
            await admin.attach_role_policy(RoleName="deploy", PolicyArn=managed)
        after = await iam.list_roles()

    assert before.code == "AccessDenied"
    assert len(after["Roles"]) == 1


@pytest.mark.parametrize(
    ("operation", "params", "lacking"),
    [
        ("CreateOpenIDConnectProvider", {"Url": "https://x.example"}, "TagOpenIDConnectProvider"),
        (
            "CreateRole",
            {"RoleName": "ci", "AssumeRolePolicyDocument": json.dumps(policy(trusting()))},
            "TagRole",
        ),
    ],
)
async def test_what_is_made_with_tags_needs_the_right_to_tag(
    sandbox: Sandbox, operation: str, params: dict[str, Any], lacking: str
) -> None:
    maker = sandbox.aws.add_user(
        "maker", policies={"p": policy(statement(Action=f"iam:{operation}"))}
    )

    async with iam_of(sandbox, maker) as iam:
        told = await refusal(
            iam._make_api_call(operation, {**params, "Tags": [{"Key": "a", "Value": "b"}]})
        )

    assert f"iam:{lacking}" in told.message


async def test_what_fails_once_goes_well_the_next_time(sandbox: Sandbox) -> None:
    sandbox.fail("PutRolePolicy", code="ServiceFailure", status=500, count=1)
    sent = {
        "RoleName": "deploy",
        "PolicyName": "p",
        "PolicyDocument": json.dumps(policy(statement())),
    }

    async with iam_of(sandbox) as iam:
        first = await refusal(iam.put_role_policy(**sent))
        await iam.put_role_policy(**sent)

    assert (first.status, first.code) == (500, "ServiceFailure")
    assert "p" in sandbox.aws.policies_of(sandbox.role_arn)


@pytest.mark.parametrize("code", ["ConcurrentModification", "LimitExceeded"])
async def test_a_conflict_can_be_scripted_and_has_its_own_status(
    sandbox: Sandbox, code: str
) -> None:
    sandbox.fail("TagRole", code=code)

    async with iam_of(sandbox) as iam:
        told = await refusal(iam.tag_role(RoleName="deploy", Tags=[]))

    assert (told.status, told.code) == (409, code)


# Hops, as the caller's own policies decide.


@pytest.mark.parametrize(
    ("principal", "allowed", "admitted"),
    [
        (f"arn:aws:iam::{ACCOUNT}:role/base", "none", True),
        (f"arn:aws:iam::{ACCOUNT}:role/base", "deny", False),
        (f"arn:aws:iam::{ACCOUNT}:root", "none", False),
        (f"arn:aws:iam::{ACCOUNT}:root", "allow", True),
        ("*", "none", False),
        (f"arn:aws:iam::{ACCOUNT}:role/deploy", "allow", False),
    ],
)
async def test_a_hop_needs_the_callers_own_policies_unless_the_trust_names_the_caller(
    sandbox: Sandbox, principal: str, allowed: str, admitted: bool
) -> None:
    effect = {"allow": [statement(Action="sts:AssumeRole")], "none": []}
    deny = [statement(Effect="Deny", Action="sts:*")]
    base = sandbox.aws.add_role(
        "base", trust_policy={}, policies={"p": policy(*effect.get(allowed, deny))}
    )
    target = sandbox.aws.add_role(
        "target", trust_policy=policy(trusting(Principal={"AWS": principal}))
    )

    async with client("sts", sandbox, sandbox.aws.role_session(base)) as sts:
        hop = sts.assume_role(RoleArn=target, RoleSessionName="hop")
        told = None if admitted else await refusal(hop)
        if admitted:
            await hop

    assert told is None or (told.status, told.code) == (403, "AccessDenied")


async def test_from_another_account_both_sides_have_to_allow_a_hop(sandbox: Sandbox) -> None:
    elsewhere = "210987654321"
    base = sandbox.aws.add_role("base", trust_policy={}, account=elsewhere)
    target = sandbox.aws.add_role("target", trust_policy=policy(trusting(Principal={"AWS": base})))

    async with client("sts", sandbox, sandbox.aws.role_session(base)) as sts:
        without = await refusal(sts.assume_role(RoleArn=target, RoleSessionName="hop"))
        allowing = policy(statement(Action="sts:AssumeRole", Resource=target))
        sandbox.aws.set_policy(base, "p", allowing)
        answer = await sts.assume_role(RoleArn=target, RoleSessionName="hop")

    assert without.code == "AccessDenied"
    assert answer["AssumedRoleUser"]["Arn"].endswith("assumed-role/target/hop")
