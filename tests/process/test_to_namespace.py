"""An AWS identity becomes a Namespace token that others pick up.

It is handed on, renewed, kept through an outage and removed when it must be; and nothing leads
back to ourselves.
"""

import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.surfaces.namespace import token_spec
from tests.support.broker_process import LIMIT_S, get, until
from tests.support.nsc import decoded_spec
from tests.support.nsc_claims import NotLoggedIn, claims_of
from tests.support.workload import Workload, handing_on, workload_by, workspace_of

SHORT_S = 6
"""A life whose half, and whose end, a test can wait for."""

BY_EACH_WAY = pytest.mark.parametrize("source", ["sts", "cognito"])


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@pytest.fixture
def workload(sandbox: Sandbox, tmp_path: Path) -> Workload:
    return workload_by(sandbox, tmp_path, source="sts")


def is_live(bearer: str) -> bool:
    return claims_of(bearer).outlives(datetime.now(UTC))


# Handed on.


@BY_EACH_WAY
def test_every_reader_finds_the_token_once_the_broker_is_ready(
    sandbox: Sandbox, tmp_path: Path, source: str
) -> None:
    workload = workload_by(sandbox, tmp_path, source=source)

    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        by_file, by_sdk = workload.by_file().bearer(), workload.by_sdk()
        told = workload.told()
        by_spec = workload.by_spec().bearer()

    assert by_file == by_sdk == by_spec
    assert told["NSC_TOKEN_FILE"] == str(workload.file)
    assert workspace_of(sandbox, by_file) == "Acme"


def test_only_the_token_is_in_the_directory_and_only_for_us(workload: Workload) -> None:
    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        directory = workload.file.parent
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}

        assert modes == {"token.json": 0o600}
        assert directory.stat().st_mode & 0o777 == 0o700
        assert json.loads(workload.file.read_text()).keys() == {"bearer_token"}


def test_everything_else_gets_json_for_the_container_token(workload: Workload) -> None:
    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        url = f"{broker.endpoints['container'][0]}/v1/namespace-token"
        status, body = get(url, authorization=broker.container_token)
        without, nothing = get(url)

    document = json.loads(body)
    assert status == 200
    assert document["tenant_id"] == "ws_1"
    assert datetime.fromisoformat(document["expires_at"]) > datetime.now(UTC)
    assert without == 401
    assert document["token"].encode() not in nothing


def test_no_token_and_no_secret_is_in_the_log_at_its_most_talkative(workload: Workload) -> None:
    with workload.broker("--log-level", "debug") as broker:
        broker.wait_for("daemon.ready")
        url = decoded_spec(workload.told()["NSC_TOKEN_SPEC"])["metadata_url"]
        secrets = [workload.by_spec().bearer(), url.rpartition("/")[2], broker.container_token]
        probed(url, "/nsc/v1/wrong/workload_token")
        broker.wait_for("caller.refused")
        broker.stop()

    secrets += [workload.aws["AWS_SECRET_ACCESS_KEY"], workload.aws["AWS_SESSION_TOKEN"]]
    log = (workload.folder / "log-0").read_text()
    assert [secret for secret in secrets if secret in log] == []


def test_the_file_goes_when_the_broker_leaves(workload: Workload) -> None:
    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        assert workload.file.exists()

        assert broker.stop() == 0

    assert list(workload.file.parent.iterdir()) == []


# In time.


def test_a_renewed_token_takes_the_place_of_a_live_one_and_of_what_nsc_had_cached(
    sandbox: Sandbox, workload: Workload
) -> None:
    sandbox.namespace.choices.exchanged_lifetime_s = SHORT_S
    cache = workload.file.with_name("token.cache")

    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        sandbox.namespace.choices.exchanged_lifetime_s = 3600
        first = workload.by_file().bearer()
        assert cache.read_text() == first  # so little is left that nsc keeps it

        def another() -> str | None:
            bearer = workload.by_sdk()
            assert is_live(bearer)
            return bearer if bearer != first else None

        second = until(another, what="another token in the file")
        broker.wait_for("lease.renewed")
        until(lambda: not cache.exists(), what="the cache to go")

        assert workload.by_spec().bearer() == second
        assert workload.by_file().bearer() == second
        assert workspace_of(sandbox, second) == "Acme"


