"""The user database is asked seldom, and one that hangs keeps nobody waiting."""

import grp
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from broker.access.users import (
    FORGET_AFTER_S,
    MOST_ASKED_AT_ONCE,
    RENEW_AFTER_S,
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


def test_this_hosts_database_is_asked() -> None:
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


def test_who_has_left_a_group_is_not_in_it_for_ever(database: Database, watch: Watch) -> None:
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
