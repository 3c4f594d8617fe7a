"""Addresses, files and cloud endpoints, and errors about wrong ones."""

import os
from pathlib import Path

import pytest

from broker.config import (
    Address,
    AuditConfig,
    ConfigError,
    ContainerConfig,
    Flags,
    GuardConfig,
    ImdsConfig,
    LogConfig,
    OpsConfig,
)
from broker.config.errors import shown
from broker.config.load import runtime_dir_of
from tests.support.config import ARN, ROLE, Given

FLAGS = {"role_arns": (ARN,)}
USER = os.getuid() or 54321


def test_what_nobody_says_is_as_the_interface_has_it(given: Given) -> None:
    config = given.load(flags=FLAGS)

    runtime_dir = given.folder / "namespace-broker"
    assert config.imds == ImdsConfig()
    assert config.container == ContainerConfig(
        listen=(Address("127.0.0.1", 8170),),
        listen_explicit=False,
        token_file=runtime_dir / "container-token",
    )
    assert config.ops == OpsConfig(listen=(Address("127.0.0.1", 8171),), listen_explicit=False)
    assert config.guard == GuardConfig()
    assert config.audit == AuditConfig(to=None)
    assert config.log == LogConfig(format="auto", level="info")
    assert (config.runtime_dir, config.state_dir) == (runtime_dir, None)
    assert config.start_timeout_s == 10
    assert config.upstream.iam_endpoint == "https://private-api.global.namespaceapis.com"
    assert (config.upstream.sts_endpoint, config.upstream.ca_bundle) == (None, None)


def test_a_flag_wins_over_its_key(given: Given) -> None:
    config = given.load(
        """
        region = "eu-west-1"
        state_dir = "/var/lib/file"
        [imds]
        listen = ["127.0.0.1:1"]
        [container]
        listen = ["127.0.0.1:2"]
        token_file = "/file"
        [ops]
        listen = ["127.0.0.1:3"]
        [log]
        format = "json"
        level = "debug"
        """,
        flags=FLAGS
        | {
            "region": "eu-central-1",
            "imds": ("[::1]:80", "127.0.0.1:0"),
            "container": ("off",),
            "ops": ("localhost:9",),
            "container_token_file": "/flag",
            "state_dir": "/var/lib/flag",
            "runtime_dir": "/run/flag",
            "log_format": "console",
            "log_level": "error",
            "start_timeout_s": 0.5,
        },
    )

    assert config.region == "eu-central-1"
    assert config.imds.listen == (Address("::1", 80), Address("127.0.0.1", 0))
    assert config.container.listen == ()
    assert config.container.token_file == Path("/flag")
    assert config.ops.listen == (Address("127.0.0.1", 9),)
    assert (config.state_dir, config.runtime_dir) == (Path("/var/lib/flag"), Path("/run/flag"))
    assert config.log == LogConfig(format="console", level="error")
    assert config.start_timeout_s == 0.5


def test_an_address_reads_back_as_it_is_written() -> None:
    assert str(Address("127.0.0.1", 8170)) == "127.0.0.1:8170"
    assert str(Address("::1", 80)) == "[::1]:80"


