"""Which tokens are handed on and where: none unless configured."""

from pathlib import Path

import pytest

from broker.config import IdTokenConfig, NamespaceTokenConfig, NoRole
from tests.support.config import ARN, ROLE, Given

REGION = {"AWS_REGION": "eu-central-1"}


def test_nothing_is_handed_on_unless_it_is_said(given: Given) -> None:
    config = given.load(ROLE)

    assert (config.namespace_tokens, config.id_tokens) == ((), ())


def test_everything_can_be_said(given: Given) -> None:
    config = given.load(
        f"""
        {ROLE}
        [identities.aws]
        [namespace_tokens.aws]
        file = "/run/x/nsc/token.json"
        group = "deployers"
        http = true
        [id_tokens.other]
        audience = "https://example.com"
        file = "/run/x/id-token"
        identity = "aws"
        role = "deploy"
        """,
        environ=REGION,
    )

    assert config.namespace_tokens == (
        NamespaceTokenConfig(
            identity="aws", file=Path("/run/x/nsc/token.json"), group="deployers", http=True
        ),
    )
    assert config.id_tokens == (
        IdTokenConfig(
            name="other",
            audience="https://example.com",
            file=Path("/run/x/id-token"),
            identity="aws",
            role=ARN,
        ),
    )
    assert sorted(config.identities) == ["aws", "default"]
    assert config.warnings == ()


def test_a_role_of_an_id_token_may_be_one_that_is_not_ours(given: Given) -> None:
    config = given.load(f'[id_tokens.other]\naudience = "x"\nrole = "{ARN}"')

    assert config.id_tokens[0].role == ARN


@pytest.mark.parametrize(
    "text", ["[namespace_tokens.default]\nhttp = true", '[id_tokens.other]\naudience = "x"']
)
def test_without_a_role_there_is_something_to_do_where_a_token_is_handed_on(
    given: Given, text: str
) -> None:
    config = given.load(text)

    assert (config.roles, config.default_role) == ((), None)
    assert list(config.identities) == ["default"]
    assert config.warnings == ()


def test_an_identity_alone_is_nothing_to_do(given: Given) -> None:
    with pytest.raises(NoRole):
        given.load('[identities.aws]\nsource = "sts"')


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "[namespace_tokens.default]",
            "namespace_tokens.default: is exported nowhere; give file, or http = true",
        ),
        (
            '[namespace_tokens.default]\nhttp = true\ngroup = "x"',
            "namespace_tokens.default.group: has no file to open to it; give file too",
        ),
        (
            '[namespace_tokens.default]\nfile = "/x"\ngroup = ""',
            "namespace_tokens.default.group: is ''; give the name of a group",
        ),
        (
            "[namespace_tokens.other]\nhttp = true",
            "namespace_tokens.other: is 'other', which is no identity; the identities are default",
        ),
        (
            '[namespace_tokens.default]\nfile = "/run/x/token.cache"',
            "namespace_tokens.default.file: is named token.cache, as nsc's cache;"
            " name it token.json",
        ),
        (
            '[namespace_tokens.default]\nfile = ""',
            "namespace_tokens.default.file: is ''; give the path of a file",
        ),
        (
            '[namespace_tokens.default]\npath = "/x"',
            "namespace_tokens.default.path: unknown key; known keys: file, group, http",
        ),
        (
            "[id_tokens.other]",
            "id_tokens.other.audience: is missing;"
            " give 1 to 255 visible ASCII characters, no space",
        ),
        (
            '[id_tokens.x]\naudience = "x"',
            "id_tokens.x: is 'x'; a name is 2 to 64 of letters, digits and _+=,.@-",
        ),
        (
            '[id_tokens.other]\naudience = "x"\nidentity = "nobody"',
            "id_tokens.other.identity: is 'nobody', which is no identity;"
            " the identities are default",
        ),
        (
            '[id_tokens.other]\naudience = "x"\nrole = "nope"',
            "id_tokens.other.role: is 'nope', which is no role's ARN;"
            " give arn:aws:iam::ACCOUNT:role/NAME",
        ),
        (
            '[namespace_tokens.default]\nfile = "/x/a"\n'
            '[id_tokens.other]\naudience = "x"\nfile = "/x/a"',
            "id_tokens.other.file: is /x/a, as namespace_tokens.default.file is;"
            " give each its own file",
        ),
        (
            '[container]\ntoken_file = "/x/a"\n[namespace_tokens.default]\nfile = "/x/a"',
            "namespace_tokens.default.file: is /x/a, as container.token_file is;"
            " give each its own file",
        ),
    ],
)
def test_what_cannot_be_handed_on_is_said_with_the_keys_path(
    given: Given, text: str, error: str
) -> None:
    assert given.error(text) == error


def test_what_is_for_addresses_that_are_off_is_said(given: Given) -> None:
    config = given.load(
        '[namespace_tokens.default]\nfile = "/x"\nhttp = true\n[id_tokens.other]\naudience = "x"',
        flags={"container": ("off",)},
    )

    assert [warning.partition(": ")[0] for warning in config.warnings] == [
        "namespace_tokens.default",
        "id_tokens.other",
    ]
