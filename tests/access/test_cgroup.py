"""A cgroup id is resolved in bounded time, whatever others put in the tree."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.access.cgroup import (
    MISSING_FOR_S,
    MOST_DELEGATED,
    UNKNOWN_LOCATION,
    CgroupLocation,
    Cgroups,
    mounted_root,
    paths_below,
)
from broker.access.rate_limit import RateLimit

USERS = "user.slice/user-1000.slice/user@1000.service"


class Watch:
    """A monotonic clock that the test sets; each look at it takes a moment."""

    def __init__(self, *, tick_s: float = 0.0) -> None:
        self.at_s = 1000.0
        self.tick_s = tick_s

    def __call__(self) -> float:
        self.at_s += self.tick_s
        return self.at_s


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], int]:
    """A tree of directories in the place of cgroups; each is known by its inode number."""

    def made(path: str) -> int:
        place = tmp_path / path
        place.mkdir(parents=True, exist_ok=True)
        return place.stat().st_ino

    return made


def test_an_id_is_found_wherever_it_is(make: Callable[[str], int], tmp_path: Path) -> None:
    ids = {
        path: make(path)
        for path in (
            "init.scope",
            "system.slice/ssh.service",
            "system.slice/system-getty.slice/getty@tty1.service",
            "system.slice/web.service/payload/deep",
            f"{USERS}/app.slice/mine.service",
        )
    }
    cgroups = Cgroups(tmp_path)

    found = {path: cgroups.location_of(number, uid=1000) for path, number in ids.items()}

    assert {path: place.unit for path, place in found.items()} == {
        "init.scope": "init.scope",
        "system.slice/ssh.service": "ssh.service",
        "system.slice/system-getty.slice/getty@tty1.service": "getty@tty1.service",
        "system.slice/web.service/payload/deep": "web.service",
        f"{USERS}/app.slice/mine.service": "user@1000.service",
    }
    assert found[f"{USERS}/app.slice/mine.service"].user_unit_of(1000) == "mine.service"


def test_one_that_is_made_later_is_found_too(make: Callable[[str], int], tmp_path: Path) -> None:
    cgroups = Cgroups(tmp_path)
    cgroups.location_of(make("system.slice/ssh.service"), uid=1000)

    later = make("system.slice/ci.service")

    assert cgroups.location_of(later, uid=1000) == CgroupLocation(unit="ci.service")


def test_one_that_has_ended_is_remembered(make: Callable[[str], int], tmp_path: Path) -> None:
    """Its number is never used again, and its sockets may outlive it."""
    cgroups = Cgroups(tmp_path)
    number = make("system.slice/ssh.service")
    cgroups.location_of(number, uid=1000)

    (tmp_path / "system.slice/ssh.service").rename(tmp_path / "system.slice/other.service")

    assert cgroups.location_of(number, uid=1000) == CgroupLocation(unit="ssh.service")


@pytest.mark.parametrize("unknown", [None, 0, 1 << 60])
def test_what_is_no_cgroup_is_nowhere(unknown: int | None, tmp_path: Path) -> None:
    assert Cgroups(tmp_path).location_of(unknown, uid=0) == UNKNOWN_LOCATION


def test_without_a_tree_every_id_is_nowhere(tmp_path: Path) -> None:
    cgroups = Cgroups(tmp_path / "absent")

    assert cgroups.location_of(1, uid=0) == UNKNOWN_LOCATION
    assert cgroups.members_of(1) is None


def test_the_processes_of_a_place_are_listed(make: Callable[[str], int], tmp_path: Path) -> None:
    number = make("system.slice/ssh.service")
    (tmp_path / "system.slice/ssh.service/cgroup.procs").write_text("17\n4711\n")
    cgroups = Cgroups(tmp_path)
    cgroups.location_of(number, uid=0)

    assert cgroups.members_of(number) == [17, 4711]
    assert cgroups.members_of(1 << 60) is None


def test_filling_the_tree_below_one_unit_hides_no_other(
    make: Callable[[str], int], tmp_path: Path
) -> None:
    for number in range(MOST_DELEGATED + 50):
        make(f"user.slice/user-1001.slice/user@1001.service/x{number}/y")
    ids = [make("system.slice/zz.service/payload"), make(f"{USERS}/app.slice/mine.service")]

    found = paths_below(str(tmp_path), first_of_uid=1000)

    assert [found[number] for number in ids] == [
        "/system.slice/zz.service/payload",
        f"/{USERS}/app.slice/mine.service",
    ]
    assert len(found) < 2 * MOST_DELEGATED


def test_what_is_not_found_is_not_looked_for_at_once_again(
    make: Callable[[str], int], tmp_path: Path
) -> None:
    watch = Watch()
    cgroups = Cgroups(tmp_path / "tree", monotonic=watch)
    number = make("elsewhere/ssh.service")
    cgroups.location_of(number, uid=0)

    (tmp_path / "elsewhere").rename(tmp_path / "tree")

    assert cgroups.location_of(number, uid=0) == UNKNOWN_LOCATION
    watch.at_s += MISSING_FOR_S
    assert cgroups.location_of(number, uid=0) == CgroupLocation(unit="ssh.service")


def test_a_user_that_causes_too_many_walks_waits_alone(
    make: Callable[[str], int], tmp_path: Path
) -> None:
    watch = Watch(tick_s=0.1)
    cgroups = Cgroups(
        tmp_path, limit=RateLimit(burst_s=0.05, share=0.01, monotonic=watch), monotonic=watch
    )
    cgroups.location_of(1 << 60, uid=1000)

    number = make("system.slice/new.service")

    assert cgroups.location_of(number, uid=1000) == UNKNOWN_LOCATION
    assert cgroups.location_of(number, uid=1001) == CgroupLocation(unit="new.service")
    assert cgroups.location_of(number, uid=1000) == CgroupLocation(unit="new.service")


def test_a_tree_that_begins_somewhere_within_is_not_believed(tmp_path: Path) -> None:
    """As in a container: what looks like the root was made by whoever made that."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"41 31 0:38 / {tmp_path} rw,relatime - cgroup2 cgroup2 rw\n")

    assert mounted_root(mounts) is None


def test_other_file_systems_are_not_taken_for_it(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("41 31 0:38 / /proc rw,relatime - proc proc rw\n")

    assert mounted_root(mounts) is None
    assert mounted_root(tmp_path / "absent") is None


def test_the_root_of_this_host_if_it_shows_is_the_one_of_the_kernel() -> None:
    root = mounted_root()

    assert root is None or Path(root).stat().st_ino == 1
