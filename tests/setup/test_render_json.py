"""`--render json`: the desired resources as documents, for programs."""

import json
from typing import Any

from broker.setup.documents import policy_of
from broker.setup.render import rendered
from broker.setup.resources import IamRole, OidcProvider
from tests.support.setup import PROVIDER, READ_ONLY
from tests.support.setup_drafts import DRAFTS, READING


def told(name: str) -> Any:
    return json.loads(rendered(DRAFTS[name], "json"))


def test_each_thing_is_told_with_all_that_it_is_to_be() -> None:
    provider, role = DRAFTS["to-aws"].one_of(OidcProvider), DRAFTS["to-aws"].one_of(IamRole)
    assert provider is not None
    assert role is not None

    document = told("to-aws")

    assert document["account"] == "123456789012"
    assert document["resources"] == [
        {
            "kind": "oidc-provider",
            "arn": PROVIDER,
            "url": "https://federation.namespaceapis.com",
            "audiences": ["sts.amazonaws.com"],
            "thumbprints": list(provider.thumbprints),
            "tags": {"managed-by": "namespace-broker"},
        },
        {
            "kind": "role",
            "arn": "arn:aws:iam::123456789012:role/deploy",
            "name": "deploy",
            "description": role.description,
            "trust_policy": policy_of(role.trust_statement),
            "max_session_duration_s": 7200,
            "tags": {"managed-by": "namespace-broker"},
        },
        {"kind": "attached-policy", "role": "deploy", "arn": READ_ONLY},
        {"kind": "inline-policy", "role": "deploy", "name": "reading", "document": READING},
    ]


def test_what_is_not_known_before_it_stands_is_named() -> None:
    assert told("to-aws")["unknown"] == []
    assert told("sts")["unknown"] == ["<issuer of the account>"]
    assert told("cognito")["unknown"] == ["<guid of the pool>", "<id of the pool>"]
    assert told("cognito-by-id")["unknown"] == []


def test_namespaces_side_is_the_very_relationship_and_the_command_that_makes_it() -> None:
    document = told("sts")

    assert document["resources"][-1] == {
        "kind": "trust-relationship",
        "workspace": "ws_1",
        "entry": {
            "issuer": "<issuer of the account>",
            "subject_match": "arn:aws:iam::123456789012:role/builder",
            "audience": "https://federation.namespaceapis.com",
        },
    }
    assert document["commands"] == [
        "aws iam enable-outbound-web-identity-federation",
        "nsc auth trust-relationships add --issuer '<issuer of the account>' --subject-match"
        " arn:aws:iam::123456789012:role/builder --audience https://federation.namespaceapis.com",
    ]