@pytest.mark.parametrize(
    "text",
    [
        "8170",
        ":8170",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:٣",
        "example.com:80",
        "::1:80",
        "[127.0.0.1]:80",
        "[::1]80",
        "[fe80::1%eth0]:80",
        "",
        "http://127.0.0.1:80",
    ],
)
def test_what_is_no_address_is_shown_what_one_looks_like(given: Given, text: str) -> None:
    in_flag = given.error(flags=FLAGS | {"imds": ("127.0.0.1:0", text)})
    in_file = given.error(f'{ROLE}[ops]\nlisten = ["127.0.0.1:0", "{text}"]')

    assert in_flag.startswith(f"--imds: is {text!a}; give HOST:PORT, like 127.0.0.1:8170")
    assert in_file.startswith(f"ops.listen[1]: is {text!a}; give HOST:PORT")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[imds]\nlisten = ["127.0.0.1:8170"]', "container.listen: has 127.0.0.1:8170, which imds"),
        ('[imds]\nlisten = ["off", "[::1]:80"]', "imds.listen[0]: is off and on; give addresses"),
        ('[imds]\nlisten = "127.0.0.1:80"', "imds.listen: is '127.0.0.1:80'; give a list of"),
        ("[imds]\nv1 = 1", "imds.v1: is 1; give true or false"),
        ("[imds]\nhop_limit = 0", "imds.hop_limit: is 0; give 1 to 255"),
        ('[imds]\ninstance_id = "i 1"', "imds.instance_id: is 'i 1'; give 1 to 128 of"),
        ('[container]\ntoken_file = ""', "container.token_file: is ''; give the path of a file"),
        ('[container]\ntoken_file = "a\\u0000b"', "container.token_file: is 'a\\x00b'; give the"),
        ('[container]\ntoken_group = ""', "container.token_group: is ''; give the name of a group"),
        ("[guard]\nmax_connections = 0", "guard.max_connections: is 0; give 1 to 1000000"),
        ("[guard]\nmax_connections_per_caller = 0", "guard.max_connections_per_caller: is 0; give"),
        ("[guard]\nheader_bytes = 10", "guard.header_bytes: is 10; give 1024 to 1048576"),
        ("[guard]\nheader_timeout_s = nan", "guard.header_timeout_s: is nan; give 0.1 to 600"),
        ("[guard]\nidle_timeout_s = 5", "guard.idle_timeout_s: is 5; give 60 to 86400"),
        (
            '[guard]\nallowed_hosts = ["a:80"]',
            "guard.allowed_hosts[0]: is 'a:80'; give a host name or an IP address, without port",
        ),
        ('[log]\nlevel = "loud"', 'log.level: is \'loud\'; give one of "debug", "info", "warning'),
        ("[log]\nlevel = 2020-01-01", "log.level: is a date or time; give one of"),
        ("[log]\nlevel = []", "log.level: is a list; give one of"),
        ('[audit]\nto = "syslog"', "audit.to: is 'syslog'; give a path from /, or one of journald"),
        ('[audit]\nto = ""', "audit.to: is ''; give a path from /, or one of journald, stdout"),
        ('[audit]\nto = "/a\\u0000"', "audit.to: is '/a\\x00'; give the path of a file"),
        ('[audit]\nfile = "/x"', "audit.file: unknown key; known keys: to"),
        (
            '[audit]\nto = "/x"\n[container]\ntoken_file = "/x"',
            "audit.to: is /x, as container.token_file is; give each its own file",
        ),
    ],
)
def test_a_key_that_cannot_be_is_named_with_what_can(given: Given, text: str, error: str) -> None:
    assert given.error(ROLE + text).startswith(error)


def test_allowed_hosts_are_compared_bare_and_in_lower_case(given: Given) -> None:
    config = given.load(ROLE + '[guard]\nallowed_hosts = ["Broker.Internal", "[FD00::1]"]')

    assert config.guard.allowed_hosts == ("broker.internal", "fd00::1")


@pytest.mark.parametrize("to", ["journald", "stdout"])
def test_the_audit_may_go_to_a_stream_or_a_file(given: Given, to: str) -> None:
    stream = given.load(f'{ROLE}[audit]\nto = "{to}"')
    file = given.load(f'{ROLE}[audit]\nto = "/var/log/x.jsonl"')

    assert stream.audit == AuditConfig(to=to)  # type: ignore[arg-type]
    assert file.audit == AuditConfig(to=Path("/var/log/x.jsonl"))


@pytest.mark.parametrize(
    ("address", "said", "hop_limit"),
    [
        ("169.254.169.254:80", "", 1),
        ("[fe80::1]:80", "", 1),
        ("127.0.0.1:80", "", None),
        ("[fd00:ec2::254]:80", "", None),
        ("169.254.169.254:80", "hop_limit = 2", 2),
        ("127.0.0.1:80", "hop_limit = 2", 2),
    ],
)
def test_an_answer_from_a_link_local_address_passes_no_router_unless_it_is_said(
    given: Given, address: str, said: str, hop_limit: int | None
) -> None:
    imds = given.load(f'{ROLE}[imds]\nlisten = ["{address}"]\n{said}').imds

    assert imds.hop_limit_at(imds.listen[0]) == hop_limit


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"log_format": "xml"}, '--log-format: is \'xml\'; give one of "auto", "console", "json"'),
        (
            {"log_level": "loud"},
            '--log-level: is \'loud\'; give one of "debug", "info", "warning", "error"',
        ),
        ({"start_timeout_s": -1.0}, "--start-timeout: is -1.0; give 0 to 86400"),
        (
            {"region": "us-east-1a"},
            "--region: is 'us-east-1a', which is no region; give its region, us-east-1",
        ),
        (
            {"region": "narnia"},
            "--region: is 'narnia', which is no region; give one like eu-central-1",
        ),
    ],
)
def test_a_flag_that_cannot_be_is_named(given: Given, flags: dict[str, object], error: str) -> None:
    assert given.error(flags=FLAGS | flags) == error


