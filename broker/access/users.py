"""Look up names and groups in the user database without waiting long for it.

The database may be a directory service that hangs, and requests are answered from memory. So each
lookup runs in a thread and its answer is kept for a while.
"""

import grp
import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

RENEW_AFTER_S, FORGET_AFTER_S = 30.0, 120.0
"""An answer older than the first is renewed behind the request that needs it; one older than the
second is dropped, so that a user who leaves a group loses its rights within two minutes."""

LONGEST_WAIT_S = 0.25
"""How long one request, and every other meanwhile, waits for a database that has been quick."""

MOST_KEPT = 4096
MOST_ASKED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class User:
    """A user's name and the number of every group."""

    name: str
    gids: frozenset[int]


def look_up_user(uid: int) -> User | None:
    """Return the user with that uid; None where the database has none."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return User(entry.pw_name, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def gid_of(group: str) -> int:
    """Return the number of the group with that name or number.

    Raises:
        ValueError: There is none of that name.
    """
    if group.isascii() and group.isdecimal():  # containers often have numbers without names
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {group!r} here; create it or name another") from None


@dataclass(frozen=True, slots=True)
class _Known:
    user: User | None
    asked_at: float


class UserDatabase:
    """Answer from memory about users who were looked up before.

    Once the database has kept us waiting, other users are unknown until it has answered.
    """

    def __init__(
        self,
        look_up: Callable[[int], User | None] = look_up_user,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._look_up = look_up
        self._monotonic = monotonic
        self._longest_wait_s = longest_wait_s
        self._known: dict[int, _Known] = {}
        self._asking: dict[int, Event] = {}
        self._is_slow = False

    def user(self, uid: int) -> User | None:
        """Return that user; None when there is none, and while it is not known."""
        known = self._fresh(uid)
        if known is None or self._age_s(known) > RENEW_AFTER_S:
            answered = self._ask(uid)
            if known is None and answered is not None and not self._is_slow:
                self._is_slow = not answered.wait(self._longest_wait_s)
                known = self._fresh(uid)
        return None if known is None else known.user

    def _fresh(self, uid: int) -> _Known | None:
        known = self._known.get(uid)
        return None if known is None or self._age_s(known) > FORGET_AFTER_S else known

    def _age_s(self, known: _Known) -> float:
        return self._monotonic() - known.asked_at

    def _ask(self, uid: int) -> Event | None:
        """Start looking that user up; None when too many lookups are under way."""
        answered = self._asking.get(uid)
        if answered is None and len(self._asking) < MOST_ASKED_AT_ONCE:
            answered = self._asking[uid] = Event()
            # A daemon thread: a database that never answers must not keep the process from ending.
            Thread(target=self._answer, args=(uid,), name=f"user-{uid}", daemon=True).start()
        return answered

    def _answer(self, uid: int) -> None:
        asked_at = self._monotonic()
        try:
            person = self._look_up(uid)
        except OSError:  # the database failed: that is no answer
            pass
        else:
            if len(self._known) >= MOST_KEPT:
                self._known.pop(next(iter(self._known)), None)
            self._known[uid] = _Known(person, asked_at)
            self._is_slow = False
        finally:
            self._asking.pop(uid).set()
