"""What a rule can say, and errors about wrong ones."""

import os
import pwd
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from broker.access.match import Account, Who
from broker.access.rules import Rule
from broker.config import Flags, load_roles
from tests.support.config import ARN, NO_FILE, ROLE, Given

ME = pwd.getpwuid(os.getuid())
TWO = (
    f'region = "eu-central-1"\n{ROLE}[roles.audit]\narn = "arn:aws:iam::123456789012:role/audit"\n'
)
CALLERS = Path(__file__).parents[2] / "docs" / "callers.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", CALLERS.read_text(), re.DOTALL)
POLICY = '{"Version": "2012-10-17", "Statement": []}'


def rule(lines: str) -> str:
    """Return a configuration of two roles, and one rule of those lines."""
    return f"{TWO}[[rules]]\n{lines}\n"


def granted(who: str) -> str:
    return rule(f'who = {{ {who} }}\nroles = ["deploy"]')


def test_without_rules_there_are_none(given: Given) -> None:
    assert given.load(ROLE).rules == ()


def test_rules_are_in_the_order_of_the_file_and_counted_from_one(given: Given) -> None:
    config = given.load(
        f"""
        {TWO}
        [namespace_tokens.default]
        http = true
        [id_tokens.other]
        audience = "https://example.com"
        [[rules]]
        who = {{ user = "{ME.pw_name}", unit = "runner.service" }}
        roles = ["deploy", "audit"]
        default_role = "audit"
        policy = '{POLICY}'
        namespace_tokens = ["default"]
        id_token_audiences = ["https://example.com"]
        [[rules]]
        who = {{ cidr = "172.17.0.0/16" }}
        roles = ["deploy"]
        """
    )

    assert config.rules == (
        Rule(
            number=1,
            who=Who(user=Account(ME.pw_name, ME.pw_uid), unit="runner.service"),
            roles=("deploy", "audit"),
            default_role="audit",
            policy=POLICY,
            namespace_tokens=frozenset({"default"}),
            id_token_audiences=frozenset({"https://example.com"}),
        ),
        Rule(number=2, who=Who(cidr=ip_network("172.17.0.0/16")), roles=("deploy",)),
    )
    assert config.warnings == ()


def test_tokens_and_audiences_are_never_granted_unless_they_are_named(given: Given) -> None:
    config = given.load(
        granted("any_local = true")
        + '[namespace_tokens.default]\nhttp = true\n[id_tokens.other]\naudience = "x"\n'
    )

    (only,) = config.rules
    assert (only.namespace_tokens, only.id_token_audiences) == (frozenset(), frozenset())


def test_a_rule_may_refuse_on_purpose(given: Given) -> None:
    (refusing, _) = given.load(
        rule("who = { uid = 7 }\nroles = []")
        + '[[rules]]\nwho = { any_local = true }\nroles = ["deploy", "audit"]'
    ).rules

    assert not refusing.grant.any


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_docs_are_good(given: Given, example: str) -> None:
    people = {name: number for number, name in enumerate(re.findall(r'user = "(\w+)"', example))}
    by_number = re.sub(r'user = "(\w+)"', lambda found: f"uid = {people[found[1]]}", example)

    config = given.load(TWO + by_number.replace('"developers"', '"50"'))

    assert config.rules


def test_what_no_rule_grants_is_said(given: Given) -> None:
    config = given.load(
        granted("any_local = true")
        + """
        [namespace_tokens.default]
        http = true
        [id_tokens.other]
        audience = "x"
        [id_tokens.in-a-file]
        audience = "y"
        file = "/run/x/id-token"
        [container.tokens]
        ci = "/run/x/ci"
        """
    )

    assert [warning.partition(": no rule ")[0] for warning in config.warnings] == [
        "roles.audit",
        "namespace_tokens.default.http",
        "id_tokens.other",
        "container.tokens.ci",
    ]


def test_a_command_for_oneself_is_bound_by_no_rule(given: Given) -> None:
    given.file.write_text(granted('token = "ci"'))

    config = load_roles(
        Flags(config=str(given.file)), {"XDG_RUNTIME_DIR": str(given.folder)}, system_file=NO_FILE
    )

    assert (config.rules, config.container.tokens) == ((), {})