def test_an_outage_leaves_the_file_while_its_token_lives_and_the_end_of_it_brings_it_back(
    sandbox: Sandbox, workload: Workload
) -> None:
    sandbox.namespace.choices.exchanged_lifetime_s = SHORT_S

    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        sandbox.fail("ExchangeOIDCToken", status=503)
        broker.wait_for("lease.renewal_failed")
        first = workload.by_sdk()
        assert is_live(first)

        until(lambda: not workload.file.exists(), what="the file to go")
        assert not is_live(first)
        with pytest.raises(NotLoggedIn, match="not logged in"):
            workload.by_file().bearer()
        with pytest.raises(ConnectionError):
            workload.by_spec().bearer()

        sandbox.namespace.choices.exchanged_lifetime_s = 3600
        sandbox.heal()
        until(workload.file.exists, what="the file to come back")
        assert workspace_of(sandbox, workload.by_sdk()) == "Acme"


# Refused.


def test_a_refused_role_is_told_what_it_presented_and_what_would_admit_it(
    sandbox: Sandbox, workload: Workload
) -> None:
    (relationship,) = sandbox.namespace.trust_relationships()
    sandbox.namespace.distrust(str(relationship["id"]))

    with workload.broker() as broker:
        reason = broker.wait_for("lease.refused")["reason"]
        broker.wait_for("daemon.ready")
        assert broker.ready()["leases"][0]["state"] == "refused"
        assert not workload.file.exists()

    issuer = str(relationship["issuer"])
    assert f"iss='{issuer}' sub='{workload.arn}'" in reason
    assert "aud='https://federation.namespaceapis.com'" in reason
    add = ["nsc", "auth", "trust-relationships", "add"]
    assert command_in(reason) == [*add, "--issuer", issuer, "--subject-match", workload.arn]


def test_a_refused_identity_pool_is_told_the_command_that_would_admit_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    workload = workload_by(sandbox, tmp_path, source="cognito")
    ((pool_id, _),) = sandbox.namespace.trusted_pools()
    sandbox.namespace.distrust_pool(pool_id)

    with workload.broker() as broker:
        reason = broker.wait_for("lease.refused")["reason"]

    region, _, guid = pool_id.partition(":")
    assert "iss='https://cognito-identity.amazonaws.com'" in reason
    assert f"aud='{pool_id}'" in reason
    trust = ["nsc", "auth", "trust-aws-cognito-identity-pool"]
    named = ["--aws_region", region, "--identity_pool", guid, "--tenant_id", "ws_1"]
    assert command_in(reason) == [*trust, *named]


def command_in(reason: str) -> list[str]:
    """Return the words of the first command there, as a shell that it is pasted into reads them."""
    return shlex.split(reason.split("`")[1])


# A file that somebody else could put another in place of.


def of_another_user(folder: Path) -> tuple[Path, Path]:
    """Root's, or made by root for somebody."""
    if os.geteuid() != 0:
        return Path("/usr/token.json"), Path("/usr")
    directory = folder / "theirs"
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    return directory / "token.json", directory


def writable_by_everybody(folder: Path) -> tuple[Path, Path]:
    directory = folder / "open"
    directory.mkdir()
    directory.chmod(0o777)
    return directory / "token.json", directory


def behind_a_link(folder: Path) -> tuple[Path, Path]:
    link = folder / "link"
    link.symlink_to(own_directory(folder))
    return link / "token.json", link


def a_link_itself(folder: Path) -> tuple[Path, Path]:
    file = own_directory(folder) / "token.json"
    file.symlink_to(folder / "elsewhere.json")
    return file, file


def a_persons_login(folder: Path) -> tuple[Path, Path]:
    file = own_directory(folder) / "token.json"
    file.write_text('{"session_token": "st_a.b.c"}')
    return file, file


def own_directory(folder: Path) -> Path:
    directory = folder / "own"
    directory.mkdir(mode=0o700)
    return directory


PLACES = (of_another_user, writable_by_everybody, behind_a_link, a_link_itself, a_persons_login)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_place_that_must_not_be_used_is_named_at_start(
    workload: Workload, place: Callable[[Path], tuple[Path, Path]]
) -> None:
    file, at_fault = place(workload.folder)

    line = workload.refusal(config=handing_on(file, workload.identity))

    assert f"{at_fault} " in line
    assert workload.sandbox.namespace.calls == ()


# Probed.


