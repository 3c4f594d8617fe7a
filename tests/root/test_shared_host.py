"""On a shared host each user finds its own role at the plain metadata address, or nothing.

With real SDKs in which nothing is configured.
"""

import json
from collections.abc import Iterator

import pytest

from broker.sandbox import sandbox_in_thread
from tests.root.metadata_host import MetadataHost, ask, metadata_host, role_of
from tests.root.own_network import CONTAINER, IMDS, own_network
from tests.support.clients import Ran
from tests.support.proof import Arrivals

ALICE, BOB, MALLORY, NOBODY_WE_KNOW = 4301, 4302, 4303, 4304
ROOT = 0

RULES = f"""
[[rules]]
who = {{ uid = {MALLORY} }}
roles = []

[[rules]]
who = {{ token = "ci" }}
roles = ["backup"]

[[rules]]
who = {{ uid = {ALICE} }}
roles = ["deploy", "backup"]

[[rules]]
who = {{ uid = {BOB} }}
roles = ["audit"]
"""

LIST = f"http://{IMDS}/latest/meta-data/iam/security-credentials/"
PATH = "/v1/credentials"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetadataHost]:
    with (
        own_network(),
        sandbox_in_thread() as sandbox,
        metadata_host(sandbox, tmp_path_factory.mktemp("host"), rules=RULES) as host,
    ):
        yield host


@pytest.fixture
def arrivals(host: MetadataHost) -> Arrivals:
    return Arrivals(host.sandbox)


def session_token(uid: int) -> str:
    seconds = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    status, token = ask(uid, f"http://{IMDS}/latest/api/token", method="PUT", headers=seconds)
    assert status == 200
    return token


def read(uid: int, url: str, *, token: str | None = None) -> tuple[int, str]:
    """Return what that user reads of IMDS, with a session token of its own unless given."""
    return ask(uid, url, headers={"X-aws-ec2-metadata-token": token or session_token(uid)})


def by_container(host: MetadataHost, uid: int, token: str) -> Ran:
    return host.boto3_as(
        uid,
        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=PATH,
        AWS_CONTAINER_AUTHORIZATION_TOKEN=token,
    )


def container_status(uid: int, token: str) -> int:
    return ask(uid, f"http://{CONTAINER}{PATH}", headers={"Authorization": token})[0]


@pytest.mark.parametrize(("uid", "role"), [(ALICE, "deploy"), (BOB, "audit")])
def test_a_user_signs_with_its_own_role(
    host: MetadataHost, arrivals: Arrivals, uid: int, role: str
) -> None:
    ran = host.boto3_as(uid)

    assert role_of(ran) == role
    assert arrivals.served("GetCallerIdentity")


@pytest.mark.parametrize("uid", [MALLORY, NOBODY_WE_KNOW, ROOT])
def test_whom_no_rule_names_and_whom_one_refuses_find_no_credentials(
    host: MetadataHost, arrivals: Arrivals, uid: int
) -> None:
    ran = host.boto3_as(uid)

    assert ran.code != 0
    assert "NoCredentialsError" in ran.errors
    assert arrivals.calls == []


def test_two_users_never_have_the_same_keys(host: MetadataHost) -> None:
    keys = [
        json.loads(read(uid, LIST + role)[1])["AccessKeyId"]
        for uid, role in ((ALICE, "deploy"), (BOB, "audit"))
    ]

    issued = {each.access_key_id for each in host.sandbox.aws.issued}
    assert len({*keys}) == 2
    assert {*keys} <= issued


@pytest.mark.usefixtures("host")
def test_a_user_is_listed_its_default_role_only_and_has_its_others_by_name() -> None:
    assert read(ALICE, LIST) == (200, "deploy")
    assert read(ALICE, LIST + "backup")[0] == 200


@pytest.mark.usefixtures("host")
def test_the_role_of_another_answers_as_one_that_does_not_exist() -> None:
    theirs, none = read(ALICE, LIST + "audit"), read(ALICE, LIST + "no-such-role")

    assert theirs == none
    assert theirs[0] == 404


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("uid", [MALLORY, NOBODY_WE_KNOW, ROOT])
def test_who_has_no_role_is_listed_none_and_has_none_by_name(uid: int) -> None:
    assert read(uid, LIST)[0] == 404
    assert [read(uid, LIST + role)[0] for role in ("deploy", "audit", "none")] == [401, 401, 401]


@pytest.mark.usefixtures("host")
def test_a_session_token_is_no_good_in_the_hands_of_another_user() -> None:
    of_alice = session_token(ALICE)

    assert read(ALICE, LIST, token=of_alice)[0] == 200
    assert read(BOB, LIST, token=of_alice)[0] == 401
    assert read(ROOT, LIST, token=of_alice)[0] == 401


@pytest.mark.parametrize(("uid", "role"), [(ALICE, "deploy"), (BOB, "audit")])
def test_the_plain_container_token_brings_its_holder_what_its_user_is_granted(
    host: MetadataHost, arrivals: Arrivals, uid: int, role: str
) -> None:
    assert role_of(by_container(host, uid, host.token())) == role
    assert arrivals.served("GetCallerIdentity")


@pytest.mark.parametrize("uid", [BOB, NOBODY_WE_KNOW, ROOT])
def test_a_token_of_a_name_names_its_holder_whoever_that_is(
    host: MetadataHost, arrivals: Arrivals, uid: int
) -> None:
    assert role_of(by_container(host, uid, host.token("ci"))) == "backup"
    assert arrivals.served("GetCallerIdentity")


@pytest.mark.parametrize("name", [None, "ci"])
def test_a_refused_user_is_refused_with_any_token_and_gets_nothing_beside_it(
    host: MetadataHost, arrivals: Arrivals, name: str | None
) -> None:
    """Some SDKs go on to IMDS when the container endpoint refuses (C-73)."""
    assert container_status(MALLORY, host.token(name)) == 404
    assert by_container(host, MALLORY, host.token(name)).code != 0
    assert host.boto3_as(MALLORY).code != 0
    assert arrivals.calls == []


def test_without_a_token_the_container_endpoint_gives_nobody_anything(host: MetadataHost) -> None:
    assert ask(ALICE, f"http://{CONTAINER}{PATH}")[0] == 401
    assert container_status(ALICE, "x" * 43) == 401
