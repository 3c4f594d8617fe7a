"""Machines for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.system.machine import Machine
from tests.system.stage import install, machine_with_clouds


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine of its own, on which nothing is installed yet."""
    with machine_with_clouds() as machine:
        yield machine


@pytest.fixture(scope="module")
def service() -> Iterator[Machine]:
    """A machine on which the broker is installed for alice; all tests of a module share it."""
    with machine_with_clouds() as machine:
        install(machine)
        yield machine
