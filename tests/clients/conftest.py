"""One sandbox and two brokers, with a lease and without, for all tests of a worker."""

from collections.abc import Iterator

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.client_sandbox import World, make_bucket, world_of, world_with_nothing_to_serve
from tests.support.proof import Arrivals


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread(s3=True) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def world(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(sandbox, folder=tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="session")
def empty_world(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Its broker runs, and has nothing to serve."""
    folder = tmp_path_factory.mktemp("empty-world")
    with world_with_nothing_to_serve(sandbox, folder=folder) as world:
        yield world


@pytest.fixture
def bucket(sandbox: Sandbox) -> str:
    return make_bucket(sandbox)


@pytest.fixture
def arrivals(sandbox: Sandbox, bucket: str) -> Arrivals:
    """What reaches the sandbox in this test, after *bucket* was made."""
    return Arrivals(sandbox)
