"""Roles by IAM's API: what is taken, what is refused, and what STS makes of it."""

import json
from typing import Any

import pytest

from broker.sandbox import Sandbox
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import REGION, assume, client, http, refusal
from tests.support.sandbox_iam import ACCOUNT, PROVIDER_ARN, iam_of, policy, trusting

TRUST = json.dumps(policy(trusting()))


async def test_a_role_that_was_made_admits_by_exactly_its_document(sandbox: Sandbox) -> None:
    async with iam_of(sandbox) as iam:
        made = await iam.create_role(
            RoleName="ci", AssumeRolePolicyDocument=json.dumps(sandbox.guide_trust(subject="*/i-1"))
        )
    arn = made["Role"]["Arn"]

    admitted = await assume(sandbox, RoleArn=arn, WebIdentityToken=token_of(sandbox, "ws_1/i-1"))
    refused = await assume(sandbox, RoleArn=arn, WebIdentityToken=token_of(sandbox, "ws_1/i-2"))

    assert arn == f"arn:aws:iam::{ACCOUNT}:role/ci"
    assert (admitted.code, refused.code) == (None, "AccessDenied")


def token_of(sandbox: Sandbox, subject: str) -> str:
    return sandbox.namespace.id_token(sub=subject)


async def test_a_role_is_told_with_all_that_it_was_made_of(sandbox: Sandbox) -> None:
    async with iam_of(sandbox) as iam:
        made = await iam.create_role(
            RoleName="ci",
            Path="/team/",
            AssumeRolePolicyDocument=TRUST,
            Description="for CI",
            MaxSessionDuration=7200,
            Tags=[{"Key": "made-by", "Value": "us"}],
        )
        told = (await iam.get_role(RoleName="ci"))["Role"]

    assert told == made["Role"]
    assert (told["Path"], told["Arn"]) == ("/team/", f"arn:aws:iam::{ACCOUNT}:role/team/ci")
    assert told["RoleId"].startswith("AROA")
    assert told["AssumeRolePolicyDocument"] == policy(trusting())
    assert (told["Description"], told["MaxSessionDuration"]) == ("for CI", 7200)
    assert told["Tags"] == [{"Key": "made-by", "Value": "us"}]


async def test_a_document_is_percent_encoded_on_the_wire(sandbox: Sandbox) -> None:
    sandbox.aws.add_role("ci", trust_policy={"Statement": []})
    sandbox.aws.set_policy(f"arn:aws:iam::{ACCOUNT}:role/ci", "p", {"Statement": []})
    asked = []

    async with iam_of(sandbox) as iam:
        iam.meta.events.register("after-call", lambda **call: asked.append(call["http_response"]))
        await iam.get_role(RoleName="ci")
        await iam.get_role_policy(RoleName="ci", PolicyName="p")

    texts = [(await one.content).decode() for one in asked]
    assert all("%7B%22Statement%22%3A%5B%5D%7D" in text for text in texts)


async def test_a_principal_given_as_an_account_is_kept_as_its_root(sandbox: Sandbox) -> None:
    document = policy(trusting(Principal={"AWS": ["210987654321", "*"]}))

    async with iam_of(sandbox) as iam:
        await iam.create_role(RoleName="ci", AssumeRolePolicyDocument=json.dumps(document))
        told = await iam.get_role(RoleName="ci")

    [kept] = told["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert kept["Principal"] == {"AWS": ["arn:aws:iam::210987654321:root", "*"]}


@pytest.mark.parametrize("name", ["deploy", "DEPLOY"])
async def test_the_name_of_a_role_is_taken_whatever_its_case_and_path(
    sandbox: Sandbox, name: str
) -> None:
    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam.create_role(RoleName=name, Path="/x/", AssumeRolePolicyDocument=TRUST)
        )

    assert (told.status, told.kind) == (409, "EntityAlreadyExistsException")