class TestRegion:
    @pytest.mark.parametrize(
        ("file", "environ", "region"),
        [
            ('region = "eu-west-1"', {"AWS_REGION": "us-west-1"}, "eu-west-1"),
            ("", {"AWS_REGION": "us-west-1", "AWS_DEFAULT_REGION": "us-west-2"}, "us-west-1"),
            ("", {"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
        ],
    )
    def test_the_first_that_says_one_wins(
        self, given: Given, file: str, environ: dict[str, str], region: str
    ) -> None:
        config = given.load(f"{file}\n{ROLE}", environ=environ)

        assert (config.region, config.availability_zone) == (region, f"{region}a")
        assert config.roles[0].role.region == region
        assert config.warnings == ()

    def test_where_nobody_says_one_sts_is_asked_in_us_east_1_none_is_served_and_it_is_said(
        self, given: Given
    ) -> None:
        config = given.load(ROLE)

        assert (config.region, config.availability_zone) == (None, None)
        assert config.roles[0].role.region == "us-east-1"
        (warning,) = config.warnings
        assert warning.startswith("region: none is set: STS of us-east-1 is used")

    def test_aws_global_is_refused_and_its_variable_named(self, given: Given) -> None:
        error = given.error(ROLE, environ={"AWS_REGION": "aws-global"})

        assert error == (
            "AWS_REGION: is aws-global, which is no region; give a region, like us-east-1"
        )

    @pytest.mark.parametrize("zone", ["eu-west-1b", "eu-west-1-lon-1a"])
    def test_a_zone_of_the_region_is_taken(self, given: Given, zone: str) -> None:
        text = f'region = "eu-west-1"\navailability_zone = "{zone}"\n'

        assert given.load(text + ROLE).availability_zone == zone

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (
                'region = "eu-west-1"\navailability_zone = "eu-west-2a"\n',
                "availability_zone: is 'eu-west-2a', which is not in eu-west-1;"
                " give one like eu-west-1a",
            ),
            (
                'availability_zone = "eu-west-2a"\n',
                "availability_zone: is set, and no region is; set region too, as in eu-west-2",
            ),
        ],
    )
    def test_a_zone_elsewhere_is_refused(self, given: Given, text: str, error: str) -> None:
        assert given.error(text + ROLE) == error


