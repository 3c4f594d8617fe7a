"""Whoever reads our log or audit and stops reading holds up nobody."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import broker_process, get, imds_get, imds_token, until

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@contextmanager
def unread(pipe: Path) -> Iterator[None]:
    """Make a pipe that is full, and that nobody reads."""
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            os.write(descriptor, b"x" * 4096)
    except BlockingIOError:
        yield
    finally:
        os.close(descriptor)


def test_surfaces_answer_and_it_leaves_while_nobody_reads_log_and_audit(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[audit]\nto = "stdout"\n')

    with (
        unread(tmp_path / "pipe"),
        broker_process(sandbox, tmp_path, "--config", str(config), log=tmp_path / "pipe") as broker,
    ):
        until(lambda: broker.ready()["ready"], what="the first lease")
        imds, ops = broker.endpoints["imds"][0], broker.endpoints["ops"][0]
        token = imds_token(imds)

        refused = {imds_get(imds, ROLE_LIST, token="none")[0] for _ in range(100)}
        served = {imds_get(imds, f"{ROLE_LIST}deploy", token=token)[0] for _ in range(100)}

        assert (refused, served) == ({401}, {200})
        assert get(f"{ops}/healthz")[0] == 200
        assert broker.stop() == 0
