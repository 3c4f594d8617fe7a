"""The daemon's life as a process: it gets ready, serves, survives its clouds, and leaves."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import (
    ANYWHERE,
    broker_process,
    get,
    imds_get,
    imds_token,
    put,
    until,
)

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


def test_it_gets_ready_serves_both_surfaces_and_leaves_on_sigterm(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")
        imds, container = broker.endpoints["imds"][0], broker.endpoints["container"][0]
        token = imds_token(imds)
        by_imds = json.loads(imds_get(imds, f"{ROLE_LIST}deploy", token=token)[1])
        _, body = get(f"{container}/v1/credentials", authorization=broker.container_token)
        by_container = json.loads(body)
        ready = broker.ready()

        assert broker.stop() == 0

    issued = {keys.access_key_id for keys in sandbox.aws.issued}
    assert {by_imds["AccessKeyId"], by_container["AccessKeyId"]} <= issued
    assert ready["ready"] is True
    assert [event["event"] for event in broker.events()][-1] == "daemon.stopping"
    assert not (tmp_path / "run" / "endpoints.json").exists()
    assert not (tmp_path / "run" / "broker.sock").exists()


def test_ctrl_c_is_a_proper_end(sandbox: Sandbox, tmp_path: Path) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")

        assert broker.stop(signal.SIGINT) == 0


def test_it_may_be_stopped_while_it_waits_for_its_first_lease(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail("AssumeRoleWithWebIdentity", status=503)

    with broker_process(sandbox, tmp_path, "--start-timeout", "86400") as broker:
        broker.wait_for("lease.renewal_failed")

        assert broker.stop() == 0

    assert broker.events("daemon.ready") == []
    assert len(broker.events("daemon.stopping")) == 1


def test_a_disk_too_full_for_its_log_costs_nobody_a_credential(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with broker_process(sandbox, tmp_path, log=Path("/dev/full")) as broker:
        until(lambda: broker.ready()["ready"], what="it to be ready")
        imds = broker.endpoints["imds"][0]
        assert put(f"{imds}/latest/api/token", x_forwarded_for="10.0.0.1")[0] == 403
        assert imds_get(imds, ROLE_LIST, token=imds_token(imds)) == (200, b"deploy")

        assert broker.stop() == 0


def test_a_request_that_has_begun_is_answered_before_it_leaves(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")
        host, _, port = broker.endpoints["imds"][0].removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"PUT /latest/api/token HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            # The other surfaces' answer tells that our half request has been read too.
            get(broker.endpoints["ops"][0] + "/healthz")
            broker.process.send_signal(signal.SIGTERM)
            broker.wait_for("daemon.stopping")
            connection.sendall(b"X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n")

            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert broker.process.wait(30) == 0


def test_a_bad_configuration_is_one_line_and_exit_2(sandbox: Sandbox, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[roles.deploy]\narn = "arn:aws:iam::123456789012:role/deploy"\nduration_s = 60\n'
    )

    with broker_process(sandbox, tmp_path, "--config", str(config), defaults=False) as broker:
        assert broker.process.wait(30) == 2

    (line,) = (tmp_path / "log-0").read_text().splitlines()
    assert line.startswith("namespace-broker: ")
    assert "roles.deploy.duration_s" in line
    assert "900" in line
    assert "43200" in line


def test_a_port_in_use_says_who_has_it(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with broker_process(sandbox, tmp_path, "--container", address) as broker:
            assert broker.process.wait(30) == 1

    (line,) = (tmp_path / "log-0").read_text().splitlines()
    assert address in line
    assert "python" in line
    assert "pid" in line


def test_a_second_broker_in_the_same_place_is_told_of_the_first(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with broker_process(sandbox, tmp_path) as first:
        first.wait_for("daemon.ready")
        with broker_process(sandbox, tmp_path) as second:
            assert second.process.wait(30) == 1

        assert "broker.sock is in use" in (tmp_path / "log-1").read_text()
        assert first.ready()["ready"] is True


def test_addresses_that_this_host_lacks_are_a_warning_unless_none_is_left(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    lacking = "192.0.2.7:8169"  # TEST-NET-1
    with broker_process(sandbox, tmp_path, "--imds", lacking) as broker:
        broker.wait_for("daemon.ready")
        assert len(broker.endpoints["imds"]) == 1
        assert broker.wait_for("address.lacking")["address"] == lacking
        broker.stop()

    named = ("--role-arn", sandbox.role_arn, "--runtime-dir", str(tmp_path / "run"))
    elsewhere = ("--imds", lacking, "--container", ANYWHERE, "--ops", ANYWHERE)
    with broker_process(sandbox, tmp_path, *named, *elsewhere, defaults=False) as broker:
        assert broker.process.wait(30) == 1
    assert "this host has none of" in (tmp_path / "log-1").read_text()


def test_session_tokens_outlive_a_kill_where_there_is_a_state_directory(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    with broker_process(sandbox, tmp_path, *state) as first:
        first.wait_for("daemon.ready")
        token = imds_token(first.endpoints["imds"][0])
        first.process.kill()
        first.process.wait()

    with broker_process(sandbox, tmp_path, *state) as second:
        second.wait_for("daemon.ready")
        status, body = imds_get(second.endpoints["imds"][0], ROLE_LIST, token=token)

    assert (status, body) == (200, b"deploy")


def test_without_a_state_directory_old_session_tokens_are_not_taken(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with broker_process(sandbox, tmp_path) as first:
        first.wait_for("daemon.ready")
        token = imds_token(first.endpoints["imds"][0])
        first.stop()

    with broker_process(sandbox, tmp_path) as second:
        second.wait_for("daemon.ready")
        status, _ = imds_get(second.endpoints["imds"][0], ROLE_LIST, token=token)

    assert status == 401


def test_a_role_refused_at_start_keeps_it_running_and_not_ready_until_it_is_admitted(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    trust = sandbox.aws.trust_of(sandbox.role_arn)
    sandbox.aws.set_trust(sandbox.role_arn, {"Version": "2012-10-17", "Statement": []})

    with broker_process(sandbox, tmp_path) as broker:
        refused = broker.wait_for("lease.refused")
        broker.wait_for("daemon.ready")
        assert broker.ready()["ready"] is False
        assert sandbox.role_arn in refused["reason"]
        assert "ws_1/" in refused["reason"]

        sandbox.aws.set_trust(sandbox.role_arn, trust)
        sandbox.namespace.write_token_file(tmp_path / "token.json")  # a new identity asks at once
        broker.wait_for("lease.obtained", times=2)
        assert broker.ready()["ready"] is True


def test_an_outage_at_start_is_sat_out(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.fail("AssumeRoleWithWebIdentity", status=503)

    with broker_process(sandbox, tmp_path, "--start-timeout", "0") as broker:
        broker.wait_for("daemon.ready")
        imds = broker.endpoints["imds"][0]
        assert imds_get(imds, ROLE_LIST, token=imds_token(imds))[0] == 404
        assert broker.ready()["leases"][1]["state"] == "starting"

        sandbox.heal()
        until(lambda: broker.ready()["ready"], what="the end of the outage to be noticed")
        assert imds_get(imds, ROLE_LIST, token=imds_token(imds)) == (200, b"deploy")


def test_a_rotated_token_file_is_used_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")
        sandbox.namespace.write_token_file(tmp_path / "token.json")

        assert broker.wait_for("lease.renewed")["lease"] == "identity/default"


GARBAGE = {
    "empty": b"",
    "half": b"{",
    "binary": b"\x00\xff\xfe",
    "list": b"[]",
    "number": b'{"bearer_token": 7}',
    "no token": b'{"bearer_token": "x"}',
    "huge": b"x" * 3_000_000,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_the_token_file_costs_no_good_lease(
    sandbox: Sandbox, tmp_path: Path, content: bytes
) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")
        (tmp_path / "token.json").write_bytes(content)
        until(
            lambda: broker.events("lease.renewal_failed") + broker.events("lease.refused"),
            what="the trouble to be told",
        )

        _, body = get(
            broker.endpoints["container"][0] + "/v1/credentials",
            authorization=broker.container_token,
        )
        assert json.loads(body)["AccessKeyId"]
        assert "Traceback" not in (tmp_path / "log-0").read_text()
        assert broker.stop() == 0


def test_no_secret_is_in_the_log_at_its_most_talkative(sandbox: Sandbox, tmp_path: Path) -> None:
    with broker_process(sandbox, tmp_path, "--log-level", "debug") as broker:
        broker.wait_for("daemon.ready")
        get(broker.endpoints["container"][0] + "/v1/credentials", authorization="wrong")
        secrets = [broker.container_token, imds_token(broker.endpoints["imds"][0])]
        broker.stop()

    secrets += [(tmp_path / "token.json").read_text().split('"')[3]]
    for keys in sandbox.aws.issued:
        secrets += [keys.access_key_id, keys.secret_access_key, keys.session_token or ""]
    log = (tmp_path / "log-0").read_text()
    assert [secret for secret in secrets if secret and secret in log] == []


def test_what_it_leaves_on_disk_is_narrow(sandbox: Sandbox, tmp_path: Path) -> None:
    with broker_process(sandbox, tmp_path, "--state-dir", str(tmp_path / "state")) as broker:
        broker.wait_for("daemon.ready")

        modes = {
            path.name: path.stat().st_mode & 0o777
            for folder in ("run", "state")
            for path in (tmp_path / folder, *(tmp_path / folder).iterdir())
        }

    assert modes == {
        "run": 0o700,
        "broker.sock": 0o600,
        "container-token": 0o600,
        "endpoints.json": 0o644,
        "state": 0o700,
        "imds-keys.json": 0o600,
        "token-scope": 0o600,
    }


def test_what_everybody_types_first_answers() -> None:
    for arguments in (["--version"], ["--help"], ["run", "--help"]):
        shown = subprocess.run(
            [sys.executable, "-m", "broker", *arguments], capture_output=True, check=False
        )

        assert shown.returncode == 0
        assert shown.stdout
        assert shown.stderr == b""


def test_a_runtime_directory_that_is_removed_and_may_be_made_again_comes_back(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    token = tmp_path / "run" / "nsc" / "token.json"
    config = tmp_path / "config.toml"
    config.write_text(f'[namespace_tokens.default]\nfile = "{token}"\n')
    with broker_process(sandbox, tmp_path, "--config", str(config)) as broker:
        broker.wait_for("daemon.ready")
        assert token.exists()
        shutil.rmtree(tmp_path / "run")

        broker.wait_for("listeners.repaired")

        until(lambda: (tmp_path / "run" / "container-token").exists(), what="the token")
        until(token.exists, what="the Namespace token")
        status, _ = get(
            broker.endpoints["container"][0] + "/creds", authorization=broker.container_token
        )
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(broker.endpoints["control"])

    assert status == 200


@pytest.mark.as_root
def test_an_address_that_appears_later_is_listened_on(sandbox: Sandbox, tmp_path: Path) -> None:
    address = f"fd00:ec2:{os.getpid() & 0xFFFF:x}::254"
    flags = ("--imds", f"[{address}]:0")
    with broker_process(sandbox, tmp_path, *flags) as broker:
        broker.wait_for("daemon.ready")
        assert len(broker.endpoints["imds"]) == 1

        subprocess.run(["ip", "address", "add", f"{address}/128", "dev", "lo"], check=True)
        try:
            broker.wait_for("listeners.repaired")
            assert address in broker.endpoints["imds"][1]
        finally:
            subprocess.run(["ip", "address", "del", f"{address}/128", "dev", "lo"], check=True)


@pytest.mark.parametrize("after_s", [0, 0.1, 0.2, 0.4, 0.8])
def test_a_sigterm_while_it_starts_is_exit_0(
    sandbox: Sandbox, tmp_path: Path, after_s: float
) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        until(lambda: catches_sigterm(broker.process.pid), what="Python's own start")
        with suppress(subprocess.TimeoutExpired):
            broker.process.wait(after_s)

        assert broker.stop() == 0


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
