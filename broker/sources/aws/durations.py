"""How long a session may be asked to last, when only the role itself knows. Asks by a callback."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.lease import Lease, Refused, SourceError

T = TypeVar("T")
Assume = Callable[[int], Awaitable[Lease[T]]]
"""Assumes the role for that many seconds; raises `DurationTooLong` where it does not allow them."""

HOUR_S = 3600
MOST_HOURS = 12


class DurationTooLong(Refused):
    """The role does not allow a session of that length."""

    word = "duration-too-long"


class FixedDuration:
    """So many seconds; an hour, which every role allows, once these were found too many."""

    def __init__(self, duration_s: int, *, too_long: Callable[[int], None]) -> None:
        """*too_long* is told, once, the duration that the role did not allow."""
        self._duration_s = duration_s
        self._too_long = too_long

    async def apply(self, assume: Assume[T]) -> Lease[T]:
        try:
            return await assume(self._duration_s)
        except DurationTooLong:
            if self._duration_s <= HOUR_S:
                raise
        lease = await assume(HOUR_S)
        self._too_long(self._duration_s)
        self._duration_s = HOUR_S
        return lease


class LongestDuration:
    """The longest whole hours that the role allows: found by bisection, kept, and found again
    when the role allows less than before."""

    def __init__(self) -> None:
        self._forget()

    async def apply(self, assume: Assume[T]) -> Lease[T]:
        try:
            return await self._search(assume)
        except DurationTooLong:
            if not self._known:
                raise
        self._forget()
        return await self._search(assume)

    @property
    def _known(self) -> bool:
        return self._allowed_h + 1 == self._refused_h

    async def _search(self, assume: Assume[T]) -> Lease[T]:
        lease: Lease[T] | None = None
        while not self._known:
            try:
                lease = await assume(self._next_h * HOUR_S)
                self._allowed_h = self._next_h
            except DurationTooLong:
                self._refused_h = self._next_h
            except SourceError:
                # What was asked on the way is as good as any; the search goes on next time.
                if lease is None:
                    raise
                return lease
        return lease if lease is not None else await assume(self._allowed_h * HOUR_S)

    @property
    def _next_h(self) -> int:
        """The middle; but first of all the most, which many roles allow."""
        if self._refused_h > MOST_HOURS:
            return MOST_HOURS
        return (self._allowed_h + self._refused_h) // 2

    def _forget(self) -> None:
        self._allowed_h, self._refused_h = 1, MOST_HOURS + 1
