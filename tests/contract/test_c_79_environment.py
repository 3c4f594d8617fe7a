"""C-79 to C-86: the environment of clients.

Each test lets our command print it, a shell evaluate it, and looks at what a program then sees.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.fake_broker import CLIENT, TOKEN, Cli, FakeBroker, running, variables_in

METADATA_ADDRESSES = {
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "127.0.0.1",
    "localhost",
    "::1",
}


class Host:
    """A host with a broker, and a shell on it."""

    def __init__(self, cli: Cli, fake: FakeBroker) -> None:
        self.cli = cli
        self.fake = fake

    def serves(self, **facts: object) -> None:
        self.fake.answers["/v1/client"] = (200, {**CLIENT, **facts})

    def after_env(self, *arguments: str, before: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what a program sees after ``eval "$(namespace-broker env ...)"``."""
        done = self.cli.run("env", *arguments, environ=before)
        assert (done.returncode, done.stderr) == (0, "")
        return variables_in("sh", done.stdout, before)


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    # A short name: the path of a socket has at most 107 characters.
    cli = Cli(tmp_path_factory.mktemp("h"))
    with running(cli.runtime_dir) as fake:
        yield Host(cli, fake)


def test_c_79_the_endpoint_variable_ends_in_a_slash(host: Host) -> None:
    seen = host.after_env("--surface", "imds")

    assert seen["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "http://127.0.0.1:8169/"


@pytest.mark.parametrize("url", ["http://169.254.169.254:80", "http://169.254.169.254"])
def test_c_79_the_default_address_goes_without_the_variable_for_php(host: Host, url: str) -> None:
    host.serves(imds=["http://[::1]:8169", url])
    before = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://elsewhere/",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6",
    }

    seen = host.after_env("--surface", "imds", before=before)

    assert not {name for name in seen if name.startswith("AWS_EC2_METADATA_SERVICE")}


def test_c_80_object_store_and_gdal_get_their_own_variables(host: Host) -> None:
    seen = host.after_env("--surface", "imds")

    assert seen["AWS_METADATA_ENDPOINT"] == "http://127.0.0.1:8169"
    assert seen["CPL_AWS_EC2_API_ROOT_URL"] == "http://127.0.0.1:8169"
    assert seen["CPL_AWS_AUTODETECT_EC2"] == "NO"


@pytest.mark.parametrize("surface", ["imds", "container"])
def test_c_81_no_proxy_names_every_metadata_address(host: Host, surface: str) -> None:
    seen = host.after_env("--surface", surface)

    assert set(seen["NO_PROXY"].split(",")) == METADATA_ADDRESSES
    assert seen["no_proxy"] == seen["NO_PROXY"]


def test_c_81_no_proxy_keeps_what_was_there(host: Host) -> None:
    before = {"NO_PROXY": "intranet, 10.0.0.0/8", "no_proxy": ".example.com,127.0.0.1"}

    seen = host.after_env(before=before)

    entries = seen["NO_PROXY"].split(",")
    assert entries[:4] == ["intranet", "10.0.0.0/8", ".example.com", "127.0.0.1"]
    assert set(entries) >= METADATA_ADDRESSES
    assert len(entries) == len(set(entries))
    assert seen["no_proxy"] == seen["NO_PROXY"]


def test_c_81_a_star_that_keeps_everything_from_the_proxy_stays_alone(host: Host) -> None:
    assert host.after_env(before={"no_proxy": "*"})["NO_PROXY"] == "*"


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        (["http://127.0.0.1:8170"], "http://127.0.0.1:8170/v1/credentials"),
        (["http://[fd00:ec2::23]:80", "http://127.0.0.1:9"], "http://127.0.0.1:9/v1/credentials"),
        (["http://127.0.0.2:1", "http://[::1]:9"], "http://[::1]:9/v1/credentials"),
        (["http://[::1]:9", "http://169.254.170.2:80"], "http://169.254.170.2:80/v1/credentials"),
    ],
)
def test_c_82_the_full_uri_names_the_address_that_most_clients_take(
    host: Host, listening: list[str], expected: str
) -> None:
    host.serves(container=listening)

    assert host.after_env()["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == expected


def test_c_82_a_requested_role_is_in_the_path(host: Host) -> None:
    seen = host.after_env("--role", "audit")

    assert seen["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:8170/role/audit"


def test_c_83_the_token_is_given_by_value_and_by_file(host: Host) -> None:
    seen = host.after_env()

    file = Path(seen["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
    assert seen["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == TOKEN
    assert file.read_bytes() == TOKEN.encode()
    assert file.stat().st_mode & 0o777 == 0o600


def test_c_84_of_the_two_uris_only_the_full_one_is_set(host: Host) -> None:
    seen = host.after_env(before={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/other"})

    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in seen
    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" not in seen


def test_c_84_instance_metadata_is_not_hidden_behind_a_container_uri(host: Host) -> None:
    before = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/other",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "other",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/other",
    }

    seen = host.after_env("--surface", "imds", before=before)

    assert not {name for name in seen if name.startswith("AWS_CONTAINER")}


@pytest.mark.parametrize("surface", ["imds", "container"])
def test_c_85_the_region_is_set_where_it_is_known(host: Host, surface: str) -> None:
    known = host.after_env("--surface", surface)
    host.serves(region=None)
    unknown = host.after_env("--surface", surface)

    assert (known["AWS_REGION"], known["AWS_DEFAULT_REGION"]) == ("eu-central-1", "eu-central-1")
    assert not {"AWS_REGION", "AWS_DEFAULT_REGION"} & set(unknown)


def test_c_85_instance_metadata_is_never_disabled(host: Host) -> None:
    for how in ("shell", "github", "docker", "json"):
        done = host.cli.run("env", "--surface", "imds", "--for", how)

        assert "AWS_EC2_METADATA_DISABLED=" not in done.stdout
        assert '"AWS_EC2_METADATA_DISABLED"' not in done.stdout

    seen = host.after_env("--surface", "imds", before={"AWS_EC2_METADATA_DISABLED": "false"})
    assert "AWS_EC2_METADATA_DISABLED" not in seen


@pytest.mark.parametrize("v1", [False, True])
def test_c_85_version_1_is_disabled_unless_it_is_served(host: Host, v1: bool) -> None:
    host.serves(imds_v1=v1)

    seen = host.after_env("--surface", "imds")

    assert seen.get("AWS_EC2_METADATA_V1_DISABLED") == (None if v1 else "true")


@pytest.mark.parametrize("surface", ["imds", "container"])
def test_c_86_what_stands_before_us_in_every_chain_is_cleared(host: Host, surface: str) -> None:
    before = {
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_PROFILE": "other",
    }

    seen = host.after_env("--surface", surface, before=before)
    in_child = host.cli.run("exec", "--", "env", environ=before).stdout

    assert not set(before) & set(seen)
    assert not [line for line in in_child.splitlines() if line.partition("=")[0] in before]


def test_c_86_github_empties_what_is_set_and_nothing_else(host: Host) -> None:
    before = {"AWS_PROFILE": "other", "AWS_SESSION_TOKEN": ""}

    lines = host.cli.run("env", "--for", "github", environ=before).stdout.splitlines()

    assert [line for line in lines if line.endswith("=")] == ["AWS_PROFILE="]
