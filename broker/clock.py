"""The wall clock and waiting, as arguments: nothing else in the package reads the time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# How far the wall clock may move beyond the time slept before it counts as a step.
STEP = timedelta(minutes=1)
# How far a clock may be off before it counts: a Date has whole seconds, and requests take time.
SKEW = timedelta(seconds=30)
# How often the wall clock is compared. Short, so that a thawed clone renews at once.
CHECK_S = 5.0


class Clock(Protocol):
    """The wall clock, and waiting by the machine's monotonic one."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long, not counting time that the machine is suspended."""


class SystemClock:
    """The real clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ClockSkew:
    """How far this host's clock is ahead of the clouds', by the `Date` of their responses.

    Clients on this host compare the end of a lease with this host's clock, so it is translated.
    """

    def __init__(self, *, on_change: Callable[[timedelta], None] | None = None) -> None:
        """*on_change* receives a skew of 30 s or more, when that changed, and its end as zero."""
        self.ahead = timedelta()
        """Negative where this host's clock is behind; zero while it is less than 30 s."""
        self.on_change = on_change

    def observe(self, ahead: timedelta) -> None:
        """Take a new reading, which is good to a few seconds."""
        seen = ahead if abs(ahead) >= SKEW else timedelta()
        if abs(seen - self.ahead) < SKEW and (not seen) == (not self.ahead):
            return
        self.ahead = timedelta(seconds=round(seen.total_seconds()))
        if self.on_change is not None:
            self.on_change(self.ahead)

    def to_local(self, instant: datetime) -> datetime:
        """Return an instant of a cloud's clock by this host's clock."""
        return instant + self.ahead

    def to_cloud(self, instant: datetime) -> datetime:
        """Return an instant of this host's clock by the clouds'."""
        return instant - self.ahead


def rfc3339(instant: datetime) -> str:
    """Return *instant* in the one form that every client reads, rounded down to the second.

    Source: sdk-client-contract C-44.
    """
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def clock_steps(clock: Clock) -> AsyncIterator[timedelta]:
    """Compare the wall clock with the time slept, for ever, and yield each difference.

    A difference of at most a minute counts as none and is yielded as zero.
    """
    while True:
        before = clock.now()
        await clock.sleep(CHECK_S)
        moved = clock.now() - before - timedelta(seconds=CHECK_S)
        yield moved if abs(moved) > STEP else timedelta()


async def first_of(*works: Awaitable[Any]) -> asyncio.Future[Any]:
    """Return the first of *works* to end; the others are cancelled, and have ended by then."""
    futures = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        return next(future for future in futures if future.done())
    finally:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)


async def within(seconds: float, work: Awaitable[T], *, clock: Clock) -> T:
    """Return the result of *work* if it ends within *seconds* of *clock*.

    asyncio's own timeouts go by the event loop's clock, which no test can move.

    Raises:
        TimeoutError: It did not end in time; it is cancelled, and has ended by then.
    """
    working = asyncio.ensure_future(work)
    if await first_of(working, clock.sleep(seconds)) is not working:
        raise TimeoutError
    return working.result()
