"""Whom a trust policy admits, and which condition is named when it does not."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy import (
    Verdict,
    identity_may,
    relationship_admits,
    relationships_admit,
    role_admits_principal,
    role_admits_web_identity,
)

HOST = "federation.namespaceapis.com"
PROVIDER = f"arn:aws:iam::123456789012:oidc-provider/{HOST}"
CLAIMS: Mapping[str, object] = {
    "iss": f"https://{HOST}",
    "aud": "sts.amazonaws.com",
    "sub": "ws_1/i-abc",
    "tenant_id": "ws_1",
}
ROLE_SESSION = "arn:aws:sts::123456789012:assumed-role/base/here"
BASE_ROLE = "arn:aws:iam::123456789012:role/base"

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def statement(**elements: object) -> dict[str, object]:
    """Return a statement that admits the provider's every token, but for *elements*."""
    return {
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": PROVIDER},
    } | elements


def policy(*statements: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def judged(*statements: object, **claims: object) -> Verdict:
    return role_admits_web_identity(
        policy(*statements), provider_arn=PROVIDER, claims={**CLAIMS, **claims}
    )


def with_condition(operator: str, key: str, wanted: object) -> dict[str, object]:
    return statement(Condition={operator: {key: wanted}})


def test_the_policy_of_the_guide_admits_the_workspace_it_names() -> None:
    guide = statement(
        Condition={"StringLike": {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:sub": "ws_1/*"}}
    )

    assert judged(guide)
    assert judged(guide, sub="ws_1/user_1")
    assert not judged(guide, sub="ws_10/i-abc")
    assert not judged(guide, aud="else.example")


@pytest.mark.parametrize(
    ("refusing", "reason"),
    [
        pytest.param(
            with_condition("StringLike", f"{HOST}:sub", "ws_2/*"),
            f"statement 1: condition StringLike {HOST}:sub wants 'ws_2/*', "
            "the token has 'ws_1/i-abc'",
            id="subject",
        ),
        pytest.param(
            with_condition("StringEquals", f"{HOST}:sub", ["ws_1/*", "ws_2/*"]),
            f"statement 1: condition StringEquals {HOST}:sub wants one of 'ws_1/*', 'ws_2/*', "
            "the token has 'ws_1/i-abc' (wildcards need StringLike)",
            id="wildcard-without-like",
        ),
        pytest.param(
            with_condition("StringEquals", f"{HOST}:amr", "mfa"),
            f"statement 1: condition StringEquals {HOST}:amr wants 'mfa', the token has none",
            id="absent-claim",
        ),
        pytest.param(
            with_condition("StringNotLike", f"{HOST}:sub", "ws_1/*"),
            f"statement 1: condition StringNotLike {HOST}:sub refuses 'ws_1/*', "
            "the token has 'ws_1/i-abc'",
            id="negated",
        ),
        pytest.param(
            with_condition("Null", f"{HOST}:sub", "true"),
            f"statement 1: condition Null {HOST}:sub wants 'true', the token has 'ws_1/i-abc'",
            id="null",
        ),
        pytest.param(
            with_condition("BinaryEquals", f"{HOST}:sub", "QUFB"),
            "statement 1: condition operator 'BinaryEquals' is not evaluated here",
            id="unknown-operator",
        ),
        pytest.param(
            statement(Action="sts:AssumeRole"),
            "statement 1: Action is 'sts:AssumeRole', "
            "the request is for 'sts:AssumeRoleWithWebIdentity'",
            id="action",
        ),
        pytest.param(
            statement(Principal={"Federated": "cognito-identity.amazonaws.com"}),
            "statement 1: Principal Federated is 'cognito-identity.amazonaws.com', "
            f"the caller is '{PROVIDER}'",
            id="principal",
        ),
        pytest.param(statement(Effect="Deny"), "statement 1 denies it", id="deny"),
    ],
)
def test_a_refusal_names_the_condition_that_fails(refusing: object, reason: str) -> None:
    verdict = judged(refusing)

    assert (verdict.admitted, verdict.reason) == (False, reason)


def test_every_statement_that_is_about_the_request_and_does_not_admit_says_why() -> None:
    verdict = judged(
        with_condition("StringLike", f"{HOST}:sub", "ws_2/*"),
        statement(Action="sts:TagSession"),
        with_condition("StringLike", f"{HOST}:sub", "ws_3/*"),
    )

    assert verdict.reason.startswith("statement 1: condition StringLike")
    assert "; statement 3: condition StringLike" in verdict.reason
    assert "statement 2" not in verdict.reason


def test_where_no_statement_is_about_the_request_each_says_what_it_is_about() -> None:
    verdict = judged(
        statement(Action="sts:TagSession"), statement(Principal={"Service": "ec2.amazonaws.com"})
    )

    assert verdict.reason == (
        "statement 1: Action is 'sts:TagSession', "
        "the request is for 'sts:AssumeRoleWithWebIdentity'; "
        f"statement 2: Principal Federated is none, the caller is '{PROVIDER}'"
    )


def test_a_policy_without_statements_admits_nobody() -> None:
    verdict = judged()

    assert verdict.reason == "no statement allows sts:AssumeRoleWithWebIdentity"


def test_a_token_of_another_issuer_is_told_apart_before_any_statement() -> None:
    verdict = judged(statement(), iss="https://else.example")

    assert verdict.reason == f"the token is from 'else.example', the provider is '{HOST}'"


def test_one_deny_that_applies_wins_over_every_allow() -> None:
    deny = statement(Effect="Deny", Condition={"StringLike": {f"{HOST}:sub": "*/i-abc"}})

    assert judged(statement(), deny).reason == "statement 2 denies it"
    assert judged(deny, statement(), sub="ws_1/i-xyz").reason == "statement 2 admits it"


def test_a_deny_that_cannot_be_judged_is_taken_to_apply() -> None:
    deny = statement(Effect="Deny", Condition={"DateLessThan": {"aws:CurrentTime": "2030-01-01"}})

    assert judged(statement(), deny).reason.startswith("statement 2 may deny it")


def test_a_deny_whose_known_condition_fails_does_not_apply_whatever_the_unknown_one() -> None:
    deny = statement(
        Effect="Deny",
        Condition={"Bool": {"aws:MFA": "true"}, "StringLike": {f"{HOST}:sub": "ws_2/*"}},
    )

    assert judged(statement(), deny)


@pytest.mark.parametrize(
    "element",
    [
        {"Action": ["sts:TagSession", "STS:assumerolewith*"]},
        {"Action": "*"},
        {"Action": "sts:AssumeRole?ithWebIdentity"},
        {"Principal": "*"},
        {"Principal": {"Federated": ["accounts.google.com", PROVIDER]}},
    ],
)
def test_actions_and_principals_may_be_lists_and_actions_wildcards(
    element: dict[str, object],
) -> None:
    assert judged(statement(**element))


def test_a_single_statement_need_not_be_in_a_list() -> None:
    verdict = role_admits_web_identity(
        {"Statement": statement()}, provider_arn=PROVIDER, claims=CLAIMS
    )

    assert verdict


def test_condition_keys_and_operator_names_are_compared_without_case() -> None:
    assert judged(with_condition("stringlike", f"{HOST.upper()}:SUB", "ws_1/*"))


OPERATORS = [
    ("StringEquals", "a", "a", True),
    ("StringEquals", "a", "A", False),
    ("StringEquals", ["x", "a"], "a", True),
    ("StringEqualsIgnoreCase", "A", "a", True),
    ("StringNotEquals", ["x", "a"], "a", False),
    ("StringNotEquals", "x", "a", True),
    ("StringNotEquals", "a", None, True),
    ("StringNotEqualsIgnoreCase", "A", "a", False),
    ("StringLike", "a*c", "a/b:c", True),
    ("StringLike", "a?c", "abc", True),
    ("StringLike", "a?c", "ac", False),
    ("StringLike", "a?c", "abbc", False),
    ("StringLike", "a${*}c", "a*c", True),
    ("StringLike", "a${*}c", "abc", False),
    ("StringLike", "A*", "abc", False),
    ("StringLike", "a", None, False),
    ("StringNotLike", "a*", "abc", False),
    ("StringNotLike", "a*", "xyz", True),
    ("StringLikeIfExists", "a*", None, True),
    ("StringLikeIfExists", "a*", "xyz", False),
    ("StringEqualsIfExists", "a", None, True),
    ("Null", "true", None, True),
    ("Null", True, None, True),
    ("Null", "false", None, False),
    ("Null", "false", "a", True),
    ("NullIfExists", "true", None, None),
    ("ForAnyValue:StringEquals", ["a", "b"], ["x", "b"], True),
    ("ForAnyValue:StringEquals", ["a", "b"], ["x", "y"], False),
    ("ForAnyValue:StringEquals", "a", None, False),
    ("ForAnyValue:StringEqualsIfExists", "a", None, True),
    ("ForAnyValue:StringNotEquals", "a", ["a", "b"], True),
    ("ForAnyValue:StringNotEquals", "a", ["a"], False),
    ("ForAllValues:StringEquals", ["a", "b"], ["b", "a"], True),
    ("ForAllValues:StringEquals", ["a", "b"], ["b", "c"], False),
    ("ForAllValues:StringEquals", "a", None, True),
    ("ForAllValues:StringEquals", "a", [], True),
    ("ForAllValues:StringEqualsIfExists", "a", ["b"], False),
    ("ForAllValues:StringEqualsIfExists", "a", None, True),
    ("ForAllValues:StringNotLike", "a*", ["b", "c"], True),
    ("ForAllValues:StringNotLike", "a*", ["b", "abc"], False),
    ("StringEquals", "7", 7, True),
    ("StringEquals", "true", True, True),
    ("NumericEquals", "7", 7, True),
    ("NumericEquals", "7", "7.0", True),
    ("NumericEquals", 7, 8, False),
    ("NumericNotEquals", 7, 8, True),
    ("NumericNotEquals", 7, 7, False),
    ("NumericLessThan", 7, 7, False),
    ("NumericLessThan", 7, 6, True),
    ("NumericLessThanEquals", 300, 300, True),
    ("NumericLessThanEquals", "300", 301, False),
    ("NumericLessThanEquals", 300, None, False),
    ("NumericLessThanEqualsIfExists", 300, None, True),
    ("NumericLessThanEquals", 300, "many", False),
    ("NumericLessThanEquals", "many", 300, None),
    ("NumericGreaterThan", 7, 8, True),
    ("NumericGreaterThan", 7, 7, False),
    ("NumericGreaterThanEquals", 7, 7, True),
    ("NumericGreaterThanEquals", -7, -8, False),
    ("ArnEquals", "arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a/b", True),
    ("ArnLike", "arn:aws:iam::*:role/a", "arn:aws:iam::12:role/a", True),
    ("ArnLike", "arn:aws:*:role/a", "arn:aws:iam::12:role/a", None),
    ("ArnLike", "arn:aws:iam:*:role/a:*", "arn:aws:iam:x:y:role/a:b", False),
    ("ArnLike", "arn:aws:iam::1:role/a", "role/a", False),
    ("ArnLike", "arn:aws:iam::1:role/a", None, False),
    ("ArnNotEquals", "arn:aws:iam::1:role/*", "arn:aws:iam::1:role/a", False),
    ("ArnNotLike", "arn:aws:iam::1:role/*", "arn:aws:iam::2:role/a", True),
    ("Bool", "true", True, True),
    ("Bool", True, "TRUE", True),
    ("Bool", "false", True, False),
    ("Bool", "true", None, False),
    ("BoolIfExists", "true", None, True),
    ("Bool", "perhaps", True, None),
    ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
    ("IpAddress", ["192.0.2.0/24", "10.0.0.0/8"], "10.1.2.3", True),
    ("IpAddress", "10.1.2.3", "10.1.2.3", True),
    ("IpAddress", "10.0.0.0/8", "2001:db8::1", False),
    ("IpAddress", "2001:db8::/32", "2001:db8::1", True),
    ("IpAddress", "10.0.0.0/8", "here", False),
    ("IpAddress", "everywhere", "10.1.2.3", None),
    ("NotIpAddress", "10.0.0.0/8", "10.1.2.3", False),
    ("NotIpAddress", "10.0.0.0/8", "192.0.2.1", True),
    ("DateLessThan", "2030-01-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
    ("DateLessThan", "2030-01-01", "2030-01-01T00:00:00Z", False),
    ("DateLessThanEquals", "2030-01-01", "2030-01-01T00:00:00Z", True),
    ("DateGreaterThan", "2030-01-01", 1893456001, True),
    ("DateGreaterThanEquals", 1893456000, "2030-01-01T00:00:00Z", True),
    ("DateEquals", "2030-01-01T01:00:00+01:00", "2030-01-01", True),
    ("DateNotEquals", "2030-01-01", "2030-01-01", False),
    ("DateLessThan", "soon", "2026-01-01", None),
    ("DateLessThan", "2030-01-01", "soon", False),
    ("BinaryEquals", "QUFB", "QUFB", None),
    ("BoolNotEquals", "true", True, None),
    ("StringLike", "${aws:username}/*", "a/b", None),
    ("StringLike", ["${aws:username}/*", "a/*"], "a/b", True),
    ("StringNotLike", ["${aws:username}/*", "a/*"], "a/b", False),
    ("StringNotLike", ["${aws:username}/*", "x/*"], "a/b", None),
    ("StringLike", "${aws:username}/*", None, False),
]


@pytest.mark.parametrize(("operator", "wanted", "has", "holds"), OPERATORS)
def test_an_operator_holds_as_aws_documents_it(
    operator: str, wanted: object, has: object, holds: bool | None
) -> None:
    claims = {} if has is None else {"email": has}

    verdict = judged(with_condition(operator, f"{HOST}:email", wanted), **claims)

    [judgement] = verdict.statements
    assert judgement.checks[-1].holds is holds
    assert verdict.admitted is (holds is True)
    assert verdict.undecided is (holds is None)


def test_every_check_of_a_statement_is_told_with_what_it_wants_and_what_was_presented() -> None:
    guide = statement(
        Condition={"StringLike": {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:sub": "ws_2/*"}}
    )

    verdict = judged(guide)

    [judgement] = verdict.statements
    assert (judgement.place, judgement.effect, judgement.applies) == ("statement 1", "Allow", False)
    assert [(check.element, check.holds) for check in judgement.checks] == [
        ("Action", True),
        ("Principal", True),
        ("Condition", True),
        ("Condition", False),
    ]
    subject = judgement.checks[-1]
    assert (subject.operator, subject.key) == ("StringLike", f"{HOST}:sub")
    assert (subject.expected, subject.presented) == (("ws_2/*",), ("ws_1/i-abc",))


def test_all_conditions_that_fail_are_named_not_only_the_first() -> None:
    guide = statement(
        Condition={"StringLike": {f"{HOST}:aud": "namespace.so", f"{HOST}:sub": "ws_2/*"}}
    )

    assert judged(guide).reason == (
        f"statement 1: condition StringLike {HOST}:aud wants 'namespace.so', "
        "the token has 'sts.amazonaws.com' and "
        f"condition StringLike {HOST}:sub wants 'ws_2/*', the token has 'ws_1/i-abc'"
    )


def test_a_claim_that_aws_does_not_read_is_told_as_such() -> None:
    hoping = with_condition("StringEquals", f"{HOST}:tenant_id", "ws_1")

    verdict = judged(hoping)

    assert verdict.reason.endswith(
        "the token has none that AWS reads (of a token it reads only amr, aud, azp, email and sub)"
    )


@pytest.mark.parametrize("operator", ["IpAddress", "NotIpAddress", "IpAddressIfExists"])
def test_a_key_of_aws_that_nothing_is_known_about_leaves_it_undecided(operator: str) -> None:
    elsewhere = with_condition(operator, "aws:SourceIp", "10.0.0.0/8")

    verdict = judged(elsewhere)

    assert (verdict.admitted, verdict.undecided) == (False, True)
    assert verdict.reason == (
        f"statement 1: condition {operator} aws:SourceIp wants '10.0.0.0/8', "
        "aws:SourceIp is not known here"
    )


def test_a_key_that_is_not_in_a_whole_context_is_absent() -> None:
    trusting = policy(with_condition("NotIpAddress", "aws:SourceIp", "10.0.0.0/8"))

    verdict = role_admits_web_identity(
        trusting, provider_arn=PROVIDER, claims=CLAIMS, context_is_whole=True
    )

    assert verdict


def test_in_a_policy_of_the_old_version_a_variable_is_plain_text() -> None:
    old = {
        "Version": "2008-10-17",
        "Statement": [with_condition("StringEquals", f"{HOST}:email", "${aws:username}")],
    }

    verdict = role_admits_web_identity(
        old, provider_arn=PROVIDER, claims={**CLAIMS, "email": "${aws:username}"}
    )

    assert verdict


def test_a_resource_with_a_variable_is_not_evaluated_unless_another_one_matches() -> None:
    hanging = "arn:aws:s3:::b/${aws:username}"

    unknown = may(allow(resource=hanging), resource="arn:aws:s3:::b/x")
    known = may(allow(resource=[hanging, "arn:aws:s3:::b/*"]), resource="arn:aws:s3:::b/x")

    assert (unknown.admitted, unknown.undecided) == (False, True)
    assert known


@pytest.mark.parametrize(
    ("principal", "admitted"),
    [
        ({"NotPrincipal": {"Federated": PROVIDER}}, False),
        ({"NotPrincipal": {"Federated": "accounts.google.com"}}, True),
        ({"NotPrincipal": "*"}, False),
    ],
)
def test_who_is_excluded_is_not_admitted(principal: dict[str, object], admitted: bool) -> None:
    excluding = statement(**principal)
    del excluding["Principal"]

    assert judged(excluding).admitted is admitted


def test_an_action_that_is_excluded_is_not_admitted() -> None:
    excluding = statement(NotAction=["sts:AssumeRoleWithWebIdentity"])
    del excluding["Action"]

    assert judged(excluding).reason.startswith("statement 1: NotAction is")


def test_a_token_with_azp_shows_that_as_aud_and_its_aud_as_oaud() -> None:
    both = statement(
        Condition={"StringEquals": {f"{HOST}:aud": "app", f"{HOST}:oaud": "sts.amazonaws.com"}}
    )

    assert judged(both, azp="app")


def test_keys_beside_the_claims_come_from_the_context() -> None:
    named = with_condition("StringLike", "sts:RoleSessionName", "nsc.*")

    verdict = role_admits_web_identity(
        policy(named),
        provider_arn=PROVIDER,
        claims=CLAIMS,
        context={"sts:RoleSessionName": "nsc.instance=abc"},
    )

    assert verdict


# What an identity's own policies allow.

GET_TOKEN = "sts:GetWebIdentityToken"
POOL = "arn:aws:cognito-identity:eu-central-1:123456789012:identitypool/eu-central-1:1"


def may(
    *statements: object, action: str = GET_TOKEN, resource: str = "*", **keys: object
) -> Verdict:
    context = {f"sts:{key}": value for key, value in keys.items()}
    return identity_may(
        {"p": policy(*statements)}, action=action, resource=resource, context=context
    )


def allow(action: object = GET_TOKEN, resource: object = "*", **more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([], "no statement allows sts:GetWebIdentityToken"),
        (
            [allow("sts:AssumeRole")],
            "p statement 1: Action is 'sts:AssumeRole', the request is for",
        ),
        ([allow(resource=POOL)], f"p statement 1: Resource is '{POOL}', the request is for '*'"),
        ([{"Effect": "Allow", "Action": "*"}], "p statement 1: Resource is none"),
        ([allow("*"), {**allow("sts:Get*"), "Effect": "Deny"}], "p statement 2 denies it"),
        (
            [allow(Condition={"NumericLessThanEquals": {"sts:DurationSeconds": 300}})],
            "p statement 1: condition NumericLessThanEquals sts:DurationSeconds wants '300', "
            "the request has '600'",
        ),
        (
            [allow(Condition={"NumericLessThan": {"sts:DurationSeconds": "many"}})],
            "p statement 1: condition NumericLessThan sts:DurationSeconds wants 'many', "
            "the request has '600' (such a value: not evaluated here)",
        ),
    ],
)
def test_an_identity_may_not_and_the_reason_is_told(statements: list[object], reason: str) -> None:
    verdict = may(*statements, DurationSeconds=600)

    assert not verdict
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("granted", "resource"),
    [
        (allow("*"), "*"),
        (allow("sts:Get*"), "*"),
        (allow(["x:Y", "STS:getwebidentitytoken"]), "*"),
        ({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "x"}, "*"),
        (allow(resource=POOL), POOL),
        (allow(resource=[POOL.replace("eu-central-1:1", "*")]), POOL),
    ],
)
def test_an_identity_may_what_one_statement_allows(
    granted: dict[str, object], resource: str
) -> None:
    assert may(granted, resource=resource)


def test_a_deny_in_one_policy_stands_over_an_allow_in_another() -> None:
    policies = {"yes": policy(allow()), "no": policy({**allow(), "Effect": "Deny"})}

    verdict = identity_may(policies, action=GET_TOKEN)

    assert (verdict.admitted, verdict.reason) == (False, "no statement 1 denies it")


def test_without_any_policy_an_identity_may_nothing() -> None:
    assert not identity_may({}, action=GET_TOKEN)


@pytest.mark.parametrize(
    ("audiences", "admitted"), [(["a"], True), (["a", "b"], True), (["a", "x"], False), ([], True)]
)
def test_all_audiences_asked_for_have_to_be_allowed(audiences: list[str], admitted: bool) -> None:
    condition = {"ForAllValues:StringEquals": {"sts:IdentityTokenAudience": ["a", "b"]}}

    verdict = may(allow(Condition=condition), IdentityTokenAudience=audiences)

    assert verdict.admitted is admitted


@given(document=JSON)
def test_a_policy_that_is_no_policy_allows_nothing_and_breaks_nothing(document: object) -> None:
    given_as: Any = {"p": document, "q": {"Statement": document}}

    verdict = identity_may(given_as, action=GET_TOKEN)

    assert not verdict
    assert verdict.reason


@pytest.mark.parametrize(
    ("admitted_name", "admitted"),
    [
        (ROLE_SESSION, True),
        (BASE_ROLE, True),
        ("123456789012", True),
        ("arn:aws:iam::123456789012:root", True),
        ("*", True),
        ("arn:aws:iam::210987654321:root", False),
        ("arn:aws:iam::123456789012:role/*", False),
    ],
)
def test_a_principal_is_admitted_by_any_of_its_names(admitted_name: str, admitted: bool) -> None:
    trusting = policy(statement(Action="sts:AssumeRole", Principal={"AWS": admitted_name}))

    verdict = role_admits_principal(trusting, principal_arns=[ROLE_SESSION, BASE_ROLE])

    assert verdict.admitted is admitted


def test_an_external_id_is_a_condition_on_the_request() -> None:
    trusting = policy(
        statement(
            Action="sts:AssumeRole",
            Principal={"AWS": BASE_ROLE},
            Condition={"StringEquals": {"sts:ExternalId": "x-1"}},
        )
    )

    without = role_admits_principal(trusting, principal_arns=[BASE_ROLE], context_is_whole=True)
    with_it = role_admits_principal(
        trusting, principal_arns=[BASE_ROLE], context={"sts:ExternalId": "x-1"}
    )

    assert without.reason == (
        "statement 1: condition StringEquals sts:ExternalId wants 'x-1', the request has none"
    )
    assert with_it


AWS_ISSUER = "https://0f9c.tokens.sts.global.api.aws"
AWS_CLAIMS: Mapping[str, object] = {
    "iss": AWS_ISSUER,
    "sub": "arn:aws:iam::123456789012:role/ci",
    "aud": "https://federation.namespaceapis.com",
}


@pytest.mark.parametrize(
    ("relationship", "reason"),
    [
        ({"issuer": AWS_ISSUER, "subject_match": "arn:aws:iam::123456789012:role/ci"}, None),
        ({"issuer": AWS_ISSUER, "subject_match": "arn:aws:iam::123456789012:role/*"}, None),
        ({"issuer": AWS_ISSUER, "subject_match": "arn:*:role/ci"}, None),
        ({"issuer": AWS_ISSUER, "subject_match": "*", "audience": AWS_CLAIMS["aud"]}, None),
        (
            {"issuer": AWS_ISSUER + "/", "subject_match": "*"},
            f"issuer wants '{AWS_ISSUER}/', the token has '{AWS_ISSUER}'",
        ),
        (
            {"issuer": AWS_ISSUER, "subject_match": "arn:aws:iam::123456789012:role/c?"},
            "subject_match wants 'arn:aws:iam::123456789012:role/c?', "
            "the token has 'arn:aws:iam::123456789012:role/ci'",
        ),
        (
            {"issuer": AWS_ISSUER, "subject_match": "*", "audience": "namespace.so"},
            "audience wants 'namespace.so', the token has 'https://federation.namespaceapis.com'",
        ),
        (
            {"issuer": AWS_ISSUER},
            "subject_match wants '', the token has 'arn:aws:iam::123456789012:role/ci'",
        ),
        ({}, f"issuer wants '', the token has '{AWS_ISSUER}'"),
    ],
)
def test_a_trust_relationship_admits_by_issuer_subject_and_audience(
    relationship: dict[str, object], reason: str | None
) -> None:
    verdict = relationship_admits(relationship, claims=AWS_CLAIMS)

    assert verdict.admitted is (reason is None)
    assert reason is None or verdict.reason == reason


def test_the_first_trust_relationship_that_admits_is_named() -> None:
    others = {"id": "tr_1", "issuer": AWS_ISSUER, "subject_match": "user/*"}
    ours = {"id": "tr_2", "issuer": AWS_ISSUER, "subject_match": "*"}

    assert (
        "trust relationship tr_2" in relationships_admit([others, ours], claims=AWS_CLAIMS).reason
    )
    assert relationships_admit([others], claims=AWS_CLAIMS).reason.startswith(
        "trust relationship tr_1: subject_match wants 'user/*'"
    )
    assert (
        relationships_admit([], claims=AWS_CLAIMS).reason
        == "the workspace has no trust relationship"
    )


# What holds for every input.


@given(document=JSON, claims=st.dictionaries(TEXT, JSON, max_size=4))
def test_whatever_json_a_policy_is_nothing_is_raised_and_nobody_admitted(
    document: object, claims: dict[str, object]
) -> None:
    verdict = role_admits_web_identity(
        {"Statement": document}, provider_arn=PROVIDER, claims=claims
    )

    assert not verdict
    assert verdict.reason


@given(document=JSON, claims=st.dictionaries(TEXT, JSON, max_size=4))
def test_whatever_json_a_condition_is_nothing_is_raised(
    document: object, claims: dict[str, object]
) -> None:
    verdict = judged(
        statement(Condition={"StringLike": document, "Null": document}),
        statement(Condition=document),
        **claims,
    )

    assert isinstance(verdict, Verdict)


@given(value=TEXT)
def test_string_like_without_wildcards_is_string_equals(value: str) -> None:
    plain = value.replace("*", "x").replace("?", "y").replace("$", "z")

    assert judged(with_condition("StringLike", f"{HOST}:email", plain), email=plain)
    assert not judged(with_condition("StringLike", f"{HOST}:email", plain), email=plain + "+")


@given(head=TEXT, middle=TEXT, tail=TEXT)
def test_a_star_stands_for_any_text(head: str, middle: str, tail: str) -> None:
    head, tail = (text.replace("$", "").replace("*", "").replace("?", "") for text in (head, tail))

    verdict = judged(
        with_condition("StringLike", f"{HOST}:email", f"{head}*{tail}"), email=head + middle + tail
    )

    assert verdict


@given(
    operator=st.sampled_from(
        ["StringEquals", "StringLike", "StringEqualsIgnoreCase", "ForAnyValue:StringLike"]
    ),
    wanted=st.lists(TEXT, max_size=3),
    has=TEXT,
)
def test_a_negated_operator_admits_a_single_value_exactly_when_its_twin_does_not(
    operator: str, wanted: list[str], has: str
) -> None:
    twin = operator.replace("String", "StringNot")

    positive = judged(with_condition(operator, f"{HOST}:email", wanted), email=has)
    negative = judged(with_condition(twin, f"{HOST}:email", wanted), email=has)

    assert positive.admitted is not negative.admitted


CONDITIONS = st.dictionaries(
    st.sampled_from(["StringLike", "StringNotLikeIfExists", "Null", "BinaryEquals", "Bool"]),
    st.dictionaries(
        st.sampled_from([f"{HOST}:sub", f"{HOST}:email", "aws:SourceIp"]),
        st.sampled_from(["ws_1/*", "ws_2/*", "true", "false", "${aws:username}"]),
        max_size=2,
    ),
    max_size=2,
)
STATEMENTS = st.builds(
    lambda effect, condition: statement(Effect=effect, Condition=condition),
    st.sampled_from(["Allow", "Deny"]),
    CONDITIONS,
)


@given(statements=st.lists(STATEMENTS, max_size=4))
def test_a_deny_always_wins_wherever_it_stands(statements: list[dict[str, object]]) -> None:
    for place in range(len(statements) + 1):
        denied = judged(*statements[:place], statement(Effect="Deny"), *statements[place:])

        assert not denied
        assert denied.denied


@given(statements=st.lists(STATEMENTS, max_size=4))
def test_the_order_of_statements_decides_nothing(statements: list[dict[str, object]]) -> None:
    forward, backward = judged(*statements), judged(*reversed(statements))

    assert forward.admitted is backward.admitted
    assert forward.undecided is backward.undecided


@given(statements=st.lists(STATEMENTS, max_size=4))
def test_who_is_admitted_is_so_by_an_allow_that_applies_and_against_no_deny(
    statements: list[dict[str, object]],
) -> None:
    verdict = judged(*statements)

    applying = {one.effect for one in verdict.statements if one.applies}
    possible = {one.effect for one in verdict.statements if one.may_apply}
    assert verdict.admitted is ("Allow" in applying and "Deny" not in possible)
    assert not (verdict.admitted and verdict.undecided)


@given(
    operator=st.sampled_from(["StringEquals", "StringLike", "StringNotLike", "Bool", "ArnLike"]),
    wanted=st.lists(TEXT, max_size=3),
)
def test_for_all_values_holds_of_no_value_and_for_any_value_does_not(
    operator: str, wanted: list[str]
) -> None:
    every = judged(with_condition(f"ForAllValues:{operator}", f"{HOST}:email", wanted))
    one = judged(with_condition(f"ForAnyValue:{operator}", f"{HOST}:email", wanted))

    assert every
    assert not one


@given(
    operator=st.sampled_from(["StringEquals", "StringLike"]),
    wanted=st.lists(TEXT, max_size=3),
    has=st.lists(TEXT, min_size=1, max_size=3),
)
def test_the_set_operators_are_all_and_any_of_the_single_one(
    operator: str, wanted: list[str], has: list[str]
) -> None:
    singly = [
        judged(with_condition(operator, f"{HOST}:email", wanted), email=one).admitted for one in has
    ]

    every = judged(with_condition(f"ForAllValues:{operator}", f"{HOST}:email", wanted), email=has)
    some = judged(with_condition(f"ForAnyValue:{operator}", f"{HOST}:email", wanted), email=has)

    assert (every.admitted, some.admitted) == (all(singly), any(singly))


@given(
    pattern=st.text(alphabet="ab*?", max_size=10),
    value=st.text(alphabet="ab", max_size=12),
)
def test_string_like_agrees_with_the_shells_wildcards(pattern: str, value: str) -> None:
    verdict = judged(with_condition("StringLike", f"{HOST}:email", pattern), email=value)

    assert verdict.admitted is fnmatch.fnmatchcase(value, pattern)


@given(conditions=st.dictionaries(st.sampled_from(["aud", "sub", "tenant_id", "x"]), TEXT))
def test_a_further_condition_never_admits_more(conditions: dict[str, str]) -> None:
    tests = {f"{HOST}:{claim}": pattern for claim, pattern in conditions.items()}
    wider = judged(statement(Condition={"StringLike": tests}))
    narrower = judged(
        statement(Condition={"StringLike": tests, "StringEquals": {f"{HOST}:sub": "ws_1/i-abc"}})
    )

    assert wider or not narrower


@given(pattern=st.text(alphabet="ab*?", max_size=40), value=st.text(alphabet="ab", max_size=400))
def test_no_pattern_takes_long(pattern: str, value: str) -> None:
    judged(with_condition("StringLike", f"{HOST}:email", pattern), email=value)


@given(
    pattern=st.text(alphabet="ab*", min_size=1, max_size=8),
    value=st.text(alphabet="ab", max_size=12),
)
def test_matching_agrees_with_trying_every_way_to_read_the_stars(pattern: str, value: str) -> None:
    verdict = relationship_admits(
        {"issuer": "i", "subject_match": pattern}, claims={"iss": "i", "sub": value}
    )

    assert verdict.admitted is _matches_by_trying(pattern, value)


def _matches_by_trying(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(_matches_by_trying(pattern[1:], value[i:]) for i in range(len(value) + 1))
    return value[:1] == pattern[0] and _matches_by_trying(pattern[1:], value[1:])
