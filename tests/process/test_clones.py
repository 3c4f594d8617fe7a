"""A state directory that came to another machine, as a whole process sees it.

A process that is frozen, and whose clock moves meanwhile, is in tests/clients_ci: it takes
libfaketime.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import broker_process, imds_get, imds_token

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@pytest.mark.parametrize("made_on", ["another machine", None])
def test_on_another_machine_it_signs_with_a_key_of_its_own_and_takes_the_old_tokens(
    sandbox: Sandbox, tmp_path: Path, made_on: str | None
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    keys = tmp_path / "state" / "imds-keys.json"
    with broker_process(sandbox, tmp_path, *state) as here:
        here.wait_for("daemon.ready")
        token = imds_token(here.endpoints["imds"][0])
        here.stop()
    document = json.loads(keys.read_text())
    found = {"made_on": made_on} if made_on else {}
    keys.write_text(json.dumps({"version": 1, "keys": document["keys"], **found}))

    with broker_process(sandbox, tmp_path, *state) as there:
        there.wait_for("daemon.ready")

        assert imds_get(there.endpoints["imds"][0], ROLE_LIST, token=token) == (200, b"deploy")
        assert json.loads(keys.read_text())["keys"][1:] == document["keys"]


def test_on_the_same_machine_it_goes_on_with_its_key(sandbox: Sandbox, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    for _ in range(2):
        with broker_process(sandbox, tmp_path, *state) as broker:
            broker.wait_for("daemon.ready")
            broker.stop()

    assert len(json.loads((tmp_path / "state" / "imds-keys.json").read_text())["keys"]) == 1
