"""The daemon under systemd: its sockets, what it says, and what it goes on with after a restart."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import ANYWHERE, LIMIT_S, get, imds_get, imds_token, until
from tests.support.fake_systemd import PROJECT, StandIn, stand_in

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"
ALL = ("imds", "container", "ops", "control")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@pytest.fixture
def systemd(sandbox: Sandbox, tmp_path: Path) -> Iterator[StandIn]:
    with stand_in(sandbox, tmp_path, *ALL) as systemd:
        yield systemd


def key_by_imds(systemd: StandIn, *, token: str) -> str:
    status, body = imds_get(systemd.url("imds"), f"{ROLE_LIST}deploy", token=token)
    assert status == 200, body
    return str(json.loads(body)["AccessKeyId"])


def went_down(sandbox: Sandbox) -> None:
    for operation in ("AssumeRoleWithWebIdentity", "IssueIdToken"):
        sandbox.fail(operation, status=503)


def test_it_serves_on_the_sockets_of_systemd_and_leaves_them_as_they_are(systemd: StandIn) -> None:
    path = Path(next(sock.getsockname() for name, sock in systemd.sockets if name == "control"))
    before = path.stat()

    with systemd.service() as broker:
        broker.wait_for("daemon.ready")
        endpoints = broker.endpoints
        token = imds_token(systemd.url("imds"))
        _, body = get(
            f"{systemd.url('container')}/v1/credentials", authorization=broker.container_token
        )
        by_both = {key_by_imds(systemd, token=token), json.loads(body)["AccessKeyId"]}
        assert broker.stop() == 0

    assert len(by_both) == 1
    assert endpoints["control"] == str(path)
    for name in ("imds", "container", "ops"):
        assert endpoints[name] == [systemd.url(name)]
    after = path.stat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


def test_systemd_hears_of_its_whole_life(systemd: StandIn) -> None:
    with systemd.service(environ={"WATCHDOG_USEC": "100000"}) as broker:
        systemd.wait_for("READY=1")
        systemd.wait_for("STATUS=serving; leases: 2 live")
        systemd.wait_for("WATCHDOG=1", times=5)
        broker.stop()

    assert systemd.statuses[-1] == "stopping; leases: 2 live"
    assert any("STOPPING=1" in said for said in systemd.said)


def test_its_own_sockets_open_with_the_first_leases_and_only_then_is_it_ready(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail("AssumeRoleWithWebIdentity", status=503)
    alone = ("--imds", ANYWHERE, "--container", ANYWHERE, "--ops", ANYWHERE)

    with (
        stand_in(sandbox, tmp_path) as systemd,
        systemd.service(*alone, "--start-timeout", "60") as broker,
    ):
        broker.wait_for("lease.renewal_failed")
        systemd.hear()
        assert not any("READY=1" in said for said in systemd.said)

        sandbox.heal()
        assert systemd.wait_for("READY=1") == "READY=1\nSTATUS=serving; leases: 2 live"


def test_on_its_sockets_everybody_gets_an_answer_before_there_is_anything_to_serve(
    sandbox: Sandbox, systemd: StandIn
) -> None:
    went_down(sandbox)

    with systemd.service("--start-timeout", "60"):
        token = imds_token(systemd.url("imds"))
        assert imds_get(systemd.url("imds"), ROLE_LIST, token=token)[0] == 404
        systemd.hear()
        assert not any("READY=1" in said for said in systemd.said)

        sandbox.heal()
        until(
            lambda: imds_get(systemd.url("imds"), ROLE_LIST, token=token)[0] == 200,
            what="the first lease",
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_during_an_outage_serves_at_once(
    sandbox: Sandbox, systemd: StandIn, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with systemd.service() as broker:
        broker.wait_for("daemon.ready")
        systemd.wait_for("STATUS=serving; leases: 2 live")
        token = imds_token(systemd.url("imds"))
        key = key_by_imds(systemd, token=token)
        systemd.restarted(broker, number)
    went_down(sandbox)

    began_at = time.perf_counter()
    with systemd.service() as broker:
        assert key_by_imds(systemd, token=token) == key
        took_s = time.perf_counter() - began_at
        restored = broker.wait_for("daemon.ready")["restored"]
        obtained = broker.events("lease.obtained")
        ready = broker.ready()

    assert restored == ["identity/default", "role/deploy"]
    assert obtained == []
    assert ready["ready"] is True
    with capsys.disabled():
        print(f"\nfrom exec to the first credential served: {took_s * 1000:.0f} ms")


def test_nothing_heavy_is_imported_before_what_was_kept_is_served(systemd: StandIn) -> None:
    with systemd.service() as broker:
        systemd.wait_for("STATUS=serving; leases: 2 live")
        token = imds_token(systemd.url("imds"))
        systemd.restarted(broker)

    with systemd.service(environ={"PYTHONPROFILEIMPORTTIME": "1"}) as broker:
        key_by_imds(systemd, token=token)
        broker.stop()

    log = (systemd.folder / "log-1").read_text()
    assert "broker.daemon.main" in log
    assert "botocore" not in log


def test_leases_go_on_from_restart_to_restart_and_are_bought_once(
    sandbox: Sandbox, systemd: StandIn
) -> None:
    for _ in range(4):
        with systemd.service() as broker:
            broker.wait_for("daemon.ready")
            systemd.wait_for("STATUS=serving; leases: 2 live")
            systemd.restarted(broker)
        assert len(systemd.stored) == 1

    assert len(sandbox.aws.issued) == 1


def test_a_role_that_is_assumed_otherwise_is_bought_anew(
    sandbox: Sandbox, systemd: StandIn
) -> None:
    with systemd.service() as broker:
        systemd.wait_for("STATUS=serving; leases: 2 live")
        systemd.restarted(broker)
    before = len(sandbox.aws.issued)

    with systemd.service("--region", "eu-west-1") as broker:
        assert broker.wait_for("daemon.ready")["restored"] == ["identity/default"]

    assert len(sandbox.aws.issued) == before + 1


def test_a_store_that_cannot_be_read_costs_a_warning_and_a_renewal(systemd: StandIn) -> None:
    garbage = os.memfd_create("garbage")
    os.write(garbage, b'{"version": 1, "leases": "secret"}')
    systemd.stored.append(("leases-a", garbage))

    with systemd.service() as broker:
        assert broker.wait_for("daemon.ready")["restored"] == []
        (warning,) = broker.events("warning")
        systemd.wait_for("STATUS=serving; leases: 2 live")

    assert "leases-a" in warning["reason"]
    assert "secret" not in warning["reason"]


def test_what_is_configured_beside_systemds_sockets_is_listened_on_too(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with stand_in(sandbox, tmp_path, "imds") as systemd:
        theirs = systemd.url("imds").removeprefix("http://")
        flags = ("--imds", theirs, "--imds", ANYWHERE, "--container", ANYWHERE, "--ops", "off")
        with systemd.service(*flags) as broker:
            broker.wait_for("daemon.ready")
            endpoints = broker.endpoints
            statuses = [imds_get(url, "/", token=imds_token(url))[0] for url in endpoints["imds"]]

    assert endpoints["imds"][0] == f"http://{theirs}"
    assert len(endpoints["imds"]) == 2
    assert statuses == [200, 200]


def test_the_namespace_socket_is_a_container_address(sandbox: Sandbox, tmp_path: Path) -> None:
    with (
        stand_in(sandbox, tmp_path, "container", "namespace", "ops") as systemd,
        systemd.service() as broker,
    ):
        broker.wait_for("daemon.ready")

        both = [systemd.url("container"), systemd.url("namespace")]
        assert broker.endpoints["container"] == both


def test_a_socket_that_cannot_be_served_on_is_one_line_and_exit_2(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with stand_in(sandbox, tmp_path) as systemd:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        systemd.sockets.append(("imds", datagrams))
        with systemd.service() as broker:
            assert broker.process.wait(LIMIT_S) == 2

    (line,) = (tmp_path / "log-0").read_text().splitlines()
    assert line.startswith("namespace-broker: imds: ")
    assert "ListenStream=" in line


def test_a_socket_by_an_unknown_name_is_a_warning(sandbox: Sandbox, tmp_path: Path) -> None:
    with stand_in(sandbox, tmp_path, *ALL, "ssh") as systemd, systemd.service() as broker:
        broker.wait_for("daemon.ready")

        (warning,) = broker.events("config.warning")
        assert "'ssh'" in warning["reason"]


def test_a_command_waits_for_a_broker_that_is_away_for_a_moment(systemd: StandIn) -> None:
    with systemd.service() as broker:
        broker.wait_for("daemon.ready")
        systemd.restarted(broker)

    command = [sys.executable, "-m", "broker", "status", "--runtime-dir", str(systemd.runtime_dir)]
    with (
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as asking,
        systemd.service() as broker,
    ):
        broker.wait_for("daemon.ready")
        shown, _ = asking.communicate(timeout=LIMIT_S)

    assert asking.returncode == 0
    assert "role/deploy" in shown


def test_a_reload_is_told_and_leaves_the_sockets_of_systemd_open(
    sandbox: Sandbox, systemd: StandIn, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    with systemd.service("--config", str(config)) as broker:
        systemd.wait_for("STATUS=serving; leases: 2 live")
        token = imds_token(systemd.url("imds"))
        key = key_by_imds(systemd, token=token)

        config.write_text('availability_zone = "eu-central-1c"\n[imds]\nv1 = true\n')
        broker.process.send_signal(signal.SIGHUP)
        assert broker.wait_for("config.reloaded")["changed"] == ["availability_zone", "imds"]
        assert get(f"{systemd.url('imds')}{ROLE_LIST}") == (200, b"deploy")
        assert key_by_imds(systemd, token=token) == key
        assert broker.endpoints["imds"] == [systemd.url("imds")]

        config.write_text("nonsense")
        broker.process.send_signal(signal.SIGHUP)
        systemd.wait_for("STATUS=serving; the new configuration was refused; leases: 2 live")

    reloads = [said for said in systemd.said if said.startswith(("RELOADING=1", "READY=1"))]
    words = [said.partition("\n")[0] for said in reloads]
    assert words[-4:] == ["RELOADING=1", "READY=1"] * 2
