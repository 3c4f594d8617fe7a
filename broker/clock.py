"""Time, handed in: what it is now, and waiting. Nothing else in the package reads a clock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

# How far the wall clock may move beyond the time slept before it counts as a jump.
JUMP = timedelta(minutes=1)
# How often the wall clock is looked at. Short, so that a thawed clone renews at once.
LOOK_S = 5.0


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


async def clock_steps(clock: Clock) -> AsyncIterator[timedelta]:
    """Look at the wall clock again and again; yield each time how much further it moved than was
    slept, zero where that counts as nothing."""
    while True:
        before = clock.now()
        await clock.sleep(LOOK_S)
        moved = clock.now() - before - timedelta(seconds=LOOK_S)
        yield moved if abs(moved) > JUMP else timedelta()
