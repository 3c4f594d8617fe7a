"""Roles and identities by flags and file, and errors about wrong ones."""

import pytest

from broker.config import AutoIdentityConfig, NoRole
from tests.support.config import ARN, ROLE, Given


def test_one_role_arn_is_a_whole_configuration(given: Given) -> None:
    config = given.load(flags={"role_arns": (ARN,)})

    (role,) = config.roles
    assert (role.role.name, role.role.arn, role.role.duration_s) == ("deploy", ARN, 3600)
    assert (role.identity, role.audience) == ("default", "sts.amazonaws.com")
    assert config.default_role == "deploy"
    assert dict(config.identities) == {"default": AutoIdentityConfig(name="default")}


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("arn:aws:iam::123456789012:role/deploy", "deploy"),
        ("arn:aws:iam::123456789012:role/some/path/deploy", "deploy"),
        ("arn:aws:iam::123456789012:role/a=b", "a=b"),
        ("ci=arn:aws:iam::123456789012:role/deploy", "ci"),
        ("ci=arn:aws:iam::123456789012:role/a=b", "ci"),
    ],
)
def test_a_role_flag_is_split_at_the_first_equals_sign_before_any_colon(
    given: Given, flag: str, name: str
) -> None:
    config = given.load(flags={"role_arns": (flag,)})

    (role,) = config.roles
    assert role.role.name == name
    assert role.role.arn == flag.removeprefix("ci=")


def test_the_first_role_flag_is_the_default_and_the_file_adds_its_own(given: Given) -> None:
    config = given.load(
        'default_role = "deploy"\n' + ROLE, flags={"role_arns": (f"one={ARN}", f"two={ARN}")}
    )

    assert [role.role.name for role in config.roles] == ["one", "two", "deploy"]
    assert config.default_role == "one"


def test_a_role_flag_wins_over_the_arn_of_the_same_name_and_leaves_its_other_keys(
    given: Given,
) -> None:
    other = "arn:aws:iam::210987654321:role/other"

    config = given.load(ROLE + "duration_s = 900\n", flags={"role_arns": (f"deploy={other}",)})

    (role,) = config.roles
    assert (role.role.arn, role.role.duration_s) == (other, 900)


def test_the_file_says_everything_about_a_role(given: Given) -> None:
    (given.folder / "policy.json").write_text('{"Statement": []}')

    config = given.load(
        f"""
        default_role = "second"
        [roles.first]
        arn = "{ARN}"
        [roles.second]
        arn = "{ARN}"
        identity = "ci"
        audience = "https://example.com"
        duration_s = "max"
        region = "us-west-2"
        session_name = "release@42"
        policy_file = "{given.folder}/policy.json"
        policy_arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
        [identities.ci]
        source = "token-file"
        path = "/var/run/nsc/token.json"
        """
    )

    role = config.roles[1]
    assert config.default_role == "second"
    assert (role.identity, role.audience) == ("ci", "https://example.com")
    assert (role.role.duration_s, role.role.region) == (None, "us-west-2")
    assert (role.role.session_name, role.role.policy) == ("release@42", '{"Statement": []}')
    assert role.role.policy_arns == ("arn:aws:iam::aws:policy/ReadOnlyAccess",)
    assert sorted(config.identities) == ["ci", "default"]


def test_without_any_role_the_error_says_how_to_name_one(given: Given) -> None:
    with pytest.raises(NoRole, match=r"--role-arn: is not given, .*; give --role-arn ARN"):
        given.load('region = "us-east-1"')


