"""Both clouds, and a machine with nothing on it but our commands, for each step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.guide_machine import Machine


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@pytest.fixture
def machine(sandbox: Sandbox, tmp_path: Path) -> Machine:
    home = tmp_path / "home"
    home.mkdir()
    return Machine(sandbox=sandbox, home=home, environ=sandbox.environment())
