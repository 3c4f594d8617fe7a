"""Limit connections, by caller and in all, and share each turn of the event loop among callers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from broker.access.caller import UNGRANTED

IDLE_YIELDS_S = 0.2
"""How long a connection that was answered must be quiet to end for a queued one of its own caller:
longer than a busy client takes from an answer to its next request, which would be reset, and SDKs
wait for a second at most."""

ALWAYS_KEPT = 16
"""So many connections of a caller are kept alive, however few it may have."""

SHARE = 16
"""Requests of one caller that are answered in one turn of the event loop: together about a
millisecond's work. The rest waits for the next turn, after everybody else's."""

UNGRANTED_SHARE = 4
"""The same, of all callers together whom no rule grants anything: everybody else waits for theirs
in each turn, and on fresh connections one of theirs costs a quarter of a millisecond."""

Place = Literal["served", "queued", "rejected"]
Group = dict["Limited", None]
"""Connections of one caller, in the order in which they came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may take of one server.

    A request must arrive whole within ``header_timeout_s`` of its first byte. A head longer than
    ``header_bytes`` (by up to a piece of what is read) is cut off. During a drain, requests must
    arrive within ``drain_s``, and a connection that is quiet for ``quiet_s`` is closed; those
    accepted in the last moment have ``last_s`` for all of it.

    How many connections there may be, a `ConnectionLimiter` decides; ``connections`` and
    ``connections_per_caller`` make one for a server that is alone.
    """

    header_bytes: int = 16384
    header_timeout_s: float = 5.0
    idle_timeout_s: float = 75.0
    drain_s: float = 3.0
    quiet_s: float = 0.1
    last_s: float = 0.5
    connections: int = 1024
    connections_per_caller: int = 64


DEFAULT_LIMITS = Limits()


class Limited(Protocol):
    """A connection, as far as its limits go."""

    @property
    def limit_key(self) -> str:
        """Whose it is, for limits."""

    @property
    def is_exempt(self) -> bool:
        """Root's or the broker's own: not limited by caller."""

    @property
    def served_at(self) -> float:
        """When it last got an answer, or else was accepted, by `time.monotonic`.

        Bytes that only trickle in do not count: a slow sender would look busy.
        """

    @property
    def is_idle(self) -> bool:
        """It got an answer, and nothing more has arrived on it."""

    def admit(self) -> None:
        """Serve it from now on: it was queued."""

    def end(self, *, refused: bool) -> None:
        """End it at once, *refused* or only making way. It still leaves, now or later."""


class ConnectionLimiter:
    """Limits the connections of the whole broker.

    **By caller.** A caller with *per_caller* connections is served no further one until one of its
    own ends: the next is queued, unread, first come first served. While a caller has more than half
    of them (`is_crowded`), each ends with its answer, so that hundreds of processes of a user that
    start at once are all served. One that was answered before and has been quiet
    for *idle_yields_s* ends for a queued one: nobody is locked out by connections that are kept
    alive and not used.

    **In all.** When more than *connections* are served, the one that ends is a connection of
    whoever has the most of them, of those the one that has gone longest without an answer. So who
    connects and asks at once is answered, whatever others hold open: nobody can fill the broker,
    only drive out what is quiet, and first of all their own. Root and the broker's own uid are not
    exempt from this. Queued connections do not count among them; *connections* is their limit too:
    beyond it, the last one of whoever has the most of them is rejected. So there are twice
    *connections* at the most.
    """

    def __init__(
        self,
        *,
        connections: int = 1024,
        per_caller: int = 64,
        idle_yields_s: float = IDLE_YIELDS_S,
    ) -> None:
        self.turns = FairQueue()
        self.served = 0
        self.queued = 0
        self.rejected = 0
        """How many were closed without a byte, or made way, since the start."""
        self._connections = connections
        self._per_caller = per_caller
        self._idle_yields_s = idle_yields_s
        self._served: dict[str, Group] = {}
        self._queued: dict[str, Group] = {}
        self._looking_for_idle: set[str] = set()

    def enter(self, connection: Limited) -> Place:
        """Give a new connection its place. One that is ``rejected`` has none: close it."""
        own = self._served.get(connection.limit_key, ())
        if len(own) >= self._per_caller and not connection.is_exempt:
            return self._enqueue(connection)
        place: Place = "served"
        if connection.limit_key in self._queued:
            # Some of its caller's made way while others waited: first come first served.
            self._admit_first(connection.limit_key)
            place = self._enqueue(connection)
        else:
            self._serve(connection)
        if self.served > self._connections:
            self._drop(self._least_missed())
        return place

    def is_crowded(self, connection: Limited) -> bool:
        """Return whether its caller has more than half of the connections that it may have."""
        own = len(self._served.get(connection.limit_key, ()))
        return own > max(self._per_caller // 2, ALWAYS_KEPT) and not connection.is_exempt

    def leave(self, connection: Limited) -> None:
        """Forget a connection that has ended; without a place it changes nothing."""
        if self._remove(connection) and self._queued:
            self._admit_queued()

    def resize(self, *, connections: int, per_caller: int) -> None:
        """Apply other limits. Connections beyond the total end, those beyond a caller's do not."""
        self._connections, self._per_caller = connections, per_caller
        while self.served > connections:
            self._drop(self._least_missed())
        self._admit_queued()

    def make_room(self) -> None:
        """End one, since no more can be opened: a queued one, else as when all places are taken."""
        if self.queued:
            self._drop(self._last_queued())
        elif self.served:
            self._drop(self._least_missed())

    def _serve(self, connection: Limited) -> None:
        self._served.setdefault(connection.limit_key, {})[connection] = None
        self.served += 1

    def _enqueue(self, connection: Limited) -> Place:
        self._queued.setdefault(connection.limit_key, {})[connection] = None
        self.queued += 1
        self._look_for_idle_later(connection.limit_key)
        if self.queued <= self._connections:
            return "queued"
        last = self._last_queued()
        if last is connection:
            self._remove(connection)
            self.rejected += 1
            return "rejected"
        self._drop(last)
        return "queued"

    def _remove(self, connection: Limited) -> bool:
        caller = connection.limit_key
        if _discard(self._served, caller, connection):
            self.served -= 1
            return True
        if _discard(self._queued, caller, connection):
            self.queued -= 1
            return True
        return False

    def _drop(self, connection: Limited) -> None:
        self._remove(connection)
        self.rejected += 1
        connection.end(refused=True)

    def _admit_first(self, caller: str) -> None:
        first = next(iter(self._queued[caller]))
        self._remove(first)
        self._serve(first)
        first.admit()

    def _admit_queued(self) -> None:
        while self.served < self._connections:
            caller = next(self._callers_below_limit(), None)
            if caller is None:
                return
            self._admit_first(caller)

    def _callers_below_limit(self) -> Iterator[str]:
        return (
            caller
            for caller in self._queued
            if len(self._served.get(caller, ())) < self._per_caller
        )

    def _least_missed(self) -> Limited:
        most = max(map(len, self._served.values()))
        return min(
            (each for own in self._served.values() if len(own) == most for each in own),
            key=lambda connection: connection.served_at,
        )

    def _last_queued(self) -> Limited:
        most = max(self._queued, key=lambda caller: len(self._queued[caller]))
        return next(reversed(self._queued[most]))

    def _look_for_idle_later(self, caller: str) -> None:
        if caller not in self._looking_for_idle:
            self._looking_for_idle.add(caller)
            asyncio.get_running_loop().call_soon(self._look_for_idle, caller)

    def _look_for_idle(self, caller: str) -> None:
        """End idle connections of *caller* for its queued ones, as long as there are any."""
        queued = self._queued.get(caller)
        if not queued:
            self._looking_for_idle.discard(caller)
            return
        since = time.monotonic() - self._idle_yields_s
        # Places become free by answers too: what came a moment ago may need none of these.
        waiting = sum(connection.served_at <= since for connection in queued)
        idle = [
            connection
            for connection in self._served.get(caller, ())
            if connection.served_at <= since and connection.is_idle
        ]
        for connection in sorted(idle, key=lambda connection: connection.served_at)[:waiting]:
            self._remove(connection)
            connection.end(refused=False)
        self._admit_queued()
        loop = asyncio.get_running_loop()
        loop.call_later(self._idle_yields_s, self._look_for_idle, caller)


