"""Restarted again and again while clients ask without a pause: none is refused, reset or unserved.

The sockets are systemd's (its stand-in's), as in the units.
"""

import http.client
import json
import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import LIMIT_S, imds_token
from tests.support.fake_systemd import StandIn, stand_in

RESTARTS = 20
CREDENTIALS = "/latest/meta-data/iam/security-credentials/deploy"


class Client:
    """Asks for credentials again and again, on one connection or on a new one each time."""

    def __init__(self, url: str, path: str, headers: dict[str, str], *, keeps: bool) -> None:
        self.answers = 0
        self.longest_s = 0.0
        self.failures: list[str] = []
        self._path, self._headers, self._keeps = path, headers, keeps
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=LIMIT_S)

    def ask_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            began_at = time.perf_counter()
            try:
                self._ask()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
                self._connection.close()
            self.longest_s = max(self.longest_s, time.perf_counter() - began_at)
        self._connection.close()

    def _ask(self) -> None:
        sock = self._connection.sock
        # As every pool does before it takes a kept connection again.
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200 or "AccessKeyId" not in json.loads(body):
            raise ValueError(f"{answer.status} {body!r}")
        self.answers += 1
        if not self._keeps:
            self._connection.close()


@contextmanager
def asking(clients: list[Client]) -> Iterator[None]:
    """Have all of *clients* ask for the block."""
    stop = threading.Event()
    threads = [threading.Thread(target=client.ask_until, args=[stop]) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * LIMIT_S)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[StandIn]:
    with sandbox_in_thread() as sandbox, served(sandbox, tmp_path) as systemd:
        yield systemd


@contextmanager
def served(sandbox: Sandbox, folder: Path) -> Iterator[StandIn]:
    with stand_in(sandbox, folder, "imds", "container", "ops", "control") as systemd:
        yield systemd


def clients_of(systemd: StandIn, *, session: str, token: str) -> list[Client]:
    return [
        client
        for keeps in (True, False)
        for client in (
            Client(
                systemd.url("imds"),
                CREDENTIALS,
                {"X-aws-ec2-metadata-token": session},
                keeps=keeps,
            ),
            Client(
                systemd.url("container"), "/v1/credentials", {"Authorization": token}, keeps=keeps
            ),
        )
    ]


def test_no_request_is_lost_to_a_restart(
    systemd: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as running:
        broker = running.enter_context(systemd.service())
        broker.wait_for("daemon.ready")
        clients = clients_of(
            systemd, session=imds_token(systemd.url("imds")), token=broker.container_token
        )

        with asking(clients):
            for _ in range(RESTARTS):
                systemd.restarted(broker)
                running.pop_all().close()
                broker = running.enter_context(systemd.service())
                broker.wait_for("daemon.ready")

    failures = [failure for client in clients for failure in client.failures]
    longest_s = max(client.longest_s for client in clients)
    with capsys.disabled():
        answers = sum(client.answers for client in clients)
        print(
            f"\n{RESTARTS} restarts under load: {answers} answers, {len(failures)} failures, "
            f"longest wait {longest_s * 1000:.0f} ms"
        )
    assert failures == []
    assert all(client.answers >= RESTARTS for client in clients)