@pytest.mark.parametrize(
    ("arn", "explained"),
    [
        (
            "arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com",
            "ARN is an identity provider, not a role; give the role whose trust policy"
            " names it: arn:aws:iam::123456789012:role/NAME",
        ),
        (
            "arn:aws:sts::123456789012:assumed-role/deploy/session",
            "ARN is a session of a role, not the role; give arn:aws:iam::123456789012:role/deploy",
        ),
        (
            "arn:aws-cn:iam::123456789012:user/jo",
            "ARN is a user; a web identity can only assume a role;"
            " give arn:aws-cn:iam::123456789012:role/NAME",
        ),
        (
            "arn:aws:iam::123456789012:instance-profile/web",
            "ARN is an instance profile, not the role in it;"
            " give arn:aws:iam::123456789012:role/NAME",
        ),
        (
            "arn:aws:iam::123456789012:root",
            "ARN is an account; a web identity can only assume a role;"
            " give arn:aws:iam::123456789012:role/NAME",
        ),
        (
            "deploy",
            "is 'deploy', which is no role's ARN; give arn:aws:iam::ACCOUNT:role/NAME",
        ),
        (
            "arn:aws:iam::12345:role/deploy",
            "is 'arn:aws:iam::12345:role/deploy', which is no role's ARN;"
            " give arn:PARTITION:iam::ACCOUNT:role/NAME, ACCOUNT being 12 digits",
        ),
    ],
)
def test_what_is_often_taken_for_a_roles_arn_is_explained(
    given: Given, arn: str, explained: str
) -> None:
    in_file = given.error(f'[roles.deploy]\narn = "{arn}"')
    in_flag = given.error(flags={"role_arns": (arn,)})

    explained = explained.replace("ARN is", f"{arn} is")
    assert in_file == f"roles.deploy.arn: {explained}"
    assert in_flag == f"--role-arn: {explained}"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("duration_s = 60", "duration_s: is 60; STS takes 900 to 43200"),
        ("duration_s = 43201", "duration_s: is 43201; STS takes 900 to 43200"),
        ("duration_s = -1", "duration_s: is -1; STS takes 900 to 43200"),
        ("duration_s = 1e400", 'duration_s: is inf; give a whole number or "max"'),
        ("duration_s = true", 'duration_s: is true; give a whole number or "max"'),
        ('duration_s = "1h"', "duration_s: is '1h'; give a whole number or \"max\""),
        (
            'session_name = "a"',
            "session_name: is 'a'; STS takes 2 to 64 of letters, digits and _+=,.@-",
        ),
        (
            'session_name = "with space"',
            "session_name: is 'with space'; STS takes 2 to 64 of letters, digits and _+=,.@-",
        ),
        (
            'audience = ""',
            "audience: is ''; give 1 to 255 visible ASCII characters, no space",
        ),
        ('policy = ""', "policy: has 0 characters; STS takes 1 to 2048, blanks included"),
        (
            f'policy = \'{{"Statement": ["{"x" * 2048}"]}}\'',
            "policy: has 2067 characters; STS takes 1 to 2048, blanks included",
        ),
        (
            "policy = '{\"Statement\"'",
            "policy: is no JSON (Expecting ':' delimiter: line 1 column 13 (char 12));"
            " give one policy document",
        ),
        ("policy = '[]'", 'policy: is no policy document; give an object with a "Statement"'),
        (
            'policy = \'{"Statement": "\u20ac"}\'',
            "policy: has characters beyond Latin-1; STS takes none of those",
        ),
        (
            'policy_file = "/nonexistent/policy.json"',
            "policy_file: /nonexistent/policy.json cannot be read (No such file or directory);"
            " give a JSON file",
        ),
        (
            'policy = \'{"Statement": []}\'\npolicy_file = "x"',
            "policy_file: stands beside policy; give one of the two",
        ),
        (
            'policy_arns = ["arn:aws:iam::aws:role/x"]',
            "policy_arns[0]: is 'arn:aws:iam::aws:role/x', which is no managed policy's ARN;"
            " give arn:aws:iam::ACCOUNT:policy/NAME, or arn:aws:iam::aws:policy/NAME",
        ),
        (
            f"policy_arns = {[f'arn:aws:iam::aws:policy/p{n}' for n in range(11)]}",
            "policy_arns: has 11 ARNs; STS takes up to 10",
        ),
        (
            'policy_arns = ["arn:aws:iam::aws:policy/p", "arn:aws:iam::aws:policy/p"]',
            "policy_arns[1]: is arn:aws:iam::aws:policy/p again; give each policy once",
        ),
        ('policy_arns = "x"', "policy_arns: is 'x'; give a list of texts, like [\"...\"]"),
        (
            'region = "aws-global"',
            "region: is aws-global, which is no region; give a region, like us-east-1",
        ),
        (
            'identity = "nobody"',
            "identity: is 'nobody', which is no identity; the identities are default",
        ),
        ("duration = 900", "duration: unknown key; did you mean duration_s?"),
        (
            "xyzzy = 1",
            "xyzzy: unknown key; known keys: arn, identity, audience, duration_s, region,"
            " session_name, policy, policy_file, policy_arns",
        ),
    ],
)
def test_a_limit_that_botocore_does_not_check_is_checked_with_the_keys_path(
    given: Given, line: str, error: str
) -> None:
    assert given.error(ROLE + line) == f"roles.deploy.{error}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[roles.deploy]", "roles.deploy.arn: is missing; give the role's ARN"),
        ("roles = 3", "roles: is 3; give a table"),
        ("[roles]\ndeploy = 3", "roles.deploy: is 3; write it as a table: [roles.deploy]"),
        (
            '[roles."a.b"]\narn = 3',
            'roles."a.b".arn: is 3; give text in quotes',
        ),
        (
            '[roles."a b"]\narn = "x"',
            "roles.\"a b\": is 'a b'; a name is 2 to 64 of letters, digits and _+=,.@-",
        ),
        (
            'default_role = "deplo"\n' + ROLE,
            "default_role: is 'deplo', which is no role; the roles are deploy",
        ),
        (
            '[roles.cn]\narn = "arn:aws-cn:iam::123456789012:role/deploy"',
            "roles.cn.arn: is in aws-cn, and region us-east-1 is not; set a region of aws-cn",
        ),
        (
            '[identities.ci]\nsource = "token-file"\n' + ROLE,
            "identities.ci.path: is missing; give the path of a file",
        ),
        (
            '[identities.ci]\npath = "/x"\n' + ROLE,
            "identities.ci.path: has no meaning with auto;"
            " take it away, or use token-file or token-spec",
        ),
        (
            '[identities.ci]\nsource = "aws"\n' + ROLE,
            "identities.ci.source: is 'aws';"
            ' give one of "auto", "token-file", "token-spec", "sts", "cognito"',
        ),
    ],
)
def test_tables_that_do_not_fit_together_are_named(given: Given, text: str, error: str) -> None:
    assert given.error(text) == error


def test_two_flags_of_one_name_are_told_how_to_get_two(given: Given) -> None:
    other = "arn:aws:iam::210987654321:role/deploy"

    error = given.error(flags={"role_arns": (ARN, other)})

    assert error == "--role-arn: gives two roles the name deploy; name one: NAME=ARN"


def test_a_role_of_one_character_must_be_given_a_name(given: Given) -> None:
    arn = "arn:aws:iam::123456789012:role/x"

    assert given.error(flags={"role_arns": (arn,)}).startswith("--role-arn: is 'x'; a name is 2")
    assert given.load(flags={"role_arns": (f"xx={arn}",)}).roles[0].role.arn == arn


def test_a_role_of_another_partition_is_assumed_there(given: Given) -> None:
    arn = "arn:aws-us-gov:iam::123456789012:role/deploy"

    config = given.load(flags={"role_arns": (arn,), "region": "us-gov-west-1"})

    assert config.roles[0].role.region == "us-gov-west-1"
