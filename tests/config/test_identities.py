"""Namespace identities, those from AWS too: by the file and by the flags of `login`."""

from typing import Any

import pytest

from broker.config import (
    AutoIdentityConfig,
    CognitoIdentityConfig,
    ConfigError,
    Flags,
    LoginFlags,
    NoRole,
    StsIdentityConfig,
    load_identity,
    load_login,
    load_roles,
)
from tests.support.config import NO_FILE, ROLE, Given

GUID = "6f0a1b2c-3d4e-5f60-7182-93a4b5c6d7e8"
POOL = f"eu-west-1:{GUID}"
USED = ROLE.replace('"\n', '"\nidentity = "aws"\n', 1)
REGION = {"AWS_REGION": "eu-central-1"}


def identity(given: Given, lines: str, *, region: str | None = None) -> Any:
    """Return the identity ``aws`` with those lines."""
    config = given.load(
        f"{USED}[identities.aws]\n{lines}", environ={"AWS_REGION": region} if region else None
    )
    return config.identities["aws"]


class TestSts:
    def test_with_nothing_else_said_it_is_as_the_guide_has_it(self, given: Given) -> None:
        found = identity(given, 'source = "sts"\nworkspace = "ws_1"', region="us-east-1")

        assert found == StsIdentityConfig(
            name="aws",
            workspace="ws_1",
            audience="https://federation.namespaceapis.com",
            algorithm="ES384",
            duration_s=300,
            region="us-east-1",
        )

    def test_everything_can_be_said(self, given: Given) -> None:
        found = identity(
            given,
            """
            source = "sts"
            workspace = "tenant_x"
            audience = "federation.namespaceapis.com"
            algorithm = "RS256"
            duration_s = 60
            region = "eu-west-1"
            profile = "my profile"
            """,
            region="us-east-1",
        )

        assert (found.audience, found.algorithm) == ("federation.namespaceapis.com", "RS256")
        assert (found.duration_s, found.region, found.profile) == (60, "eu-west-1", "my profile")

    def test_without_any_region_it_is_the_profiles_own(self, given: Given) -> None:
        assert identity(given, 'source = "sts"\nworkspace = "ws_1"').region is None

    def test_without_a_workspace_it_is_said_once(self, given: Given) -> None:
        config = given.load(f'{USED}[identities.aws]\nsource = "sts"', environ=REGION)

        (warning,) = config.warnings
        assert warning.startswith("identities.aws: no workspace is named, so Namespace chooses")


class TestCognito:
    @pytest.mark.parametrize(
        ("lines", "pool"),
        [
            (f'identity_pool = "{POOL}"', POOL),
            (f'identity_pool = "{GUID}"', f"us-east-1:{GUID}"),
            (f'identity_pool = "{GUID}"\nregion = "eu-west-1"', POOL),
            (f'identity_pool = "{POOL}"\nregion = "eu-west-1"', POOL),
        ],
    )
    def test_a_pool_is_region_and_guid_however_it_is_said(
        self, given: Given, lines: str, pool: str
    ) -> None:
        found = identity(
            given, f'source = "cognito"\nworkspace = "ws_1"\n{lines}', region="us-east-1"
        )

        assert (found.identity_pool, found.region) == (pool, pool.partition(":")[0])
        assert (found.workspace, found.developer_provider) == ("ws_1", "namespace.so")

    def test_a_bare_guid_needs_a_region(self, given: Given) -> None:
        lines = f'source = "cognito"\nworkspace = "ws_1"\nidentity_pool = "{GUID}"'

        assert given.error(f"{USED}[identities.aws]\n{lines}") == (
            f"identities.aws.identity_pool: is {GUID}, and no region is set;"
            f" give REGION:{GUID}, or set AWS_REGION"
        )


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ('source = "cognito"', "workspace: is missing; give the workspace's id"),
        (
            'source = "cognito"\nworkspace = "w"',
            "identity_pool: is missing; give its guid, or region:guid",
        ),
        (
            'source = "cognito"\nworkspace = "w"\nidentity_pool = "pool"',
            "identity_pool: is 'pool', which is no identity pool; give its guid, or region:guid",
        ),
        (
            f'source = "cognito"\nworkspace = "w"\nidentity_pool = "aws-global:{GUID}"',
            "identity_pool: is aws-global, which is no region; give a region, like us-east-1",
        ),
        (
            f'source = "cognito"\nworkspace = "w"\nidentity_pool = "{POOL}"\nregion = "us-east-1"',
            "region: is us-east-1; the identity pool is in eu-west-1",
        ),
        (
            f'source = "cognito"\nworkspace = "w"\nidentity_pool = "{POOL}"\n'
            'developer_provider = "name space"',
            "developer_provider: is 'name space'; give 1 to 128 of letters, digits and ._-",
        ),
        (
            'source = "cognito"\naudience = "x"',
            "audience: has no meaning with cognito; take it away, or use sts",
        ),
        (
            'source = "cognito"\nduration_s = 300',
            "duration_s: has no meaning with cognito; take it away, or use sts",
        ),
        (
            f'source = "sts"\nidentity_pool = "{GUID}"',
            "identity_pool: has no meaning with sts; take it away, or use cognito",
        ),
        (
            'source = "sts"\npath = "/x"',
            "path: has no meaning with sts; take it away, or use token-file or token-spec",
        ),
        (
            'source = "token-file"\npath = "/x"\nworkspace = "w"',
            "workspace: has no meaning with token-file; take it away, or use sts or cognito",
        ),
        ('profile = "x"', "profile: has no meaning with auto; take it away, or use sts or cognito"),
        ('source = "sts"\nduration_s = 59', "duration_s: is 59; STS takes 60 to 3600"),
        ('source = "sts"\nduration_s = 3601', "duration_s: is 3601; STS takes 60 to 3600"),
        (
            'source = "sts"\nalgorithm = "ES256"',
            'algorithm: is \'ES256\'; give one of "ES384", "RS256"',
        ),
        ('source = "sts"\nworkspace = "a b"', "workspace: is 'a b'; give the workspace's id"),
        ('source = "sts"\nworkspace = ""', "workspace: is ''; give the workspace's id"),
        ('source = "sts"\nprofile = ""', "profile: is ''; give the name of a profile"),
        (
            'source = "sts"\nregion = "aws-global"',
            "region: is aws-global, which is no region; give a region, like us-east-1",
        ),
    ],
)
def test_what_an_identity_cannot_be_is_said_with_the_keys_path(
    given: Given, lines: str, error: str
) -> None:
    assert given.error(f"{USED}[identities.aws]\n{lines}") == f"identities.aws.{error}"