@pytest.mark.parametrize(
    ("who", "error"),
    [
        ("", "rules[1].who: is empty; name somebody, or any_local = true"),
        (
            'user = "no-such-user"',
            "rules[1].who.user: there is no user 'no-such-user' here; create it or name another",
        ),
        (
            'group = "no-such-group"',
            "rules[1].who.group: there is no group 'no-such-group' here; create it or name",
        ),
        ('user = "a\\u001b[31m"', "rules[1].who.user: there is no user 'a\\x1b[31m' here; create"),
        ('uid = "7"', "rules[1].who.uid: is '7'; give a whole number"),
        ("uid = -1", "rules[1].who.uid: -1 is not a uid; uids go from 0 to 4294967294"),
        ("uid = 4294967295", "rules[1].who.uid: 4294967295 is not a uid; "),
        ("uid = 65534", "rules[1].who.uid: uid 65534 stands for every user not mapped here;"),
        ('unit = "runner"', "rules[1].who.unit: 'runner' is not a unit with processes; write it"),
        ('user_unit = "a.service"', "rules[1].who.user_unit: any user may choose that name; add"),
        (
            'container = "web"',
            "rules[1].who.container: 'web' is not a container id; write 12",
        ),
        ('exe = "/usr/bin/aws"', "rules[1].who.exe: cannot stand alone: a program is no identity"),
        (
            'exe = "aws", uid = 1',
            "rules[1].who.exe: 'aws' is not an absolute path; write one such",
        ),
        ('cidr = "docker"', "rules[1].who.cidr: 'docker' is not a network; write one such as 172."),
        ('cidr = "10.1.2.3/8"', "rules[1].who.cidr: '10.1.2.3/8' has host bits set; did "),
        (
            'cidr = "10.0.0.0/8", uid = 1',
            "rules[1]: matches nobody: cidr is for remote callers, wh",
        ),
        (
            'token = "default"',
            "rules[1].who.token: 'default' admits but names nobody; use another name",
        ),
        ('token = "../x"', "rules[1].who.token: is '../x'; begin it with a letter: it names a"),
        ('token = "a/b"', "rules[1].who.token: is 'a/b'; a name is 2 to 64 of letters"),
        ("any_local = false", "rules[1].who.any_local: false has no meaning; remove the key"),
        ('usr = "x"', "rules[1].who.usr: unknown key; did you mean user?"),
        ("user = 7", "rules[1].who.user: is 7; give text in quotes"),
    ],
)
def test_somebody_who_cannot_be_meant_is_said_with_the_rules_place(
    given: Given, who: str, error: str
) -> None:
    assert given.error(granted(who)).startswith(error)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ('roles = ["deploy"]', "rules[1].who: is missing; say who, as in who = { user = "),
        ('who = "ci"', "rules[1].who: is 'ci'; write a table, as in who = { user = "),
        ("who = { uid = 7 }", "rules[1]: grants nothing; name roles; roles = [] refuses all on"),
        (
            'who = { uid = 7 }\nroles = ["nope"]',
            "rules[1].roles: has 'nope', which is no role; the roles are deploy, audit",
        ),
        (
            'who = { uid = 7 }\nroles = "deploy"',
            "rules[1].roles: is 'deploy'; give a list of texts",
        ),
        (
            'who = { uid = 7 }\nroles = ["deploy", "deploy"]',
            "rules[1].roles: has deploy twice; name each once",
        ),
        (
            'who = { uid = 7 }\nroles = ["deploy"]\ndefault_role = "audit"',
            "rules[1].default_role: is 'audit', which the rule does not grant; its roles are dep",
        ),
        (
            'who = { uid = 7 }\nrole = "deploy"',
            "rules[1].role: unknown key; did you mean roles?",
        ),
        (
            'who = { uid = 7 }\nnamespace_tokens = ["default"]',
            "rules[1].namespace_tokens: has 'default', which is no identity whose token is"
            " exported; add [namespace_tokens.default] with file or http, or leave it out",
        ),
        (
            'who = { uid = 7 }\nid_token_audiences = ["sts.amazonaws.com"]',
            "rules[1].id_token_audiences: has 'sts.amazonaws.com', which is no audience of"
            " id_tokens; add [id_tokens.NAME] with that audience, or leave it out",
        ),
        (
            'who = { uid = 7 }\nroles = ["deploy"]\npolicy = "{}"',
            'rules[1].policy: is no policy document; give an object with a "Statement"',
        ),
        (
            f"who = {{ uid = 7 }}\nroles = ['deploy']\npolicy = '{POLICY + ' ' * 2048}'",
            f"rules[1].policy: has {len(POLICY) + 2048} characters; STS takes 1 to 2048",
        ),
        (
            f"who = {{ uid = 7 }}\nroles = []\npolicy = '{POLICY}'",
            "rules[1].policy: narrows no role; name roles beside it, or leave it out",
        ),
        (
            'who = { uid = 7 }\nroles = ["deploy"]\ntags = { team = "a" }',
            "rules[1].tags: cannot be set: roles.deploy is assumed by web identity, with which STS"
            " takes none; leave them out; policy narrows such a role",
        ),
        (
            'who = { uid = 7 }\nroles = ["deploy"]\ntags = { "a*" = "b" }',
            "rules[1].tags: has 'a*' = 'b'; STS takes keys of 1 to 128",
        ),
        (
            "who = { uid = 7 }\nroles = ['deploy']\ntags = { "
            + ", ".join(f'k{number} = ""' for number in range(51))
            + " }",
            "rules[1].tags: has 51 tags; STS takes up to 50",
        ),
        (
            'who = { uid = 7 }\nroles = ["deploy"]\ntags = { team = 1 }',
            "rules[1].tags: is a table; give a table of texts, like {",
        ),
    ],
)
def test_a_rule_that_cannot_be_is_said_with_its_place(given: Given, lines: str, error: str) -> None:
    assert given.error(rule(lines)).startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[rules]\nwho = { uid = 7 }", "rules: is a table; write each rule as [[rules]]"),
        ('rules = "none"', "rules: is 'none'; write each rule as [[rules]]"),
        ('rules = ["none"]', "rules[1]: is 'none'; write each rule as [[rules]]"),
    ],
)
def test_what_is_no_list_of_rules_is_said(given: Given, text: str, error: str) -> None:
    assert given.error(f"{text}\n{ROLE if '[' not in text else ''}") == error


