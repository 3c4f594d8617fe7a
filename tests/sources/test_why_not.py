"""Why a role did not admit: what is said of each thing that may be found there."""

from collections.abc import Mapping

from broker.credentials import IdToken, Role
from broker.sources.aws.errors import RoleRefused
from broker.sources.aws.explain import RoleDocument, explain_refusal
from tests.support.sources import ROLE_ARN, jwt_of, some_id_token, some_role

HOST = "federation.namespaceapis.com"
PROVIDER = f"arn:aws:iam::123456789012:oidc-provider/{HOST}"


def trusting(condition: Mapping[str, object], **elements: object) -> RoleDocument:
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": PROVIDER},
        "Condition": condition,
        **elements,
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return RoleDocument(arn=ROLE_ARN, trust_policy=policy)


def said_of(found: RoleDocument, *, role: Role | None = None, token: IdToken | None = None) -> str:
    refused = RoleRefused("no", word="access-denied", what="STS answered AccessDenied")
    error = explain_refusal(
        refused, found, role=role or some_role(), token=token or some_id_token(jwt_of({}))
    )
    assert error.word == "access-denied"
    assert str(error).startswith(
        f"role {ROLE_ARN} does not admit this identity (STS answered AccessDenied). Presented: "
        f"iss='https://{HOST}' sub='ws_1/i-abc' aud='sts.amazonaws.com'. "
    )
    return str(error).partition("aud='sts.amazonaws.com'. ")[2]


def test_the_condition_that_fails_is_named() -> None:
    found = trusting({"StringLike": {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:sub": "ws_2/*"}})

    assert said_of(found) == (
        f"Its trust policy does not: statement 1: condition StringLike {HOST}:sub wants 'ws_2/*', "
        "the token has 'ws_1/i-abc'; change that, or what is presented"
    )


def test_a_policy_for_another_provider_is_told_as_such() -> None:
    found = trusting({}, Principal={"Federated": PROVIDER + "/else"})

    assert "Principal Federated is" in said_of(found)


def test_a_policy_that_admits_has_not_spread_yet() -> None:
    found = trusting({"StringLike": {f"{HOST}:sub": "ws_1/*"}})

    assert "read just now, admits it: a change takes up to some minutes" in said_of(found)


def test_a_condition_that_hangs_on_more_than_the_token_is_told_as_open() -> None:
    found = trusting({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})

    assert said_of(found).startswith(
        "Whether its trust policy admits it depends on more than the token says: statement 1: "
        "condition IpAddress aws:SourceIp wants '10.0.0.0/8'"
    )


def test_the_session_name_is_known() -> None:
    found = trusting({"StringEquals": {"sts:RoleSessionName": "ci"}})

    by_default = said_of(found)
    as_configured = said_of(found, role=some_role(session_name="ci"))

    assert "has 'nsc.instance=i-abc'" in by_default
    assert "admits it" in as_configured


def test_claims_beside_the_usual_three_are_known() -> None:
    found = trusting({"StringEquals": {f"{HOST}:email": "me@example.com"}})

    without = said_of(found)
    with_it = said_of(found, token=some_id_token(jwt_of({"email": "me@example.com"})))

    assert "the token has none" in without
    assert "admits it" in with_it


def test_a_token_that_cannot_be_read_is_judged_by_what_is_known_of_it() -> None:
    found = trusting({"StringLike": {f"{HOST}:sub": "ws_2/*"}})

    assert "the token has 'ws_1/i-abc'" in said_of(found, token=some_id_token("opaque"))


def test_a_role_that_is_not_there_is_told() -> None:
    found = RoleDocument(arn=None, trust_policy=None)

    assert said_of(found).startswith("There is no such role in the account; correct roles.deploy")


def test_a_role_of_that_name_with_another_path_is_named() -> None:
    found = RoleDocument(arn="arn:aws:iam::123456789012:role/team/deploy", trust_policy={})

    assert said_of(found).startswith(
        "The role of that name is arn:aws:iam::123456789012:role/team/deploy; correct roles.deploy"
    )


def test_a_long_policy_is_cut() -> None:
    pattern = {"StringLike": {f"{HOST}:sub": [f"{number}/" + "x" * 150 for number in range(50)]}}

    assert len(said_of(trusting(pattern))) < 1400
