"""What holds for every test."""

import os

import pytest
from hypothesis import settings

# No deadline: a busy machine is slow. No database: the checkout may not be ours to write to.
settings.register_profile("everywhere", deadline=None, database=None)
settings.load_profile("everywhere")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what this user cannot run: CI runs the suite as root and as a user.

    A test that is skipped fails CI, so that none is forgotten; one marked ``as_root`` or
    ``as_user`` is run by one of the two runs.
    """
    other = "as_user" if os.geteuid() == 0 else "as_root"
    items[:] = [item for item in items if item.get_closest_marker(other) is None]