def test_the_place_is_that_of_the_rule(given: Given) -> None:
    error = given.error(
        granted("uid = 7") + '[[rules]]\nwho = { user = "no-such-user" }\nroles = ["deploy"]'
    )

    assert error.startswith("rules[2].who.user: there is no user ")


def test_a_rule_that_can_never_be_reached_is_refused_with_the_one_before_it(given: Given) -> None:
    error = given.error(
        granted("any_local = true") + '[[rules]]\nwho = { uid = 7 }\nroles = ["audit"]'
    )

    assert error == (
        "rules[2]: never reached: rules[1] already matches everybody it matches;"
        " put it before rules[1] or remove it"
    )


def test_a_policy_in_place_of_the_roles_own_could_allow_more(given: Given) -> None:
    error = given.error(
        f"{ROLE}policy = '{POLICY}'\n[[rules]]\nwho = {{ uid = 7 }}\n"
        f"roles = ['deploy']\npolicy = '{POLICY}'"
    )

    assert error == (
        "rules[1].policy: stands beside roles.deploy.policy, and STS takes one;"
        " make a role of the same ARN without a policy, for this rule"
    )


def test_a_rule_may_name_a_role_of_a_flag(given: Given) -> None:
    config = given.load(
        '[[rules]]\nwho = { any_local = true }\nroles = ["ci"]',
        flags={"role_arns": (f"ci={ARN}",)},
    )

    assert config.rules[0].roles == ("ci",)


class TestContainerTokens:
    def test_those_of_the_table_are_where_it_says_and_those_of_rules_in_the_runtime_directory(
        self, given: Given
    ) -> None:
        config = given.load(
            granted('token = "ci"')
            + '[[rules]]\nwho = { token = "web" }\nroles = ["audit"]\n'
            + '[container.tokens]\nci = "/run/x/ci"'
        )

        assert config.container.tokens == {
            "ci": Path("/run/x/ci"),
            "web": config.runtime_dir / "tokens" / "web",
        }

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ('ci = "/x"\nother = "/x"', "container.tokens.other: is /x, as container.tokens.ci is"),
            ('ci = ""', "container.tokens.ci: is ''; give the path of a file"),
            ("ci = 7", "container.tokens: is a table; give a table of texts, like {"),
            ('default = "/x"', "container.tokens.default: is the token that names nobody; set "),
            ('x = "/x"', "container.tokens.x: is 'x'; a name is 2 to 64 of letters, digits"),
            ('".." = "/x"', "container.tokens.\"..\": is '..'; begin it with a letter: it names"),
        ],
    )
    def test_one_that_cannot_be_is_named(self, given: Given, text: str, error: str) -> None:
        assert given.error(f"{ROLE}[container.tokens]\n{text}").startswith(error)

    def test_none_is_the_file_of_another_kind(self, given: Given) -> None:
        error = given.error(
            f'{ROLE}[container]\ntoken_file = "/x/a"\n[container.tokens]\nci = "/x/a"'
        )

        assert error.startswith("container.tokens.ci: is /x/a, as container.token_file is; give")


def test_a_rule_may_grant_a_token_that_is_exported_as_a_file_alone(given: Given) -> None:
    config = given.load(
        granted("uid = 7").replace('roles = ["deploy"]', 'namespace_tokens = ["default"]')
        + '[namespace_tokens.default]\nfile = "/run/nsc/token.json"\n'
    )

    (rule,) = config.rules
    assert rule.grant.namespace_tokens == {"default"}