def _discard(groups: dict[str, Group], caller: str, connection: Limited) -> bool:
    own = groups.get(caller)
    if own is None or connection not in own:
        return False
    del own[connection]
    if not own:
        del groups[caller]
    return True


class FairQueue:
    """Gives each caller the same share of every turn of the event loop.

    However many connections it has, and however many requests it sends at once. All callers without
    a grant have one share, a smaller one.
    """

    def __init__(self, *, share: int = SHARE, ungranted_share: int = UNGRANTED_SHARE) -> None:
        self._share = share
        self._ungranted_share = ungranted_share
        self._used: dict[str, int] = {}
        self._waiting: dict[str, deque[Callable[[], None]]] = {}

    def take(self, caller: str) -> bool:
        """Use one request's part of *caller*'s share.

        False when none is left in this turn, or others of its requests wait for the next.
        """
        used = self._used.get(caller, 0)
        if used >= self._share_of(caller) or caller in self._waiting:
            return False
        self._use(caller, used + 1)
        return True

    def wait(self, caller: str, resume: Callable[[], None]) -> None:
        """Call *resume*, which does not fail, when there is a part of a share for it."""
        self._waiting.setdefault(caller, deque()).append(resume)

    def _share_of(self, caller: str) -> int:
        return self._ungranted_share if caller == UNGRANTED else self._share

    def _use(self, caller: str, used: int) -> None:
        if not self._used:
            # What is scheduled now runs at the start of the next turn, before what is read in it.
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._used[caller] = used

    def _next_turn(self) -> None:
        self._used.clear()
        for caller, waiting in list(self._waiting.items()):
            share = self._share_of(caller)
            while waiting and (used := self._used.get(caller, 0)) < share:
                self._use(caller, used + 1)
                waiting.popleft()()
            if not waiting:
                del self._waiting[caller]
