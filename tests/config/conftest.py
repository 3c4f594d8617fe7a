from pathlib import Path

import pytest

from tests.support.config import Given


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)