class TestUpstream:
    def test_endpoints_of_the_environment_lose_their_trailing_slashes(self, given: Given) -> None:
        environ = {
            "NSC_IAM_ENDPOINT": "https://iam.example.com//",
            "NSC_GLOBAL_ENDPOINT": "https://other.example.com",
            "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:4566/",
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY": "http://127.0.0.1:4567/",
        }

        config = given.load(flags=FLAGS, environ=environ)

        assert config.upstream.iam_endpoint == "https://iam.example.com"
        assert config.upstream.sts_endpoint == "http://127.0.0.1:4566"
        assert config.upstream.cognito_endpoint == "http://127.0.0.1:4567"

    def test_the_global_endpoint_stands_in_for_that_of_iam(self, given: Given) -> None:
        config = given.load(flags=FLAGS, environ={"NSC_GLOBAL_ENDPOINT": "http://[::1]:80/x/"})

        assert config.upstream.iam_endpoint == "http://[::1]:80/x"

    @pytest.mark.parametrize(
        "environ",
        [
            {"AWS_ENDPOINT_URL": "https://elsewhere.example.com"},
            {
                "AWS_ENDPOINT_URL_STS": "https://elsewhere.example.com",
                "AWS_ENDPOINT_URL_COGNITO_IDENTITY": "https://elsewhere.example.com",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
        ],
    )
    def test_what_is_not_for_a_service_does_not_redirect_it(
        self, given: Given, environ: dict[str, str]
    ) -> None:
        upstream = given.load(flags=FLAGS, environ=environ).upstream

        assert (upstream.sts_endpoint, upstream.cognito_endpoint) == (None, None)

    @pytest.mark.parametrize(
        "name", ["NSC_IAM_ENDPOINT", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_COGNITO_IDENTITY"]
    )
    @pytest.mark.parametrize(
        ("url", "what"),
        [
            ("http://example.com", "is plain http to example.com; plain http is for loopback;"),
            ("http://127.0.0.1.example.com", "is plain http to 127.0.0.1.example.com; plain"),
            ("ftp://example.com", "is no http or https URL; give https://HOST, or"),
            ("example.com", "is no http or https URL; "),
            ("https://", "is no http or https URL; "),
            ("https://exa mple.com", "is no http or https URL; "),
            ("https://example.com:port", "is no URL; "),
            ("https://[::1", "is no URL; "),
            ("https://user:secret@example.com", "has a user, query or fragment; "),
            ("https://example.com/?a=secret", "has a user, query or fragment; "),
        ],
    )
    def test_an_endpoint_that_cannot_be_is_named_without_a_secret(
        self, given: Given, name: str, url: str, what: str
    ) -> None:
        error = given.error(flags=FLAGS, environ={name: url})

        assert error.startswith(f"{name}: {what}")
        assert "secret" not in error

    @pytest.mark.parametrize(
        ("text", "quoted"),
        [
            ("http://127.0.0.1:notaport", "http://127.0.0.1:notaport"),
            ("127.0.0.1:notaport", "127.0.0.1:notaport"),
            ("http://user:secret@", "http://"),
            ("user:secret@proxy:port", "proxy:port"),
            ("socks5://proxy:1080", "socks5://proxy:1080"),
        ],
    )
    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
    def test_a_proxy_that_cannot_be_is_named_without_its_password(
        self, given: Given, name: str, text: str, quoted: str
    ) -> None:
        error = given.error(flags=FLAGS, environ={name: text})

        assert error == (
            f"{name}: is {shown(quoted)}, which is no http proxy; set it to http://HOST:PORT"
        )

    @pytest.mark.parametrize("text", ["http://proxy:3128", "proxy:3128", "https://u:p@proxy", ""])
    def test_a_proxy_is_left_to_the_environment(self, given: Given, text: str) -> None:
        given.load(flags=FLAGS, environ={"HTTPS_PROXY": text})

    def test_fips_and_dual_stack_endpoints_are_chosen_as_for_every_aws_tool(
        self, given: Given
    ) -> None:
        config = given.load(
            flags=FLAGS,
            environ={"AWS_USE_FIPS_ENDPOINT": "True", "AWS_USE_DUALSTACK_ENDPOINT": "false"},
        )

        assert (config.upstream.use_fips, config.upstream.use_dualstack) == (True, False)

    def test_the_ca_bundle_must_be_there(self, given: Given) -> None:
        bundle = given.folder / "ca.pem"

        missing = given.error(flags=FLAGS, environ={"AWS_CA_BUNDLE": str(bundle)})
        bundle.write_text("")
        config = given.load(flags=FLAGS, environ={"AWS_CA_BUNDLE": str(bundle)})

        assert missing == "AWS_CA_BUNDLE: is ca.pem, which does not exist; correct it"
        assert config.upstream.ca_bundle == str(bundle)


class TestDirectories:
    def test_systemds_come_before_the_users(self, given: Given) -> None:
        environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/a"}

        config = given.load(flags=FLAGS, environ=environ)

        assert (config.runtime_dir, config.state_dir) == (Path("/run/a"), Path("/var/lib/a"))

    def test_without_any_it_is_one_by_uid_in_the_temporary_directory(self, tmp_path: Path) -> None:
        environ = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}

        found = runtime_dir_of(Flags(), environ, uid=USER)

        assert found == tmp_path / f"namespace-broker-{USER}"

    def test_roots_is_the_systems(self, tmp_path: Path) -> None:
        assert runtime_dir_of(Flags(), {"TMPDIR": str(tmp_path)}, uid=0) == Path(
            "/run/namespace-broker"
        )

    def test_one_by_uid_that_anybody_could_have_put_there_is_refused(self, tmp_path: Path) -> None:
        ours = tmp_path / f"namespace-broker-{USER}"
        ours.symlink_to(tmp_path)

        with pytest.raises(ConfigError, match=f"^--runtime-dir: {ours} is a link; give one of"):
            runtime_dir_of(Flags(), {"TMPDIR": str(tmp_path)}, uid=USER)

    def test_one_by_uid_that_others_may_enter_is_refused(self, tmp_path: Path) -> None:
        ours = tmp_path / f"namespace-broker-{USER}"
        ours.mkdir()
        ours.chmod(0o755)
        os.chown(ours, USER, -1)

        with pytest.raises(ConfigError, match=r"is open to others \(mode 0755\); give one of"):
            runtime_dir_of(Flags(), {"TMPDIR": str(tmp_path)}, uid=USER)
