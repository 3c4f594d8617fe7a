"""`--render terraform`: a configuration that parses, and is resource by resource the plan."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import hcl2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.setup import to_aws
from broker.setup.documents import policy_of
from broker.setup.render import hcl, rendered
from broker.setup.resource import Placeholder
from broker.setup.resources import IamRole, InlinePolicy, OidcProvider
from broker.setup.to_aws import ToAwsRequest
from tests.support.setup import PLACE, READ_ONLY
from tests.support.setup_drafts import DRAFTS, READING, draft, to_aws_draft

TAGS = {"managed-by": "namespace-broker"}
ROLE, POOL = "aws_iam_role.namespace", "aws_cognito_identity_pool.namespace"
LETTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from('$%{}"\\\n')
TEXTS = st.text(LETTERS)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
IN_QUOTES = re.compile(
    r"\\u(?P<four>[0-9a-f]{4})|\\U(?P<eight>[0-9a-f]{8})|\\(?P<one>.)"
    r"|(?P<mark>[$%])(?P=mark)\{|(?P<template>[$%]\{)|(?P<plain>[^\"\\\n])"
)


def value_of(quoted: str) -> str:
    """Read a quoted template, by HCL's own rules; one with something to fill in is an error."""
    inner, at, value = quoted[1:-1], 0, ""
    while at < len(inner):
        found = IN_QUOTES.match(inner, at)
        assert found is not None
        assert not found["template"], f"{quoted} is filled in"
        at = found.end()
        if hexadecimal := found["four"] or found["eight"]:
            value += chr(int(hexadecimal, 16))
        elif found["one"]:
            value += ESCAPES[found["one"]]
        else:
            value += f"{found['mark']}{{" if found["mark"] else found["plain"]
    return value


def read(value: Any) -> Any:
    """Return what the parser told as values; what is filled in stays in its braces."""
    if isinstance(value, Mapping):
        pairs = value.items()
        return {unquoted(name): read(one) for name, one in pairs if name != "__is_block__"}
    if isinstance(value, list):
        return [read(one) for one in value]
    return unquoted(value) if isinstance(value, str) else value


def unquoted(text: str) -> str:
    if not text.startswith('"') or re.search(r"(?<!\$)\$\{(?:local|aws_)", text):
        return text.strip('"')
    return value_of(text)


def parsed(text: str) -> Any:
    return read(hcl2.loads(text))


def resources(name: str) -> dict[str, Any]:
    """Return the arguments of each resource, by its address."""
    found = parsed(rendered(DRAFTS[name], "terraform"))["resource"]
    return {
        f"{kind}.{own}": arguments
        for one in found
        for kind, named in one.items()
        for own, arguments in named.items()
    }


def document_of(argument: str) -> Any:
    """Return what `jsonencode` is given."""
    inner = argument.removeprefix("${jsonencode(").removesuffix(")}")
    return parsed(f"it = {inner}\n")["it"]


@given(TEXTS)
def test_a_text_is_read_back_as_it_was(text: str) -> None:
    assert value_of(hcl.text(text, {})) == text


@given(TEXTS)
def test_the_parser_takes_any_text_for_one_text(text: str) -> None:
    written = hcl.text(text, {})

    assert hcl2.loads(f"it = {written}\n")["it"] == written


@given(TEXTS)
def test_what_is_filled_in_is_no_part_of_what_stands_before_it(text: str) -> None:
    assume(Placeholder.POOL_ID.value not in text)

    filled = hcl.text(f"{text}{Placeholder.POOL_ID.value}", {Placeholder.POOL_ID: "x.id"})

    assert filled.endswith('${x.id}"')
    assert value_of(filled.removesuffix('${x.id}"') + '"') == text


@pytest.mark.parametrize("name", DRAFTS)
def test_every_configuration_works_in_no_other_account_and_region(name: str) -> None:
    (provider,) = parsed(rendered(DRAFTS[name], "terraform"))["provider"]

    assert provider["aws"] == {
        "region": "eu-central-1",
        "allowed_account_ids": ["123456789012"],
    }


