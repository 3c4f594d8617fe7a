"""Whether a source would lead back to us.

The standard AWS chain in botocore's order, and every way to name a Namespace identity.
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.sources.aws.self_reference import (
    OwnOutputs,
    SharedFiles,
    aws_self_reference,
    identity_self_reference,
    shared_files,
)
from tests.support.sources import bearer_of, spec_of, write_token_file

CONTAINER = "http://127.0.0.1:8170"
IMDS = "http://169.254.169.254:80"
ID_TOKEN = Path("/run/namespace-broker/id-token")
OURS = OwnOutputs(
    urls={
        CONTAINER: "container.listen",
        IMDS: "imds.listen",
        "http://[fd00:ec2::254]:80": "imds.listen",
    },
    files={ID_TOKEN: "id_tokens.other.file"},
)
OUR_COMMAND = "namespace-broker credential-process --role deploy"
FULL_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
RELATIVE_URI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
WEB_IDENTITY = "AWS_WEB_IDENTITY_TOKEN_FILE"
IMDS_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
NO_FILES = SharedFiles()


def profiles(**named: dict[str, str]) -> SharedFiles:
    return SharedFiles(config=named)


# What leads back to us.


@pytest.mark.parametrize(
    ("environ", "both"),
    [
        ({FULL_URI: f"{CONTAINER}/v1/credentials"}, (FULL_URI, CONTAINER)),
        ({FULL_URI: "http://localhost:8170/creds"}, (FULL_URI, CONTAINER)),
        ({FULL_URI: "http://LOCALHOST:8170/t/x/creds"}, (FULL_URI, CONTAINER)),
        ({FULL_URI: "http://[::ffff:127.0.0.1]:8170/"}, (FULL_URI, CONTAINER)),
        ({IMDS_ENDPOINT: "http://169.254.169.254"}, (IMDS_ENDPOINT, IMDS)),
        ({IMDS_ENDPOINT: f"{CONTAINER}/"}, (IMDS_ENDPOINT, CONTAINER)),
        ({}, ("instance metadata", IMDS)),
        ({f"{IMDS_ENDPOINT}_MODE": "IPv6"}, ("instance metadata", "http://[fd00:ec2::254]:80")),
        ({"AWS_IMDS_USE_IPV6": "true"}, ("instance metadata", "http://[fd00:ec2::254]:80")),
        ({"AWS_EC2_METADATA_DISABLED": "false"}, ("instance metadata", IMDS)),
        ({WEB_IDENTITY: str(ID_TOKEN)}, (WEB_IDENTITY, str(ID_TOKEN))),
        ({"AWS_ENDPOINT_URL_STS": CONTAINER}, ("AWS_ENDPOINT_URL_STS", CONTAINER)),
        (
            {"AWS_ENDPOINT_URL_COGNITO_IDENTITY": CONTAINER, "AWS_ACCESS_KEY_ID": "AKIAX"},
            ("AWS_ENDPOINT_URL_COGNITO_IDENTITY", CONTAINER),
        ),
    ],
)
def test_what_leads_back_to_us_is_named_with_what_it_leads_to(
    environ: dict[str, str], both: tuple[str, str]
) -> None:
    told = aws_self_reference(environ, ours=OURS, shared=NO_FILES)

    assert told is not None
    assert all(part in told for part in both)
    assert "which this broker itself" in told


def test_a_relative_uri_leads_to_its_own_address_on_the_link() -> None:
    ours = OwnOutputs(urls={"http://169.254.170.2:80": "container.listen"})

    told = aws_self_reference({RELATIVE_URI: "/creds"}, ours=ours, shared=NO_FILES)

    assert told is not None
    assert told.startswith(f"{RELATIVE_URI} leads to http://169.254.170.2:80, which this broker")


@pytest.mark.parametrize(
    "command",
    [
        OUR_COMMAND,
        "/usr/bin/namespace-broker credential-process",
        "/srv/venv/bin/python -m broker credential_process",
        '"/opt/name space/namespace-broker" --runtime-dir /x credential-process',
    ],
)
@pytest.mark.parametrize("profile", ["default", "ci"])
def test_a_profile_whose_process_is_our_own_command_is_named(profile: str, command: str) -> None:
    shared = profiles(**{profile: {"credential_process": command}})

    told = aws_self_reference({"AWS_PROFILE": profile}, ours=OURS, shared=shared)

    assert told is not None
    assert f"credential_process of the AWS profile {profile} is `namespace-broker cred" in told


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"ci": {"web_identity_token_file": str(ID_TOKEN), "role_arn": "x"}}, str(ID_TOKEN)),
        ({"ci": {"role_arn": "x", "credential_source": "EcsContainer"}}, FULL_URI),
        ({"ci": {"role_arn": "x", "credential_source": "Ec2InstanceMetadata"}}, IMDS),
        (
            {
                "ci": {"role_arn": "x", "source_profile": "b"},
                "b": {"role_arn": "y", "source_profile": "c"},
                "c": {"credential_process": OUR_COMMAND},
            },
            "AWS profile c is `namespace-broker credential-process`",
        ),
        ({"ci": {"region": "eu-west-1"}}, FULL_URI),
    ],
)
def test_the_profile_of_the_identity_is_followed_to_its_end(
    named: dict[str, dict[str, str]], told: str
) -> None:
    environ = {FULL_URI: CONTAINER, "AWS_ACCESS_KEY_ID": "AKIAX"}

    circle = aws_self_reference(environ, ours=OURS, profile="ci", shared=profiles(**named))

    assert circle is not None
    assert told in circle


def test_a_metadata_endpoint_in_the_profile_is_followed() -> None:
    shared = profiles(ci={"ec2_metadata_service_endpoint": CONTAINER})

    told = aws_self_reference({}, ours=OURS, profile="ci", shared=shared)

    assert told is not None
    assert "ec2_metadata_service_endpoint in the AWS profile" in told


def test_who_listens_on_every_address_is_met_on_loopback() -> None:
    for own, asked in (("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]"), ("0.0.0.0", "localhost")):
        ours = OwnOutputs(urls={f"http://{own}:8170": "container.listen"})

        told = aws_self_reference({FULL_URI: f"http://{asked}:8170/x"}, ours=ours, shared=NO_FILES)

        assert told is not None


def test_a_file_that_is_ours_by_a_link_is_ours(tmp_path: Path) -> None:
    own = tmp_path / "id-token"
    own.touch()
    link = tmp_path / "link"
    link.symlink_to(own)

    told = aws_self_reference(
        {WEB_IDENTITY: str(link)}, ours=OwnOutputs(files={own: "x"}), shared=NO_FILES
    )

    assert told is not None
    assert str(link) in told


# What does not.


@pytest.mark.parametrize(
    ("environ", "shared"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAX", FULL_URI: CONTAINER}, NO_FILES),
        ({FULL_URI: "http://127.0.0.1:8180/"}, NO_FILES),
        ({FULL_URI: "http://127.0.0.2:8170/"}, NO_FILES),
        ({FULL_URI: "https://creds.example/"}, NO_FILES),
        ({FULL_URI: "no url at all: ["}, NO_FILES),
        ({FULL_URI: ""}, NO_FILES),
        ({RELATIVE_URI: "/v2/credentials/x"}, NO_FILES),
        ({"AWS_EC2_METADATA_DISABLED": "TRUE"}, NO_FILES),
        ({IMDS_ENDPOINT: "http://127.0.0.1:1338"}, NO_FILES),
        ({WEB_IDENTITY: "/var/run/secrets/token"}, NO_FILES),
        ({}, profiles(default={"sso_account_id": "1", "credential_process": OUR_COMMAND})),
        ({}, profiles(default={"login_session": "x", "credential_process": OUR_COMMAND})),
        ({}, profiles(default={"credential_process": "aws-vault export --format=json x"})),
        ({}, profiles(default={"credential_process": "namespace-broker status"})),
        ({}, profiles(default={"credential_process": "'unfinished"})),
        ({}, profiles(default={"aws_access_key_id": "AKIAX"})),
        ({}, SharedFiles(credentials={"default": {"aws_access_key_id": "AKIAX"}})),
        (
            {},
            SharedFiles(
                config={"default": {"credential_process": OUR_COMMAND}},
                credentials={"default": {"aws_access_key_id": "AKIAX"}},
            ),
        ),
        (
            {},
            profiles(
                default={"role_arn": "x", "source_profile": "b"},
                b={"aws_access_key_id": "AKIAX"},
            ),
        ),
        (
            {},
            profiles(
                default={"role_arn": "x", "source_profile": "b"},
                b={"role_arn": "y", "source_profile": "b"},
            ),
        ),
        ({}, profiles(default={"role_arn": "x", "credential_source": "Environment"})),
        ({"AWS_PROFILE": "ci"}, profiles(ci={"credential_process": "other"})),
    ],
)
def test_what_leads_elsewhere_is_let_be(environ: dict[str, str], shared: SharedFiles) -> None:
    assert aws_self_reference(environ, ours=OURS, shared=shared) is None


def test_where_we_serve_no_metadata_its_address_is_somebody_elses() -> None:
    ours = OwnOutputs(urls={CONTAINER: "container.listen"})

    assert aws_self_reference({}, ours=ours, shared=NO_FILES) is None


# The shared files.


def test_the_shared_files_are_read_where_the_variables_say(tmp_path: Path) -> None:
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text(
        '[default]\na = 1\n[profile ci]\nb = 2\ns3 =\n  x = y\n[profile "with space"]\nc = 3\n'
        "[sso-session x]\nd = 4\n[ci]\ne = 5\n"
    )
    credentials.write_text("[ci]\naws_access_key_id = AKIAX\nb = 9\n")
    environ = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}

    shared = shared_files(environ)

    assert set(shared.config) == {"default", "ci", "with space"}
    assert shared.profile("ci")["b"] == "9"
    assert shared.profile("ci")["aws_access_key_id"] == "AKIAX"
    assert shared.profile("gone") == {}


def test_the_shared_files_are_read_at_home_else(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ncredential_process = x\n")

    assert shared_files({"HOME": str(tmp_path)}).profile("default") == {"credential_process": "x"}


@pytest.mark.parametrize("content", [b"[[[", b"\xff", b"[a]\nx\n[a]\n", b"no section = 1"])
def test_a_shared_file_that_cannot_be_read_says_nothing_here(
    tmp_path: Path, content: bytes
) -> None:
    config = tmp_path / "config"
    config.write_bytes(content)

    assert (
        aws_self_reference({"AWS_CONFIG_FILE": str(config), "HOME": "/"}, ours=OwnOutputs()) is None
    )


# A Namespace identity that we hand on ourselves.


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A token file that we write, which is there already."""
    return write_token_file(tmp_path / "ours.json", bearer_token="nsct_x")


