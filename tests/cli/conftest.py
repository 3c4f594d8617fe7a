from collections.abc import Iterator

import pytest

from tests.support.fake_broker import Cli, FakeBroker, running


@pytest.fixture
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    # A short name: the path of a socket has at most 107 characters.
    return Cli(tmp_path_factory.mktemp("h"))


@pytest.fixture
def fake(cli: Cli) -> Iterator[FakeBroker]:
    with running(cli.runtime_dir) as broker:
        yield broker
