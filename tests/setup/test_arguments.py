"""Bad input is named and explained before any cloud is asked."""

import pytest

from broker.config import ConfigError
from broker.setup import arguments


@pytest.mark.parametrize("name", ["deploy", "a", "x" * 64, "a+b=c,d.e@f-g_h"])
def test_a_roles_name_is_taken(name: str) -> None:
    assert arguments.role_name(name, place="--role-name") == name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com",
            "com is an identity provider, not a role; give the name of the role",
        ),
        ("arn:aws:iam::123456789012:role/deploy", " is a role's ARN, not its name; give deploy"),
        ("arn:aws-cn:iam::123456789012:role/team/deploy", "not its name; give deploy"),
        ("arn:aws:iam::123456789012:user/me", "user/me is a user;"),
        ("arn:aws:s3:::bucket", "is an ARN, not a role's name"),
        ("team/deploy", "is 'team/deploy', which is not a role's name"),
        ("x" * 65, "1 to 64"),
        ("", "is '', which is not a role's name"),
        ("röle", "is 'r\\xf6le'"),
        ("deploy\n", "is 'deploy\\n'"),
    ],
)
def test_what_is_no_roles_name_is_explained(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        arguments.role_name(text, place="--role-name")

    assert told in str(refused.value)
    assert str(refused.value).startswith("--role-name: ")


@pytest.mark.parametrize("text", ["*", "ws_?", "ws_1/*", "", "a b", "ws_1\n", "${aws:x}", "-x"])
def test_a_workspace_that_is_none_or_a_pattern_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a workspace's id"):
        arguments.workspace(text, place="--workspace")


def test_a_subject_is_a_pattern_within_the_workspace() -> None:
    for text in ("ws_1/*", "ws_1/i-abc", "ws_1/team-*/x"):
        assert arguments.subject(text, workspace="ws_1", place="--subject") == text


def test_a_subject_that_ends_with_the_workspaces_slash_is_told_to_be_nobodys() -> None:
    with pytest.raises(
        ConfigError, match=r"is 'ws_1/', which matches no identity: .*; give ws_1/\*"
    ):
        arguments.subject("ws_1/", workspace="ws_1", place="--subject")


@pytest.mark.parametrize("text", ["*", "ws_1*", "ws_1", "ws_2/*", "ws_10/*", "i-abc", ""])
def test_a_subject_that_does_not_begin_with_the_workspace_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"give ws_1/\* or something narrower"):
        arguments.subject(text, workspace="ws_1", place="--subject")


@pytest.mark.parametrize(
    "text", ["ws_1/a b", "ws_1/é", "ws_1/${aws:username}", "ws_1/" + "x" * 300]
)
def test_a_subject_that_no_policy_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="visible characters"):
        arguments.subject(text, workspace="ws_1", place="--subject")


@pytest.mark.parametrize("text", ["repo:acme/app:*", "repo:acme/*", "project_path:acme/app:*"])
def test_another_issuers_subject_is_a_pattern_that_begins_with_a_name(text: str) -> None:
    assert arguments.foreign_subject(text, place="--subject") == text


@pytest.mark.parametrize("text", ["", "*", "?epo:acme/app", "repo:*", "repo:", "repo:ac*/app:*"])
def test_a_subject_that_admits_an_issuers_other_users_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="admits the issuer's other users too"):
        arguments.foreign_subject(text, place="--subject")


def test_an_issuer_is_a_bare_host() -> None:
    url = "https://federation.namespaceapis.com"

    assert arguments.issuer(url, place="--issuer") == url


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://federation.namespaceapis.com/", "not even a slash; give https://federation."),
        ("https://federation.namespaceapis.com/x", "nothing after the host"),
        ("https://federation.namespaceapis.com:443", "AWS takes no port; give https://federation."),
        ("https://federation.namespaceapis.com:", "AWS takes no port"),
        ("https://federation.namespaceapis.com?x=1", "nothing after the host"),
        ("https://federation.namespaceapis.com:x", "give https://HOST"),
        ("http://federation.namespaceapis.com", "not an issuer's URL; give https://HOST"),
        ("federation.namespaceapis.com", "not an issuer's URL; give https://HOST"),
        ("https://me@federation.namespaceapis.com", "not an issuer's URL"),
        ("https://Federation.namespaceapis.com", "give https://federation.namespaceapis.com"),
        ("", "not an issuer's URL"),
    ],
)
def test_what_is_no_issuer_is_explained(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        arguments.issuer(text, place="--issuer")

    assert told in str(refused.value)


@pytest.mark.parametrize(
    "text", ["12345678901", "1234567890123", "alias", "１２３４５６７８９０１２"]
)
def test_an_account_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give its 12 digits"):
        arguments.account(text, place="--account")


def test_policies_are_those_that_aws_and_accounts_have() -> None:
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::123456789012:policy/a/b")

    assert arguments.policy_arns((*arns, arns[0]), place="--policy-arn") == arns


@pytest.mark.parametrize("text", ["ReadOnlyAccess", "arn:aws:iam::123456789012:role/deploy", ""])
def test_what_is_no_policys_arn_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a managed policy's ARN"):
        arguments.policy_arns((text,), place="--policy-arn")


def test_a_policy_of_another_partition_is_told_with_its_own() -> None:
    with pytest.raises(ConfigError, match="give arn:aws-cn:iam::aws:policy/ReadOnlyAccess"):
        arguments.same_partition(
            ("arn:aws:iam::aws:policy/ReadOnlyAccess",), "aws-cn", place="--policy-arn"
        )


@pytest.mark.parametrize("seconds", [0.0, 3599.0, 43201.0, 3600.5])
def test_a_session_duration_that_no_role_takes_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="3600 to 43200 whole seconds"):
        arguments.max_session_duration_s(seconds, place="--max-session-duration")


def test_a_session_duration_is_whole_seconds() -> None:
    assert arguments.max_session_duration_s(7200.0, place="--max-session-duration") == 7200
    assert arguments.max_session_duration_s(None, place="--max-session-duration") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{nope", "is not JSON"),
        ('{"Statement": NaN}', "is not JSON"),
        ("[]", "is not a policy document"),
        ('{"Version": "2012-10-17"}', "is not a policy document"),
        ('{"Statement": []}', "is not a policy document"),
        ('{"Statement": [{"Sid": "' + "x" * 10_240 + '"}]}', "make it a managed policy"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        arguments.policy_document(text, place="--policy-file")


@pytest.mark.parametrize("text", ["read s3", "x" * 129, ""])
def test_a_file_whose_name_no_policy_can_have_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="name the file"):
        arguments.policy_name(text, place="--policy-file")
