"""Everybody who is connected, by whatever surface: who is served, who waits, who makes way. Knows
no socket and no request."""

import asyncio
import time
from collections.abc import Iterator
from typing import Literal, Protocol

from broker.http.turns import Turns

IDLE_YIELDS_S = 0.5
"""How long a kept-alive connection goes unused before it ends for another one of its own caller
that waits. Below the second after which most SDKs give up; ending an idle one is harmless (C-4)."""

NEWS_S, MOST_NEWS = 60.0, 100
"""How soon the same is told again, and how many things are told in that time."""

Place = Literal["served", "queued", "rejected"]
Members = dict["Member", None]
"""In the order in which they came."""


class Member(Protocol):
    """A connection, as far as a limiter goes."""

    @property
    def counted_as(self) -> str:
        """Whose it is, for limits (`Caller.limit_key`)."""

    @property
    def is_exempt(self) -> bool:
        """Root's or the broker's own: not limited by caller."""

    @property
    def served_at(self) -> float:
        """When it last got an answer, or else came, by `time.perf_counter`. What only trickles in
        does not count: a slow sender would look busy."""

    @property
    def is_idle(self) -> bool:
        """It got an answer, and nothing more of it has come."""

    def admit(self) -> None:
        """It was queued, and is served from now on."""

    def end(self, *, refused: bool) -> None:
        """End it at once, *refused* or only making way. It still leaves, now or later."""


class ConnectionLimiter:
    """One for the whole broker.

    **By caller.** Who has *per_caller* connections is served no further one until one of its own
    ends: it is queued, unread, and served first come first served. As many again are queued, what
    comes beyond is turned away. A connection of the same caller that has been idle for
    *idle_yields_s* ends for a queued one, so that the sixty-fifth process of a user is not
    locked out by sixty-four that keep alive what they do not use.

    **In all.** Of *connections* that are served and one more, the one that goes is a connection of
    whoever has the most of them, of those the one that has gone longest without an answer. So who
    comes and asks at once is answered, whatever others hold open: nobody can fill the broker,
    only drive out what is quiet, and first of all their own. Root and the broker's own uid are
    not exempt from this. Parked connections take no place in there, and *connections* of them is
    their limit, kept by the same rule. So twice *connections* is the most that there are.
    """

    def __init__(
        self,
        *,
        connections: int = 1024,
        per_caller: int = 64,
        idle_yields_s: float = IDLE_YIELDS_S,
    ) -> None:
        self.turns = Turns()
        self.served = 0
        self.queued = 0
        self.rejected = 0
        """How many were closed without a byte, or made way, since the start."""
        self._connections = connections
        self._per_caller = per_caller
        self._idle_yields_s = idle_yields_s
        self._served: dict[str, Members] = {}
        self._queued: dict[str, Members] = {}
        self._told_at: dict[str, float] = {}
        self._looked_after: set[str] = set()

    def enter(self, member: Member) -> Place:
        """Give a new connection its place. ``away``: it has none, and is to be closed."""
        if self._has_enough(member):
            return self._queue(member)
        if member.counted_as in self._queued:
            # Some of its caller's made way and those wait for room: first come first served.
            self._admit_first(member.counted_as)
            place = self._queue(member)
        else:
            self._serve(member)
            place = "served"
        if self.served > self._connections:
            self._drop(self._least_missed())
        return place

    def leave(self, member: Member) -> None:
        """Take note that a connection has ended; of one that has no place, do nothing."""
        if self._remove(member):
            self._admit_who_waits()

    def resize(self, *, connections: int, per_caller: int) -> None:
        """Have other limits from here on. Who is in all too many goes; of one caller's, nobody."""
        self._connections, self._per_caller = connections, per_caller
        while self.served > connections:
            self._drop(self._least_missed())
        self._admit_who_waits()

    def make_room(self) -> None:
        """End one, since no more can be opened: a queued one, else as when all places are taken."""
        if self.queued:
            self._drop(self._last_queued())
        elif self.served:
            self._drop(self._least_missed())

    def is_news(self, what: str) -> bool:
        """Say whether *what* is to be told: not when it was within the last minute, nor when a
        hundred other things were. To ask is to tell."""
        now = time.perf_counter()
        self._told_at = {each: at for each, at in self._told_at.items() if now - at < NEWS_S}
        if what in self._told_at or len(self._told_at) >= MOST_NEWS:
            return False
        self._told_at[what] = now
        return True

    def _has_enough(self, member: Member) -> bool:
        return not member.is_exempt and len(self._served.get(member.counted_as, ())) >= (
            self._per_caller
        )

    def _serve(self, member: Member) -> None:
        self._served.setdefault(member.counted_as, {})[member] = None
        self.served += 1

    def _queue(self, member: Member) -> Place:
        own = self._queued.setdefault(member.counted_as, {})
        if len(own) >= self._per_caller:
            self.rejected += 1
            return "rejected"
        own[member] = None
        self._look_for_idle_ones_later(member.counted_as)
        self.queued += 1
        if self.queued <= self._connections:
            return "queued"
        last = self._last_queued()
        if last is member:
            self._remove(member)
            self.rejected += 1
            return "rejected"
        self._drop(last)
        return "queued"

    def _remove(self, member: Member) -> bool:
        for places in (self._served, self._queued):
            own = places.get(member.counted_as, {})
            if member in own:
                del own[member]
                if not own:
                    del places[member.counted_as]
                if places is self._served:
                    self.served -= 1
                else:
                    self.queued -= 1
                return True
        return False

    def _drop(self, member: Member) -> None:
        self._remove(member)
        self.rejected += 1
        member.end(refused=True)

    def _admit_first(self, caller: str) -> None:
        first = next(iter(self._queued[caller]))
        self._remove(first)
        self._serve(first)
        first.admit()

    def _admit_who_waits(self) -> None:
        while self.served < self._connections:
            caller = next(self._who_may_have_more(), None)
            if caller is None:
                return
            self._admit_first(caller)

    def _who_may_have_more(self) -> Iterator[str]:
        return (
            caller
            for caller in self._queued
            if len(self._served.get(caller, ())) < self._per_caller
        )

    def _least_missed(self) -> Member:
        most = max(map(len, self._served.values()))
        return min(
            (member for own in self._served.values() if len(own) == most for member in own),
            key=lambda member: member.served_at,
        )

    def _last_queued(self) -> Member:
        most = max(self._queued, key=lambda caller: len(self._queued[caller]))
        return next(reversed(self._queued[most]))

    def _look_for_idle_ones_later(self, caller: str) -> None:
        if caller not in self._looked_after:
            self._looked_after.add(caller)
            loop = asyncio.get_running_loop()
            loop.call_later(self._idle_yields_s, self._look_for_idle_ones, caller)

    def _look_for_idle_ones(self, caller: str) -> None:
        self._looked_after.discard(caller)
        waiting = len(self._queued.get(caller, ()))
        if not waiting:
            return
        since = time.perf_counter() - self._idle_yields_s
        idle = [
            member
            for member in self._served.get(caller, ())
            if member.is_idle and member.served_at <= since
        ]
        for member in sorted(idle, key=lambda member: member.served_at)[:waiting]:
            self._remove(member)
            member.end(refused=False)
        self._admit_who_waits()
        if caller in self._queued:
            self._look_for_idle_ones_later(caller)