@pytest.mark.parametrize(
    "params",
    [
        {"RoleName": ""},
        {"RoleName": "a" * 65},
        {"RoleName": "a b"},
        {"Path": "no-slash"},
        {"Description": "a" * 1001},
        {"MaxSessionDuration": 3599},
        {"MaxSessionDuration": 43201},
        {"Tags": [{"Key": "a" * 129, "Value": ""}]},
        {"AssumeRolePolicyDocument": ""},
    ],
)
async def test_a_role_is_not_made_of(sandbox: Sandbox, params: dict[str, Any]) -> None:
    good = {"RoleName": "ci", "AssumeRolePolicyDocument": TRUST}

    async with iam_of(sandbox) as iam:
        told = await refusal(iam.create_role(**(good | params)))

    assert (told.status, told.code) == (400, "ValidationError")
    assert [role.name for role in sandbox.aws.roles()] == ["deploy"]


MALFORMED = [
    "{nope",
    "[]",
    "{}",
    policy(),
    policy("no object"),
    {**policy(trusting()), "Version": "2020-01-01"},
    {**policy(trusting()), "Else": 1},
    policy(trusting(Effect="Maybe")),
    policy(trusting(Action=None)),
    policy(trusting(Action="s3:GetObject")),
    policy(trusting(Action=[1])),
    policy(trusting(Principal=None)),
    policy(trusting(Principal={})),
    policy(trusting(Principal="everybody")),
    policy(trusting(Principal={"Person": "me"})),
    policy(trusting(NotPrincipal={"AWS": "*"})),
    policy(trusting(Resource="*")),
    policy(trusting(Else="x")),
    policy(trusting(Condition=[])),
    policy(trusting(Condition={"StringAlike": {"a": "b"}})),
    policy(trusting(Condition={"StringLike": "b"})),
    policy(trusting(Condition={"StringLike": {"a": {}}})),
    policy(trusting(Principal={"Federated": "not a provider"})),
    policy(trusting(Principal={"Federated": PROVIDER_ARN + "/nobody"})),
    policy(trusting(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:role/nobody"})),
    policy(trusting(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:role/*"})),
    policy(trusting(Principal={"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/nobody/x"})),
    policy(trusting(Principal={"Service": "no service"})),
]


@pytest.mark.parametrize("document", MALFORMED)
async def test_a_trust_policy_is_refused_when_it_is_none(sandbox: Sandbox, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)

    async with iam_of(sandbox) as iam:
        new = await refusal(iam.create_role(RoleName="ci", AssumeRolePolicyDocument=text))
        old = await refusal(iam.update_assume_role_policy(RoleName="deploy", PolicyDocument=text))

    assert (new.status, new.kind) == (400, "MalformedPolicyDocumentException")
    assert old == new
    assert sandbox.aws.trust_of(sandbox.role_arn) == sandbox.guide_trust()


@pytest.mark.parametrize(
    "principal",
    [
        {"Federated": [PROVIDER_ARN, "accounts.google.com"]},
        {"Federated": f"arn:aws:iam::{ACCOUNT}:saml-provider/corp"},
        {"AWS": f"arn:aws:iam::{ACCOUNT}:role/deploy"},
        {"AWS": f"arn:aws:iam::{ACCOUNT}:user/administrator"},
        {"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/session"},
        {"AWS": "210987654321", "Service": "lambda.amazonaws.com"},
        "*",
    ],
)
async def test_whoever_stands_may_be_trusted(sandbox: Sandbox, principal: object) -> None:
    document = policy(
        trusting(Principal=principal, Action=["sts:AssumeRoleWithWebIdentity", "sts:TagSession"])
    )

    async with iam_of(sandbox) as iam:
        await iam.update_assume_role_policy(
            RoleName="deploy", PolicyDocument=json.dumps(document, indent=4)
        )

    kept = sandbox.aws.trust_of(sandbox.role_arn)
    assert kept["Version"] == "2012-10-17"


async def test_a_trust_policy_has_2048_characters_at_most(sandbox: Sandbox) -> None:
    long = json.dumps(policy(trusting(Sid="a" * 2000)))

    async with iam_of(sandbox) as iam:
        told = await refusal(iam.update_assume_role_policy(RoleName="deploy", PolicyDocument=long))

    assert (told.status, told.kind) == (409, "LimitExceededException")


async def test_an_update_changes_the_duration_the_description_and_nothing_else(
    sandbox: Sandbox,
) -> None:
    async with iam_of(sandbox) as iam:
        await iam.update_role(RoleName="deploy", Description="new", MaxSessionDuration=7200)
        first = (await iam.get_role(RoleName="deploy"))["Role"]
        await iam.update_role(RoleName="deploy", Description="newer")
        second = (await iam.get_role(RoleName="deploy"))["Role"]

    assert (first["Description"], first["MaxSessionDuration"]) == ("new", 7200)
    assert (second["Description"], second["MaxSessionDuration"]) == ("newer", 3600)
    assert second["AssumeRolePolicyDocument"] == sandbox.guide_trust()


async def test_roles_are_listed_in_pages_and_by_path_without_their_tags(sandbox: Sandbox) -> None:
    for number in range(4):
        sandbox.aws.add_role(f"r{number}", trust_policy={}, path="/many/", tags={"a": "b"})
    sandbox.aws.add_role("theirs", trust_policy={}, account="210987654321")

    async with iam_of(sandbox) as iam:
        first = await iam.list_roles(MaxItems=3, PathPrefix="/many/")
        second = await iam.list_roles(Marker=first["Marker"], PathPrefix="/many/")
        everything = await iam.list_roles()

    assert [role["RoleName"] for role in first["Roles"]] == ["r0", "r1", "r2"]
    assert [role["RoleName"] for role in second["Roles"]] == ["r3"]
    assert (first["IsTruncated"], second["IsTruncated"]) == (True, False)
    assert all("Tags" not in role for role in everything["Roles"])
    assert "theirs" not in [role["RoleName"] for role in everything["Roles"]]


async def test_a_paginator_reads_every_role(sandbox: Sandbox) -> None:
    for number in range(5):
        sandbox.aws.add_role(f"r{number}", trust_policy={})

    async with iam_of(sandbox) as iam:
        pages = iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 2})
        names = [role["RoleName"] async for page in pages for role in page["Roles"]]

    assert sorted(names) == ["deploy", "r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"MaxItems": 0}, "ValidationError"),
        ({"MaxItems": 1001}, "ValidationError"),
        ({"Marker": "x"}, "InvalidInput"),
        ({"PathPrefix": "x"}, "ValidationError"),
    ],
)
async def test_roles_are_not_listed_by(sandbox: Sandbox, params: dict[str, Any], code: str) -> None:
    async with iam_of(sandbox) as iam:
        told = await refusal(iam.list_roles(**params))

    assert (told.status, told.code) == (400, code)


async def test_tags_are_added_changed_removed_and_listed(sandbox: Sandbox) -> None:
    async with iam_of(sandbox) as iam:
        await iam.tag_role(RoleName="deploy", Tags=[{"Key": key, "Value": "1"} for key in "abc"])
        await iam.tag_role(RoleName="deploy", Tags=[{"Key": "b", "Value": "2"}])
        await iam.untag_role(RoleName="deploy", TagKeys=["a", "unknown"])
        told = await iam.list_role_tags(RoleName="deploy")

    assert told["Tags"] == [{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "1"}]


async def test_a_role_has_fifty_tags_at_most(sandbox: Sandbox) -> None:
    async with iam_of(sandbox) as iam:
        tags = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
        await iam.tag_role(RoleName="deploy", Tags=tags)
        told = await refusal(iam.tag_role(RoleName="deploy", Tags=[{"Key": "more", "Value": ""}]))

    assert (told.status, told.kind) == (409, "LimitExceededException")


async def test_a_role_is_deleted_only_when_nothing_is_left_on_it(sandbox: Sandbox) -> None:
    sandbox.aws.set_policy(sandbox.role_arn, "p", policy())
    managed = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"

    async with iam_of(sandbox) as iam:
        await iam.attach_role_policy(RoleName="deploy", PolicyArn=managed)
        with_both = await refusal(iam.delete_role(RoleName="deploy"))
        await iam.detach_role_policy(RoleName="deploy", PolicyArn=managed)
        with_one = await refusal(iam.delete_role(RoleName="deploy"))
        await iam.delete_role_policy(RoleName="deploy", PolicyName="p")
        await iam.delete_role(RoleName="deploy")
        gone = await refusal(iam.delete_role(RoleName="deploy"))

    assert {(one.status, one.kind) for one in (with_both, with_one)} == {
        (409, "DeleteConflictException")
    }
    assert (gone.status, gone.kind) == (404, "NoSuchEntityException")
    assert not sandbox.aws.has_role(sandbox.role_arn)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("UpdateRole", {}),
    ("UpdateAssumeRolePolicy", {"PolicyDocument": TRUST}),
    ("TagRole", {"Tags": [{"Key": "a", "Value": "b"}]}),
    ("UntagRole", {"TagKeys": ["a"]}),
    ("DeleteRole", {}),
    ("PutRolePolicy", {"PolicyName": "p", "PolicyDocument": TRUST}),
    ("DeleteRolePolicy", {"PolicyName": "p"}),
    ("AttachRolePolicy", {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
    ("DetachRolePolicy", {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
]
READS: list[tuple[str, dict[str, Any]]] = [
    ("GetRole", {}),
    ("ListRoleTags", {}),
    ("GetRolePolicy", {"PolicyName": "p"}),
    ("ListRolePolicies", {}),
    ("ListAttachedRolePolicies", {}),
]


@pytest.mark.parametrize(("operation", "params"), CHANGES + READS)
async def test_a_role_that_is_not_there_is_not_found(
    sandbox: Sandbox, operation: str, params: dict[str, Any]
) -> None:
    async with iam_of(sandbox) as iam:
        told = await refusal(iam._make_api_call(operation, {"RoleName": "nobody", **params}))

    assert (told.status, told.kind) == (404, "NoSuchEntityException")


@pytest.mark.parametrize(("operation", "params"), CHANGES)
async def test_a_role_of_awss_own_is_not_changed(
    sandbox: Sandbox, operation: str, params: dict[str, Any]
) -> None:
    path = "/aws-service-role/x.amazonaws.com/"
    sandbox.aws.add_role("AWSServiceRoleForX", trust_policy={}, path=path)

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam._make_api_call(operation, {"RoleName": "AWSServiceRoleForX", **params})
        )

    assert (told.status, told.kind) == (400, "UnmodifiableEntityException")


async def test_sts_sees_a_changed_trust_only_when_it_has_spread(
    timed: Sandbox, clock: FakeClock
) -> None:
    timed.aws.propagation_s = 20
    document = json.dumps(timed.guide_trust(subject="ws_2/*"))

    async with iam_of(timed) as iam:
        await iam.update_assume_role_policy(RoleName="deploy", PolicyDocument=document)
        told = (await iam.get_role(RoleName="deploy"))["Role"]["AssumeRolePolicyDocument"]
        await clock.advance(seconds=19)
        early = await assume(timed)
        await clock.advance(seconds=1)
        late = await assume(timed)

    assert told == timed.guide_trust(subject="ws_2/*")
    assert (early.code, late.code) == (None, "AccessDenied")


@pytest.mark.parametrize(
    ("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")]
)
async def test_another_partition_has_arns_and_a_signing_region_of_its_own(
    partition: str, region: str
) -> None:
    async with Sandbox(partition=partition) as sandbox:
        async with iam_of(sandbox, region=region) as iam:
            provider = await iam.list_open_id_connect_providers()
            role = await iam.get_role(RoleName="deploy")
        async with iam_of(sandbox, region="us-east-1") as elsewhere:
            refused = await refusal(elsewhere.get_role(RoleName="deploy"))
        async with client("sts", sandbox, sandbox.aws.administrator(), region=region) as sts:
            caller = await sts.get_caller_identity()
        admitted = await assume(sandbox)

    assert provider["OpenIDConnectProviderList"] == [
        {"Arn": f"arn:{partition}:iam::{ACCOUNT}:oidc-provider/federation.namespaceapis.com"}
    ]
    assert role["Role"]["Arn"] == sandbox.role_arn == f"arn:{partition}:iam::{ACCOUNT}:role/deploy"
    assert refused.code == "SignatureDoesNotMatch"
    assert caller["Arn"].startswith(f"arn:{partition}:iam::")
    assert admitted.texts["Arn"].startswith(f"arn:{partition}:sts::")
    assert sandbox.client_environment()["AWS_REGION"] == region


async def test_iam_is_asked_with_a_signature_only(sandbox: Sandbox) -> None:
    form = {"Action": "ListRoles", "Version": "2010-05-08"}

    async with http() as session, session.post(sandbox.aws.url, data=form) as response:
        text = await response.text()

    assert response.status == 403
    assert "<Code>MissingAuthenticationToken</Code>" in text
    assert REGION not in text
