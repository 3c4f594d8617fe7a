"""Look up names and groups in the user database without waiting long for it.

The database may be a directory service that hangs, and requests are answered from memory. So each
lookup runs in a thread and its answer is kept for a while.
"""

import grp
import os
import pwd
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

from broker.access.caller import Caller
from broker.access.rate_limit import RateLimit

RENEW_AFTER_S, FORGET_AFTER_S = 30.0, 120.0
"""An answer older than the first is renewed behind the request that needs it; one older than the
second is dropped, so that a user who leaves a group loses its rights within two minutes."""

LONGEST_WAIT_S = 0.25
"""How long one request, and every other meanwhile, waits for a database that has been quick."""

MOST_KEPT = 4096
MOST_ASKED_AT_ONCE, MOST_FOR_ONE_USER = 8, 2

SUBUID = Path("/etc/subuid")
MOST_RANGES = 65_536


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


def has_name(uid: int) -> bool:
    """Return whether the user database has a user with that uid."""
    try:
        pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return False
    return True


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
class Known:
    """An answer of the database: the user, None where there is none, and when it was asked."""

    user: User | None
    asked_at: float


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """A question that the database has not answered yet, and whose limits it uses."""

    billed_uid: int
    answered: Event = field(default_factory=Event)


class UserDatabase:
    """Answer from memory about users who were looked up before.

    Once the database has kept us waiting, other users are unknown until it has answered. The time
    that is waited counts against the user who caused it.
    """

    def __init__(
        self,
        look_up: Callable[[int], User | None] = look_up_user,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        longest_wait_s: float = LONGEST_WAIT_S,
        limit: RateLimit | None = None,
    ) -> None:
        self._look_up = look_up
        self._monotonic = monotonic
        self._longest_wait_s = longest_wait_s
        self._limit = limit or RateLimit()
        self._known: dict[int, Known] = {}
        self._asking: dict[int, Lookup] = {}
        self._is_slow = False

    def known(self, uid: int, *, billed_uid: int | None = None) -> Known | None:
        """Return the database's answer about *uid*; None while there is none.

        The wait counts against *billed_uid*, by default *uid* itself.
        """
        known = self._fresh(uid)
        if known is None or self._age_s(known) > RENEW_AFTER_S:
            lookup = self._ask(uid, billed_uid=uid if billed_uid is None else billed_uid)
            if known is None and lookup is not None and not self._is_slow:
                self._wait(lookup)
                known = self._fresh(uid)
        return known

    def user(self, uid: int) -> User | None:
        """Return that user; None when there is none, and while it is not known."""
        known = self.known(uid)
        return None if known is None else known.user

    def _wait(self, lookup: Lookup) -> None:
        if not self._limit.allows(lookup.billed_uid):
            return
        began_at = time.monotonic()
        self._is_slow = not lookup.answered.wait(self._longest_wait_s)
        self._limit.spend(lookup.billed_uid, time.monotonic() - began_at)

    def _fresh(self, uid: int) -> Known | None:
        known = self._known.get(uid)
        return None if known is None or self._age_s(known) > FORGET_AFTER_S else known

    def _age_s(self, known: Known) -> float:
        return self._monotonic() - known.asked_at

    def _ask(self, uid: int, *, billed_uid: int) -> Lookup | None:
        """Start looking that user up; None when too many lookups are under way."""
        lookup = self._asking.get(uid)
        if lookup is None and self._may_ask(billed_uid):
            lookup = self._asking[uid] = Lookup(billed_uid)
            # A daemon thread: a database that never answers must not keep the process from ending.
            Thread(target=self._answer, args=(uid,), name=f"user-{uid}", daemon=True).start()
        return lookup

    def _may_ask(self, billed_uid: int) -> bool:
        own = sum(each.billed_uid == billed_uid for each in list(self._asking.values()))
        return len(self._asking) < MOST_ASKED_AT_ONCE and own < MOST_FOR_ONE_USER

    def _answer(self, uid: int) -> None:
        asked_at = self._monotonic()
        try:
            user = self._look_up(uid)
        except OSError:  # the database failed: that is no answer
            pass
        else:
            if len(self._known) >= MOST_KEPT:
                self._known.pop(next(iter(self._known)), None)
            self._known[uid] = Known(user, asked_at)
            self._is_slow = False
        finally:
            self._asking.pop(uid).answered.set()


@dataclass(frozen=True, slots=True, order=True)
class UidRange:
    """Subordinate uids that one user may take on in user namespaces of its own."""

    start: int
    end: int
    owner_uid: int


class SubordinateUids:
    """Tell whose a subordinate uid is, by /etc/subuid, read again in a thread when it has aged."""

    def __init__(
        self,
        path: Path = SUBUID,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        renew_after_s: float = RENEW_AFTER_S,
    ) -> None:
        self._path = path
        self._monotonic = monotonic
        self._renew_after_s = renew_after_s
        self._is_reading = False
        self._ranges: tuple[UidRange, ...] = ()
        self._starts: tuple[int, ...] = ()
        self._widest = 0
        self._read()

    def owners_of(self, uid: int) -> tuple[int, ...]:
        """Return the users to whom *uid* is subordinate; several where ranges overlap."""
        if self._monotonic() - self._read_at > self._renew_after_s and not self._is_reading:
            self._is_reading = True
            Thread(target=self._read, name="subuid", daemon=True).start()
        owners = []
        at = bisect_right(self._starts, uid)
        while at and self._starts[at - 1] + self._widest > uid:
            at -= 1
            if uid < self._ranges[at].end:
                owners.append(self._ranges[at].owner_uid)
        return tuple(sorted({owner for owner in owners if owner != uid}))

    def applied_to(self, caller: Caller) -> Caller:
        """Return *caller* with the users to whom its uid is subordinate."""
        owners = self.owners_of(caller.uid) if caller.uid else ()
        return replace(caller, delegated_by=owners) if owners else caller

    def _read(self) -> None:
        try:
            ranges = sorted(subordinate_ranges(self._path))[:MOST_RANGES]
            self._widest = max((each.end - each.start for each in ranges), default=0)
            self._ranges, self._starts = tuple(ranges), tuple(each.start for each in ranges)
        finally:
            self._read_at = self._monotonic()
            self._is_reading = False


def subordinate_ranges(path: Path) -> Iterator[UidRange]:
    """Yield the ranges in *path*; lines that newuidmap would ignore are skipped.

    Source: subuid(5).
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    owners: dict[str, int] = {}
    for line in lines:
        with suppress(ValueError, KeyError):
            name, start, count = line.split(":")
            if name not in owners:
                owners[name] = int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
            yield UidRange(int(start), int(start) + int(count), owners[name])
