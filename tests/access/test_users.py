"""The user database is queried seldom, and one that hangs delays nobody."""

import grp
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.caller import Caller
from broker.access.rate_limit import RateLimit
from broker.access.users import (
    FORGET_AFTER_S,
    MOST_ASKED_AT_ONCE,
    RENEW_AFTER_S,
    SubordinateUids,
    User,
    UserDatabase,
)
from broker.access.users import look_up_user as looked_up_here

CI = User("ci", frozenset({1000, 27}))
LONG_S = 30.0


class Database:
    """Answers with `people`, while `open` is set."""

    def __init__(self, people: dict[int, User]) -> None:
        self.people = people
        self.asked = 0
        self.open = Event()
        self.open.set()

    def __call__(self, uid: int) -> User | None:
        self.asked += 1
        assert self.open.wait(LONG_S)
        return self.people.get(uid)


class Watch:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture
def database() -> Database:
    return Database({1000: CI})


@pytest.fixture
def watch() -> Watch:
    return Watch()


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not happened():
        assert time.monotonic() < deadline
        os.sched_yield()


@contextmanager
def hanging(database: Database) -> Iterator[None]:
    database.open.clear()
    try:
        yield
    finally:
        database.open.set()


def test_this_hosts_database_is_used() -> None:
    root = pwd.getpwuid(0)

    person = UserDatabase(longest_wait_s=LONG_S).user(0)

    assert person is not None
    assert person.name == root.pw_name
    assert root.pw_gid in person.gids
    assert {each.gr_gid for each in grp.getgrall() if root.pw_name in each.gr_mem} <= person.gids


def test_a_uid_without_a_user_is_nobody() -> None:
    assert looked_up_here(4_000_000_001) is None


def test_an_answer_is_kept_for_a_while(database: Database, watch: Watch) -> None:
    people = UserDatabase(database, monotonic=watch, longest_wait_s=LONG_S)

    seen = [people.user(1000) for _ in range(100)]
    nobody = [people.user(1001) for _ in range(100)]

    assert seen == [CI] * 100
    assert nobody == [None] * 100
    assert database.asked == 2


def test_an_old_answer_serves_while_a_new_one_is_fetched(database: Database, watch: Watch) -> None:
    people = UserDatabase(database, monotonic=watch, longest_wait_s=LONG_S)
    people.user(1000)
    database.people[1000] = User("ci", frozenset({1000}))

    watch.at_s += RENEW_AFTER_S + 1
    with hanging(database):
        assert people.user(1000) == CI

    until(lambda: people.user(1000) == User("ci", frozenset({1000})))


def test_a_user_that_left_a_group_loses_it_in_time(database: Database, watch: Watch) -> None:
    people = UserDatabase(database, monotonic=watch, longest_wait_s=0.0)
    until(lambda: people.user(1000) == CI)

    with hanging(database):
        watch.at_s += FORGET_AFTER_S + 1
        assert people.user(1000) is None


def test_a_database_that_hangs_is_waited_for_once(database: Database) -> None:
    people = UserDatabase(database, longest_wait_s=0.1)

    with hanging(database):
        began_at = time.monotonic()
        seen = [people.user(uid) for uid in range(1000, 1100)]
        took_s = time.monotonic() - began_at

    assert seen == [None] * 100
    assert took_s < 4 * 0.1
    assert database.asked <= MOST_ASKED_AT_ONCE


def test_it_is_believed_again_when_it_answers(database: Database) -> None:
    people = UserDatabase(database, longest_wait_s=0.0)
    with hanging(database):
        assert people.user(1000) is None

    until(lambda: people.user(1000) == CI)


def test_a_database_that_is_slow_each_time_costs_its_user_and_no_other(database: Database) -> None:
    """As when one user shows up under many uids."""

    def slow(uid: int) -> User | None:
        time.sleep(0.02)
        return database(uid)

    people = UserDatabase(slow, longest_wait_s=LONG_S, limit=RateLimit(burst_s=0.1, share=0.0))

    began_at = time.monotonic()
    for uid in range(100_000, 100_200):
        people.known(uid, billed_uid=1001)
    took_s = time.monotonic() - began_at

    assert took_s < 2.0
    assert people.user(1000) == CI


SUBUID = """
root:100000:10
0:200000:5

nobody-here:300000:65536
root:many:65536
4242:200004:2
"""


def test_a_subordinate_uid_has_the_owners_that_subuid_says(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text(SUBUID)

    uids = SubordinateUids(tmp_path / "subuid")

    assert {uid: uids.owners_of(uid) for uid in (99_999, 100_000, 100_009, 100_010, 300_000)} == {
        99_999: (),
        100_000: (0,),
        100_009: (0,),
        100_010: (),
        300_000: (),
    }
    assert uids.owners_of(200_004) == (0, 4242)
    assert uids.owners_of(200_005) == (4242,)


def test_without_subuid_no_uid_is_subordinate(tmp_path: Path) -> None:
    assert SubordinateUids(tmp_path / "absent").owners_of(100_000) == ()


def test_subuid_is_read_again(tmp_path: Path, watch: Watch) -> None:
    uids = SubordinateUids(tmp_path / "subuid", monotonic=watch, renew_after_s=10)
    (tmp_path / "subuid").write_text("4242:200000:10")

    assert uids.owners_of(200_000) == ()
    watch.at_s += 11

    until(lambda: uids.owners_of(200_000) == (4242,))


def test_a_caller_by_a_subordinate_uid_uses_its_owners_limits(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("4242:200000:10")

    caller = SubordinateUids(tmp_path / "subuid").applied_to(Caller(uid=200_003))

    assert (caller.uid, caller.limit_key) == (200_003, "uid=4242")


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15), st.integers(1, 3)), max_size=8),
    st.integers(0, 60),
)
def test_the_owners_are_those_of_every_range_around_it(
    ranges: list[tuple[int, int, int]], uid: int
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "subuid"
        path.write_text("".join(f"{owner}:{start}:{count}\n" for start, count, owner in ranges))

        owners = SubordinateUids(path).owners_of(uid)

    assert set(owners) == {
        owner for start, count, owner in ranges if start <= uid < start + count and owner != uid
    }