def test_a_profile_that_was_said_is_terraforms() -> None:
    draft = replace(DRAFTS["to-aws"], profile="boss")

    (provider,) = parsed(rendered(draft, "terraform"))["provider"]

    assert provider["aws"]["profile"] == "boss"


def test_resource_by_resource_it_is_the_plan_to_aws() -> None:
    provider, role = DRAFTS["to-aws"].one_of(OidcProvider), DRAFTS["to-aws"].one_of(IamRole)
    assert provider is not None
    assert role is not None

    found = resources("to-aws")

    assert found["aws_iam_openid_connect_provider.namespace"] == {
        "url": provider.url,
        "client_id_list": list(provider.audiences),
        "thumbprint_list": list(provider.thumbprints),
        "tags": TAGS,
    }
    trust = found["aws_iam_role.namespace"].pop("assume_role_policy")
    assert document_of(trust) == policy_of(role.trust_statement)
    assert found["aws_iam_role.namespace"] == {
        "name": "deploy",
        "description": role.description,
        "max_session_duration": 7200,
        "tags": TAGS,
        "depends_on": ["${aws_iam_openid_connect_provider.namespace}"],
    }
    assert found["aws_iam_role_policy_attachment.namespace_1"] == {
        "role": f"${{{ROLE}.name}}",
        "policy_arn": READ_ONLY,
    }
    assert document_of(found["aws_iam_role_policy.namespace_1"].pop("policy")) == READING
    assert found["aws_iam_role_policy.namespace_1"] == {
        "name": "reading",
        "role": f"${{{ROLE}.name}}",
    }
    assert len(found) == 4


def test_a_role_that_stands_is_given_its_policy() -> None:
    wanted = DRAFTS["sts"].one_of(InlinePolicy)
    assert wanted is not None

    (found,) = resources("sts").values()

    assert document_of(found.pop("policy")) == wanted.document
    assert found == {"name": "allow-get-web-identity-token", "role": "builder"}


def test_the_pools_id_is_filled_in_by_terraform() -> None:
    found = resources("cognito")

    assert found[POOL] == {
        "identity_pool_name": "namespace",
        "allow_unauthenticated_identities": False,
        "developer_provider_name": "namespace.so",
        "tags": TAGS,
    }
    policy = found["aws_iam_role_policy.namespace_1"]
    assert policy["name"] == "allow-developer-tokens-${local.pool_guid}"
    (statement,) = document_of(policy["policy"])["Statement"]
    assert statement["Resource"] == (
        f"arn:aws:cognito-identity:eu-central-1:123456789012:identitypool/${{{POOL}.id}}"
    )
    assert len(found) == 2


def test_a_pool_that_was_named_by_its_id_is_not_made() -> None:
    assert list(resources("cognito-by-id")) == ["aws_iam_role_policy.namespace_1"]


def test_nothing_is_substituted_in_what_was_said() -> None:
    policy = {"Statement": [{"Resource": "${aws:username}%{if}$${x}<id of the pool>\"'"}]}

    text = rendered(to_aws_draft(policies={"own": policy}), "terraform")

    own = re.search(r"\n  policy = jsonencode\((.*?\n  \})\)", text, re.DOTALL)
    assert own is not None
    assert parsed(f"it = {own[1]}\n")["it"] == policy


def test_destroying_it_never_switches_federation_off() -> None:
    text = rendered(DRAFTS["sts"], "terraform")

    assert "# Terraform has aws_iam_outbound_web_identity_federation" in text
    assert 'resource "aws_iam_outbound_web_identity_federation"' not in text


def test_a_provider_without_thumbprints_needs_a_plugin_that_takes_one() -> None:
    target, issuer = PLACE, "https://token.actions.githubusercontent.com"
    request = ToAwsRequest(role_name="deploy", issuer=issuer, subject="repo:acme/app:*")

    written = rendered(draft(*to_aws.desired_resources(request, target)), "terraform")

    assert 'version = ">= 5.82"' in written
    assert "thumbprint" not in written
    assert 'version = ">= 5.0"' in rendered(DRAFTS["to-aws"], "terraform")
