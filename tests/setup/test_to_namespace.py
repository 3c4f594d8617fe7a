"""What `setup to-namespace` makes in both clouds, and when what exists is as good."""

from typing import Any

import pytest

from broker.config.errors import ConfigError
from broker.policy import identity_may
from broker.setup.documents import policy_of
from broker.setup.resource import Outputs, resolve
from broker.setup.resources import IdentityPool, InlinePolicy, PoolTrust, TrustRelationship
from broker.setup.resources.policies import ActualInlinePolicy
from broker.setup.to_namespace import (
    GET_DEVELOPER_TOKEN,
    GET_WEB_IDENTITY_TOKEN,
    CognitoRequest,
    StsRequest,
    desired_by_cognito,
    desired_by_sts,
    login_line,
    snippet,
    web_identity_statement,
)
from tests.support.setup import PLACE

ROLE = "arn:aws:iam::123456789012:role/ci/builder"
GUIDES = {"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}
GUID = "6f0a1b2c-1111-2222-3333-444455556666"


def by_sts(**said: Any) -> tuple[InlinePolicy, TrustRelationship]:
    wanted = desired_by_sts(StsRequest(role_name="builder", **said), PLACE, role_arn=ROLE)
    _, policy, relationship = wanted
    assert isinstance(policy, InlinePolicy)
    assert isinstance(relationship, TrustRelationship)
    return policy, relationship


def by_cognito(**said: Any) -> tuple[IdentityPool, InlinePolicy, PoolTrust]:
    pool, policy, trusted = desired_by_cognito(CognitoRequest(role_name="builder", **said), PLACE)
    assert isinstance(pool, IdentityPool)
    assert isinstance(policy, InlinePolicy)
    assert isinstance(trusted, PoolTrust)
    return pool, policy, trusted


def allows(inline: InlinePolicy, **context: object) -> bool:
    usual: dict[str, object] = {
        "sts:IdentityTokenAudience": ["https://federation.namespaceapis.com"],
        "sts:SigningAlgorithm": "ES384",
        "sts:DurationSeconds": 300,
    }
    return bool(
        identity_may({"": inline.document}, action=GET_WEB_IDENTITY_TOKEN, context=usual | context)
    )


def test_the_policy_allows_the_daemons_call_and_no_other() -> None:
    policy, _ = by_sts()

    assert policy.name == "allow-get-web-identity-token"
    assert allows(policy)
    assert not allows(policy, **{"sts:IdentityTokenAudience": ["https://example.com"]})
    assert not allows(policy, **{"sts:SigningAlgorithm": "RS256"})
    assert not allows(policy, **{"sts:DurationSeconds": 301})


def test_its_conditions_follow_audience_algorithm_and_duration() -> None:
    policy, _ = by_sts(audience="https://example.com", algorithm="RS256", duration_s=600)

    assert not allows(policy)
    assert allows(
        policy,
        **{
            "sts:IdentityTokenAudience": ["https://example.com"],
            "sts:SigningAlgorithm": "RS256",
            "sts:DurationSeconds": 600,
        },
    )


def test_unconditional_is_the_guides_plain_form() -> None:
    policy, _ = by_sts(unconditional=True)

    assert policy.document == policy_of(GUIDES)


STANDING_FOR_OURS = [
    (GUIDES, "keep"),
    ({**GUIDES, "Action": "sts:*"}, "keep"),
    ({**GUIDES, "Action": ["sts:GetWebIdentityToken", "sts:TagGetWebIdentityToken"]}, "keep"),
    (web_identity_statement(StsRequest(role_name="x", duration_s=600)), "keep"),
    (web_identity_statement(StsRequest(role_name="x", duration_s=60)), "change"),
    (web_identity_statement(StsRequest(role_name="x", audience="https://example.com")), "change"),
    ({**GUIDES, "Effect": "Deny"}, "change"),
    ({**GUIDES, "Action": "sts:AssumeRole"}, "change"),
]


@pytest.mark.parametrize(("statement", "kind"), STANDING_FOR_OURS)
def test_a_policy_that_stands_and_suffices_is_kept(statement: dict[str, Any], kind: str) -> None:
    policy, _ = by_sts()

    planned = policy.diff(ActualInlinePolicy(document=policy_of(statement)))

    assert planned.kind == kind


def test_our_own_statement_with_other_values_is_replaced_in_its_place() -> None:
    policy, _ = by_sts()
    shorter = web_identity_statement(StsRequest(role_name="x", duration_s=60))
    found = ActualInlinePolicy(document=policy_of({**GUIDES, "Action": "sts:TagSession"}, shorter))

    merged = policy.merged_with(found)

    assert merged == policy_of(
        {**GUIDES, "Action": "sts:TagSession"}, web_identity_statement(StsRequest(role_name="x"))
    )


@pytest.mark.parametrize(
    "foreign",
    [
        {**GUIDES, "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
        {**web_identity_statement(StsRequest(role_name="x", duration_s=60)), "Sid": "Theirs"},
        {**GUIDES, "Action": "sts:TagSession"},
    ],
)
def test_a_statement_of_others_in_a_policy_of_our_name_stays_beside_ours(
    foreign: dict[str, Any],
) -> None:
    policy, _ = by_sts()

    merged = policy.merged_with(ActualInlinePolicy(document=policy_of(foreign)))

    assert merged == policy_of(foreign, web_identity_statement(StsRequest(role_name="x")))


def test_a_denial_that_stands_is_kept_and_told_and_not_planned_against_for_ever() -> None:
    policy, _ = by_sts()
    denied = ActualInlinePolicy(document=policy_of({**GUIDES, "Effect": "Deny"}))

    first = policy.diff(denied)
    again = policy.diff(ActualInlinePolicy(document=policy.merged_with(denied)))

    assert (first.kind, again.kind) == ("change", "keep")
    assert "even so, it may not be allowed: allow-get-web-identity-token" in first.note
    assert "denies it" in again.note


def test_a_limited_policy_does_not_suffice_for_an_unlimited_one() -> None:
    policy, _ = by_sts(unconditional=True)

    limited = policy_of(web_identity_statement(StsRequest(role_name="x")))

    assert policy.diff(ActualInlinePolicy(document=limited)).kind == "change"
    assert policy.diff(ActualInlinePolicy(document=policy_of(GUIDES))).kind == "keep"


def test_the_trust_relationship_is_for_the_role_alone_with_its_path_and_our_audience() -> None:
    _, relationship = by_sts()

    assert relationship.subject_match == ROLE
    assert relationship.audience == "https://federation.namespaceapis.com"


def test_any_role_is_trusted_when_asked_for_in_so_many_words() -> None:
    _, relationship = by_sts(subject_match="arn:aws:iam::123456789012:role/*")

    assert relationship.subject_match == "arn:aws:iam::123456789012:role/*"


def test_a_subject_match_that_leaves_the_role_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not match the role arn:aws"):
        by_sts(subject_match="arn:aws:iam::999999999999:role/*")


def test_cognitos_policy_is_for_that_pool_alone() -> None:
    _, policy, _ = by_cognito(pool_id=f"us-west-2:{GUID}")

    arn = f"arn:aws:cognito-identity:us-west-2:123456789012:identitypool/us-west-2:{GUID}"
    policies = {policy.name: policy.document}
    assert policy.name == f"allow-developer-tokens-{GUID}"
    assert identity_may(policies, action=GET_DEVELOPER_TOKEN, resource=arn)
    assert not identity_may(policies, action=GET_DEVELOPER_TOKEN, resource=f"{arn}0")


def test_what_only_a_new_pool_can_say_is_filled_in_once_it_stands() -> None:
    _, policy, trusted = by_cognito()

    known = Outputs(pool_id=f"eu-central-1:{GUID}")

    assert resolve(policy, known) == by_cognito(pool_id=f"eu-central-1:{GUID}")[1]
    assert resolve(trusted, known).guid == GUID


def test_the_snippet_says_what_differs_from_the_daemons_defaults() -> None:
    plain = snippet(StsRequest(role_name="builder"), PLACE)
    other = snippet(StsRequest(role_name="builder", audience='a"b', duration_s=60), PLACE)

    assert "audience" not in plain
    assert 'audience = "a\\"b"' in other
    assert "duration_s = 60" in other


def test_the_login_line_is_the_one_to_run_as_the_role() -> None:
    pool = f"us-west-2:{GUID}"

    assert login_line(StsRequest(role_name="builder", algorithm="RS256"), PLACE) == (
        "namespace-broker login --via sts --workspace ws_1 --region eu-central-1 --algorithm RS256"
    )
    assert login_line(CognitoRequest(role_name="builder"), PLACE, pool_id=pool) == (
        f"namespace-broker login --via cognito --workspace ws_1 --identity-pool {pool}"
    )
