"""`--render cloudformation`: a template without warnings, and resource by resource the plan."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker.setup.documents import policy_of
from broker.setup.render import rendered
from broker.setup.render import yaml as our_yaml
from broker.setup.resources import IamRole, InlinePolicy, OidcProvider
from tests.support.clients import SCRIPTS
from tests.support.setup import READ_ONLY
from tests.support.setup_drafts import DRAFTS, READING, cognito_draft, to_aws_draft

TAGS = [{"Key": "managed-by", "Value": "namespace-broker"}]
GUID = {"Fn::Select": [1, {"Fn::Split": [":", {"Ref": "NamespacePool"}]}]}

# What JSON can hold; of texts what Unicode has besides halves of characters.
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["yes", "No", "null", "~", "1e3", "0x1f", "2012-10-17", "=", "a: b", "a #b", "- a", "", "&a"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


def template(name: str) -> Any:
    return yaml.safe_load(rendered(DRAFTS[name], "cloudformation"))


def resource(name: str, of: str) -> Any:
    found = template(of)["Resources"][name]
    return found["Type"], found["Properties"]


@given(VALUES)
def test_whatever_a_document_holds_is_read_back_as_it_was(value: object) -> None:
    assert yaml.safe_load(our_yaml.block({"it": value})) == {"it": value}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_read_back_as_a_text(text: str) -> None:
    read = yaml.safe_load(our_yaml.text(text))

    assert (type(read), read) == (str, text)


def test_cfn_lint_finds_nothing_in_any_template(tmp_path: Path) -> None:
    for name, draft in DRAFTS.items():
        (tmp_path / f"{name}.yaml").write_text(rendered(draft, "cloudformation"))

    linted = subprocess.run(
        [f"{SCRIPTS}/cfn-lint", "--regions", "eu-central-1", "--", *tmp_path.glob("*.yaml")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (linted.returncode, linted.stdout) == (0, ""), linted.stderr


def test_the_provider_is_the_plans() -> None:
    wanted = DRAFTS["to-aws"].one_of(OidcProvider)
    assert wanted is not None

    assert resource("NamespaceProvider", "to-aws") == (
        "AWS::IAM::OIDCProvider",
        {
            "Url": wanted.url,
            "ClientIdList": list(wanted.audiences),
            "ThumbprintList": list(wanted.thumbprints),
            "Tags": TAGS,
        },
    )


def test_the_role_is_the_plans_and_is_made_after_the_provider_that_it_names() -> None:
    wanted = DRAFTS["to-aws"].one_of(IamRole)
    assert wanted is not None

    assert resource("NamespaceRole", "to-aws") == (
        "AWS::IAM::Role",
        {
            "RoleName": "deploy",
            "Description": wanted.description,
            "AssumeRolePolicyDocument": policy_of(wanted.trust_statement),
            "MaxSessionDuration": 7200,
            "ManagedPolicyArns": [READ_ONLY],
            "Tags": TAGS,
        },
    )
    assert template("to-aws")["Resources"]["NamespaceRole"]["DependsOn"] == "NamespaceProvider"


def test_a_policy_of_the_role_that_is_made_refers_to_it() -> None:
    assert resource("NamespacePolicy1", "to-aws") == (
        "AWS::IAM::RolePolicy",
        {
            "RoleName": {"Ref": "NamespaceRole"},
            "PolicyName": "reading",
            "PolicyDocument": READING,
        },
    )


def test_a_role_that_stands_is_given_its_policy() -> None:
    wanted = DRAFTS["sts"].one_of(InlinePolicy)
    assert wanted is not None

    assert resource("NamespacePolicy1", "sts") == (
        "AWS::IAM::RolePolicy",
        {
            "RoleName": "builder",
            "PolicyName": "allow-get-web-identity-token",
            "PolicyDocument": wanted.document,
        },
    )


def test_the_pools_id_is_filled_in_by_cloudformation() -> None:
    assert resource("NamespacePool", "cognito") == (
        "AWS::Cognito::IdentityPool",
        {
            "IdentityPoolName": "namespace",
            "AllowUnauthenticatedIdentities": False,
            "DeveloperProviderName": "namespace.so",
            "IdentityPoolTags": TAGS,
        },
    )
    _, policy = resource("NamespacePolicy1", "cognito")
    assert policy["PolicyName"] == {"Fn::Join": ["", ["allow-developer-tokens-", GUID]]}
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Resource"] == {
        "Fn::Join": [
            "",
            [
                "arn:aws:cognito-identity:eu-central-1:123456789012:identitypool/",
                {"Ref": "NamespacePool"},
            ],
        ]
    }
    assert template("cognito")["Outputs"]["NamespaceCommand"]["Value"] == {
        "Fn::Join": [
            "",
            [
                "nsc auth trust-aws-cognito-identity-pool --aws_region eu-central-1"
                " --identity_pool ",
                GUID,
                " --tenant_id ws_1",
            ],
        ]
    }


def test_a_pool_that_was_named_by_its_id_is_not_made() -> None:
    assert list(template("cognito-by-id")["Resources"]) == ["NamespacePolicy1"]


def test_nothing_is_substituted_in_what_was_said() -> None:
    policy = {"Statement": [{"Resource": "${AWS::AccountId}/<id of the pool>"}]}
    draft = to_aws_draft(subject="ws_1/${x}'\"", policies={"own": policy})

    text = rendered(draft, "cloudformation")

    own = yaml.safe_load(text)["Resources"]["NamespacePolicy1"]["Properties"]["PolicyDocument"]
    assert own == policy
    assert "Fn::Sub" not in text
    assert json.dumps("ws_1/${x}'\"") in text
    assert "Fn::Join" in rendered(cognito_draft(), "cloudformation")