class TestUse:
    def test_an_identity_that_nothing_uses_is_checked_said_and_not_kept(self, given: Given) -> None:
        text = f'{ROLE}[identities.spare]\nsource = "token-file"\npath = '

        config = given.load(text + '"/x"', environ=REGION)

        (warning,) = config.warnings
        assert list(config.identities) == ["default"]
        assert warning.startswith("identities.spare: nothing uses it, so no token is obtained")
        assert given.error(text + '""').startswith("identities.spare.path: is ''")

    def test_a_command_without_a_daemon_has_the_identity_that_it_names_and_nothing_else(
        self, given: Given
    ) -> None:
        given.file.write_text(f'{USED}[identities.aws]\nsource = "sts"\n[identities.spare]')
        flags = Flags(config=str(given.file))

        named = load_identity(flags, REGION, "spare", system_file=NO_FILE)
        unnamed = load_identity(flags, REGION, None, system_file=NO_FILE)
        with pytest.raises(ConfigError, match=r"^--identity: is 'nobody', which is no identity"):
            load_identity(flags, REGION, "nobody", system_file=NO_FILE)

        assert (named.roles, list(named.identities), named.warnings) == ((), ["spare"], ())
        assert list(unnamed.identities) == ["aws"]
        assert len(unnamed.warnings) == 1

    def test_without_a_configuration_that_is_the_automatic_one(self) -> None:
        config = load_identity(Flags(), {}, None, system_file=NO_FILE)

        assert dict(config.identities) == {"default": AutoIdentityConfig(name="default")}
        assert config.warnings == ()

    def test_the_identity_that_is_handed_on_comes_before_the_roles(self, given: Given) -> None:
        given.file.write_text(f"{ROLE}[identities.aws]\n[namespace_tokens.aws]\nhttp = true")

        config = load_identity(Flags(config=str(given.file)), REGION, None, system_file=NO_FILE)

        assert list(config.identities) == ["aws"]

    def test_a_command_that_wants_a_role_obtains_nothing_else(self, given: Given) -> None:
        given.file.write_text(f"{ROLE}[identities.aws]\n[namespace_tokens.aws]\nhttp = true")
        flags = Flags(config=str(given.file), container=("off",))

        config = load_roles(flags, REGION, system_file=NO_FILE)
        with pytest.raises(NoRole):
            load_roles(Flags(), REGION, system_file=NO_FILE)

        assert (list(config.identities), config.namespace_tokens) == (["default"], ())
        assert config.warnings == ()


class TestLogin:
    def test_it_is_an_identity_by_flags(self) -> None:
        flags = LoginFlags(via="cognito", workspace="ws_1", identity_pool=GUID, profile="me")

        login = load_login(flags, REGION | {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"})

        assert isinstance(login.identity, CognitoIdentityConfig)
        assert login.identity.identity_pool == f"eu-central-1:{GUID}"
        assert login.identity.profile == "me"
        assert login.upstream.sts_endpoint == "http://127.0.0.1:1"
        assert login.warnings == ()

    def test_a_region_that_is_said_makes_the_environments_not_matter(self) -> None:
        flags = LoginFlags(via="sts", workspace="ws_1", region="us-east-1")

        assert load_login(flags, {"AWS_REGION": "aws-global"}).identity.region == "us-east-1"

    def test_without_a_workspace_there_is_one_warning(self) -> None:
        (warning,) = load_login(LoginFlags(via="sts"), REGION).warnings

        assert warning.startswith("--workspace: no workspace is named, so Namespace chooses")

    @pytest.mark.parametrize(
        ("flags", "error"),
        [
            (LoginFlags(via="cognito"), "--workspace: is missing; give the workspace's id"),
            (
                LoginFlags(via="sts", identity_pool=GUID),
                "--identity-pool: has no meaning with sts; take it away, or use cognito",
            ),
            (
                LoginFlags(via="sts", region="aws-global"),
                "--region: is aws-global, which is no region; give a region, like us-east-1",
            ),
        ],
    )
    def test_errors_name_the_flag(self, flags: LoginFlags, error: str) -> None:
        with pytest.raises(ConfigError) as raised:
            load_login(flags, {})

        assert str(raised.value) == error

    def test_aws_global_is_refused_and_its_variable_named(self) -> None:
        with pytest.raises(ConfigError, match=r"^AWS_REGION: is aws-global, which is no region"):
            load_login(LoginFlags(via="sts"), {"AWS_REGION": "aws-global"})