@pytest.fixture
def ours(written: Path) -> OwnOutputs:
    return OwnOutputs(
        urls={CONTAINER: "container.listen"}, files={written: "namespace_tokens.x.file"}
    )


def our_spec() -> str:
    return spec_of({"version": "v1", "metadata_url": f"{CONTAINER}/nsc/v1/the-secret"})


def test_a_token_file_that_we_write_is_named(ours: OwnOutputs, written: Path) -> None:
    told = identity_self_reference({}, ours=ours, source="token-file", token_file=written)

    assert told is not None
    assert told.startswith(
        f"token_file is {written}, which this broker itself writes (namespace_tokens.x.file)"
    )


def test_a_spec_file_that_leads_to_what_we_serve_is_named(ours: OwnOutputs, tmp_path: Path) -> None:
    spec = tmp_path / "token.spec"
    spec.write_text(our_spec() + "\n")

    told = identity_self_reference({}, ours=ours, source="token-spec", token_spec=spec)

    assert told is not None
    assert f"token_spec ({spec}) leads to {CONTAINER}, which this broker itself serves" in told
    assert "the-secret" not in told


def test_variables_that_name_what_is_ours_are_named(
    ours: OwnOutputs, written: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "token.spec"
    spec.write_text(our_spec())
    for name, value in {
        "NSC_TOKEN_SPEC": our_spec(),
        "NSC_TOKEN_SPEC_FILE": str(spec),
        "NSC_TOKEN_FILE": str(written),
        "NSC_IAM_ENDPOINT": CONTAINER,
        "NSC_GLOBAL_ENDPOINT": f"{CONTAINER}/",
    }.items():
        told = identity_self_reference({name: value}, ours=ours, source="auto")

        assert told is not None
        assert told.startswith(name)


def test_the_first_place_that_is_there_decides(tmp_path: Path) -> None:
    first, last = tmp_path / "meta" / "token.json", tmp_path / "ns" / "token.json"
    first.parent.mkdir()
    ours = OwnOutputs(files={last: "namespace_tokens.x.file"})
    environ = {"NSC_METADATA_DIR": str(first.parent), "XDG_CONFIG_HOME": str(tmp_path)}

    alone = identity_self_reference(environ, ours=ours, source="auto")
    write_token_file(first, bearer_token="nsct_x")
    behind = identity_self_reference(environ, ours=ours, source="auto")

    assert alone is not None
    assert str(last) in alone
    assert behind is None


def test_an_identity_of_somebody_elses_is_let_be(ours: OwnOutputs, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(spec_of({"version": "v1", "metadata_url": "http://127.0.0.1:9/nsc"}))
    inline = spec_of({"inline_token": bearer_of(ends_at=datetime.now(UTC))})
    for environ in (
        {"NSC_TOKEN_SPEC": inline},
        {"NSC_TOKEN_SPEC": "no spec"},
        {"NSC_TOKEN_SPEC_FILE": str(other)},
        {"NSC_TOKEN_SPEC_FILE": str(tmp_path / "gone")},
        {"NSC_TOKEN_FILE": str(other)},
    ):
        assert identity_self_reference(environ, ours=ours, source="auto") is None
    assert identity_self_reference({}, ours=ours, source="token-spec", token_spec=tmp_path) is None
    assert identity_self_reference({"NSC_TOKEN_SPEC": our_spec()}, ours=ours, source="sts") is None
