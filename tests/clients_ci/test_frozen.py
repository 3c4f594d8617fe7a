"""A process frozen with its machine or by a snapshot for hours, then thawed."""

import json
import signal
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.clients_ci.shared_time import SharedTime
from tests.support.broker_process import (
    BrokerProcess,
    broker_process,
    get,
    imds_get,
    imds_token,
    until,
)

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"


def freeze(broker: BrokerProcess) -> None:
    broker.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{broker.process.pid}/stat")
    until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), what="it to be frozen")


def thaw(broker: BrokerProcess) -> None:
    broker.process.send_signal(signal.SIGCONT)


def ask_without_waiting(broker: BrokerProcess) -> socket.socket:
    host, _, port = broker.endpoints["container"][0].removeprefix("http://").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(
        f"GET /v1/credentials HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Authorization: {broker.container_token}\r\n\r\n".encode()
    )
    return connection


def answered(connection: socket.socket) -> bytes:
    with connection, connection.makefile("rb") as answer:
        return answer.read()


def credentials(broker: BrokerProcess) -> Mapping[str, Any] | None:
    url = broker.endpoints["container"][0] + "/v1/credentials"
    status, body = get(url, authorization=broker.container_token)
    return json.loads(body) if status == 200 else None


CLOCKS: Mapping[str, Callable[[SharedTime], dict[str, str]]] = {
    "with its machine, whose monotonic clock stood still": SharedTime.as_suspended,
    "alone, while all clocks went on": SharedTime.as_running,
}


@pytest.mark.parametrize("environ_of", CLOCKS.values(), ids=CLOCKS)
def test_it_renews_at_once_and_never_serves_what_has_ended(
    tmp_path: Path, environ_of: Callable[[SharedTime], dict[str, str]]
) -> None:
    time = SharedTime(tmp_path)
    state = ("--state-dir", str(tmp_path / "state"))
    with (
        sandbox_in_thread(now=time.now) as sandbox,
        broker_process(sandbox, tmp_path, *state, environ=environ_of(time)) as broker,
    ):
        broker.wait_for("daemon.ready")
        before, token = credentials(broker), imds_token(broker.endpoints["imds"][0])
        assert before

        freeze(broker)
        time.move(hours=5)
        renew_identity(sandbox, tmp_path)
        asked_while_frozen = ask_without_waiting(broker)
        thaw(broker)

        first = answered(asked_while_frozen)
        assert b"200 OK" not in first or before["AccessKeyId"].encode() not in first
        after = until(lambda: seen_alive(broker, time), what="other credentials")
        assert after["AccessKeyId"] != before["AccessKeyId"]
        # For six hours, whoever signed it.
        assert imds_get(broker.endpoints["imds"][0], ROLE_LIST, token=token) == (200, b"deploy")
        keys = tmp_path / "state" / "imds-keys.json"
        until(lambda: len(json.loads(keys.read_text())["keys"]) == 2, what="a key of its own")


def renew_identity(sandbox: Sandbox, folder: Path) -> None:
    """Do as the runner's own agent, which was thawed too."""
    sandbox.namespace.write_token_file(folder / "token.json")


def seen_alive(broker: BrokerProcess, time: SharedTime) -> Mapping[str, Any] | None:
    """Return the credentials that it serves, if any.

    Raises:
        AssertionError: They have ended.
    """
    found = credentials(broker)
    assert found is None or datetime.fromisoformat(found["Expiration"]) > time.now()
    return found
