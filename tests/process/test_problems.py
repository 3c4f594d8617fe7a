"""What an operator must find at 3 a.m.: a wrong clock and a refused configuration."""

import json
import signal
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.installer.token_copy import keep_copy
from broker.sandbox import sandbox_in_thread
from tests.support.broker_process import BrokerProcess, broker_process, get, until


def problems(broker: BrokerProcess) -> Mapping[str, str]:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(broker.endpoints["control"])
        control.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        _, _, body = b"".join(iter(lambda: control.recv(65536), b"")).partition(b"\r\n\r\n")
    return {each["name"]: each["reason"] for each in json.loads(body)["problems"]}


def metric(broker: BrokerProcess, name: str) -> float:
    text = get(broker.endpoints["ops"][0] + "/metrics")[1].decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"namespace_broker_{name} ")]
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("off", "way"), [(timedelta(hours=2), "behind"), (-timedelta(minutes=10), "ahead of")]
)
def test_with_a_wrong_clock_leases_live_by_the_clouds_and_it_is_said(
    tmp_path: Path, off: timedelta, way: str
) -> None:
    with (
        sandbox_in_thread(now=lambda: datetime.now(UTC) + off) as sandbox,
        broker_process(sandbox, tmp_path) as broker,
    ):
        skewed = broker.wait_for("clock.skewed")
        broker.wait_for("daemon.ready")
        ready = broker.ready()
        (role,) = [each for each in ready["leases"] if each["name"].startswith("role/")]
        life = datetime.fromisoformat(role["expires_at"]) - datetime.now(UTC)

        assert way in problems(broker)["clock"]
        until(
            lambda: abs(metric(broker, "clock_skew_seconds") + off.total_seconds()) < 10,
            what="the metric",
        )

    assert skewed["level"] == "warning"
    assert (ready["ready"], role["state"]) == (True, "live")
    assert timedelta(minutes=59) < life <= timedelta(hours=1, seconds=5)


def test_a_token_file_that_cannot_be_copied_is_shown_by_the_name_people_know(
    tmp_path: Path,
) -> None:
    original, copy = tmp_path / "nsc.json", tmp_path / "identity" / "token.json"
    with sandbox_in_thread() as sandbox:
        sandbox.namespace.write_token_file(original)
        keep_copy(original, copy, on_first=lambda: None, settled_s=0)
        with broker_process(sandbox, tmp_path, environ={"NSC_TOKEN_FILE": str(copy)}) as broker:
            broker.wait_for("daemon.ready")
            assert problems(broker) == {}

            original.unlink()
            keep_copy(original, copy, on_first=lambda: None, settled_s=0)

            failed = broker.wait_for("lease.refused")
            until(lambda: "token-file" in problems(broker), what="the problem in status")
            assert str(original) in problems(broker)["token-file"]

    assert str(original) in failed["reason"]
    assert str(copy) not in failed["reason"]


def test_a_refused_configuration_is_shown_until_another_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with sandbox_in_thread() as sandbox:
        good = f'[roles.deploy]\narn = "{sandbox.role_arn}"\n'
        file.write_text(good)
        with broker_process(sandbox, tmp_path, "--config", str(file)) as broker:
            broker.wait_for("daemon.ready")
            assert (metric(broker, "config_refused"), problems(broker)) == (0, {})

            file.write_text(good + "nonsense = 1\n")
            broker.process.send_signal(signal.SIGHUP)
            broker.wait_for("config.refused")
            until(lambda: metric(broker, "config_refused") == 1, what="the metric")
            assert "nonsense" in problems(broker)["config"]

            file.write_text(good)
            broker.process.send_signal(signal.SIGHUP)
            broker.wait_for("config.reloaded")
            until(lambda: metric(broker, "config_refused") == 0, what="the metric")
            assert (metric(broker, "config_refused"), problems(broker)) == (0, {})