def probed(url: str, target: str, *lines: str, method: str = "GET") -> bytes:
    """Return every byte that comes back on a connection of its own; *lines* stand for Host's."""
    at = urlsplit(url)
    assert at.hostname is not None
    head = [f"{method} {target} HTTP/1.1", *(lines or (f"Host: {at.netloc}",)), "", ""]
    received = b""
    with socket.create_connection((at.hostname, at.port or 80), timeout=LIMIT_S) as connection:
        connection.sendall("\r\n".join(head).encode())
        with suppress(ConnectionResetError):
            while more := connection.recv(65536):
                received += more
    return received


def test_a_prober_without_the_secret_gets_not_even_a_status_line(workload: Workload) -> None:
    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        url = decoded_spec(workload.told()["NSC_TOKEN_SPEC"])["metadata_url"]
        secret = urlsplit(url).path
        host = f"Host: {urlsplit(url).netloc}"
        answers = [
            probed(url, "/nsc/v1/workload_token"),
            probed(url, "/nsc/v1//workload_token"),
            probed(url, f"/nsc/v1/{'A' * 43}/workload_token"),
            probed(url, f"{secret[:-1]}/workload_token"),
            probed(url, "/nsc"),
            probed(url, secret),
            probed(url, f"{secret}/other"),
            probed(url, f"{secret}/workload_token", method="POST"),
            probed(url, f"{secret}/workload_token", "Host: evil.example"),
            probed(url, f"{secret}/workload_token", host, "Origin: http://evil.example"),
            probed(url, f"{secret}/workload_token", host, "X-Forwarded-For: 192.0.2.1"),
            probed(url, "/nsc/v1/x", host, "Content-Length: 5", "Expect: 100-continue"),
        ]
        known = probed(url, f"{secret}/workload_token", host, "Connection: close")

    assert answers == [b""] * len(answers)
    assert known.startswith(b"HTTP/1.1 200 ")
    assert known.endswith(b"\r\n\r\n" + workload_token_in(known))


def workload_token_in(answer: bytes) -> bytes:
    bearer = answer.partition(b"\r\n\r\n")[2]
    assert is_live(bearer.decode())
    return bearer


# Nothing leads back to us.


@pytest.fixture
def own() -> str:
    """An address that the broker will listen on, ``HOST:PORT``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_our_own_container_endpoint_is_no_aws_identity(workload: Workload, own: str) -> None:
    variable = "AWS_CONTAINER_CREDENTIALS_FULL_URI"

    line = workload.refusal("--container", own, environ={variable: f"http://{own}/v1/credentials"})

    assert f"identities.aws: {variable} leads to http://{own}" in line
    assert "container.listen" in line


def test_our_own_instance_metadata_is_no_aws_identity(workload: Workload, own: str) -> None:
    variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    environ = {"AWS_EC2_METADATA_DISABLED": "false", variable: f"http://{own}/"}

    line = workload.refusal("--imds", own, environ=environ)

    assert f"identities.aws: {variable} leads to http://{own}" in line
    assert "imds.listen" in line


@pytest.mark.parametrize("program", ["namespace-broker", f"{sys.executable} -m broker"])
def test_our_own_credential_process_is_no_aws_identity(workload: Workload, program: str) -> None:
    shared = workload.folder / "aws-config"
    shared.write_text(f"[profile ours]\ncredential_process = {program} credential-process\n")

    line = workload.refusal(environ={"AWS_CONFIG_FILE": str(shared), "AWS_PROFILE": "ours"})

    assert "identities.aws: credential_process of the AWS profile ours" in line
    assert "namespace-broker credential-process" in line


def test_a_file_that_we_write_is_no_namespace_identity(workload: Workload) -> None:
    file = str(workload.file)

    line = workload.refusal(config=handing_on(workload.file), environ={"NSC_TOKEN_FILE": file})

    assert f"identities.aws: NSC_TOKEN_FILE is {file}" in line
    assert "namespace_tokens.aws.file" in line


def test_an_address_that_we_serve_is_no_namespace_identity(workload: Workload, own: str) -> None:
    spec = token_spec(f"http://{own}", "secret")

    line = workload.refusal(
        *("--container", own), config=handing_on(workload.file), environ={"NSC_TOKEN_SPEC": spec}
    )

    assert f"identities.aws: NSC_TOKEN_SPEC leads to http://{own}" in line
    assert "container.listen" in line
