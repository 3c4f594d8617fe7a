"""Small honest stand-ins that all tests share: time that the test moves, and scripted sources."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from broker.credentials import AwsCredentials
from broker.keeper import Keeper
from broker.lease import Lease, SourceError

T = TypeVar("T")

START = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
"""Where a fake clock begins, unless told otherwise."""

SETTLING_TURNS = 60
"""Turns of the event loop in which everything that can go on without time or network does so."""


async def settled() -> None:
    """Let every task run until it waits for time or for the network."""
    for _ in range(SETTLING_TURNS):
        await asyncio.sleep(0)


async def inline(work: Callable[[], Any]) -> Any:
    """Call *work* here and now, where others use a thread: a fake clock waits for no thread."""
    return work()


class FakeClock:
    """Time that stands still until the test moves it. Sleepers wake in the order of their ends."""

    def __init__(self, start: datetime = START) -> None:
        self._wall = start
        self._monotonic = timedelta()
        self._order = itertools.count()
        self._sleepers: list[tuple[timedelta, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await asyncio.sleep(0)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ends = self._monotonic + timedelta(seconds=seconds)
        heapq.heappush(self._sleepers, (ends, next(self._order), woken))
        return await woken

    async def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let that much time pass, waking every sleeper at its own moment, one after the other."""
        await settled()
        end = self._monotonic + timedelta(hours=hours, minutes=minutes, seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # its sleeper was cancelled
                continue
            self._move(due)
            woken.set_result(None)
            await settled()
        self._move(end)
        await settled()

    def jump(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move the wall clock alone, as after a suspend or a correction: nobody wakes."""
        self._wall += timedelta(hours=hours, minutes=minutes, seconds=seconds)

    def _move(self, to: timedelta) -> None:
        self._wall += to - self._monotonic
        self._monotonic = to


@dataclass(frozen=True)
class Hangs:
    """In a script: an upstream that never answers."""


class ScriptedSource(Generic[T]):
    """Plays its script, one entry for each fetch; the last entry for ever.

    An entry is a lease, a function that makes one at the moment of asking (`an_hour_of`), an
    error to raise, or `Hangs()`.
    """

    def __init__(self, *script: Lease[T] | Callable[[], Lease[T]] | SourceError | Hangs) -> None:
        self._script = list(script)
        self.fetches = 0

    def then(self, *script: Lease[T] | Callable[[], Lease[T]] | SourceError | Hangs) -> None:
        """From the next fetch on, play *script* instead."""
        self._script = list(script)

    async def fetch(self) -> Lease[T]:
        self.fetches += 1
        entry = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(entry, Hangs):
            await asyncio.get_running_loop().create_future()
        if isinstance(entry, SourceError):
            raise entry
        if isinstance(entry, Lease):
            return entry
        assert callable(entry)
        return entry()


def lease_of(
    value: T, clock: FakeClock, *, hours: float = 0, minutes: float = 0, seconds: float = 0
) -> Lease[T]:
    """Return a lease that begins now and lasts so long."""
    life = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return Lease(value=value, issued_at=clock.now(), expires_at=clock.now() + life)


def an_hour_of(value: T, clock: FakeClock) -> Callable[[], Lease[T]]:
    """Return what issues *value* for an hour from the moment of asking."""
    return lambda: lease_of(value, clock, hours=1)


def some_credentials(name: str = "deploy", *, serial: int = 1) -> AwsCredentials:
    """Return credentials as STS issues them for the role *name*; others for each *serial*."""
    return AwsCredentials(
        access_key_id=f"ASIAEXAMPLE{serial:09d}",
        secret_access_key=f"secret/of+{name}/{serial:027d}",
        session_token=f"IQoJb3JpZ2luX2VjE{serial:04d}+{name}/" + "Zm9v" * 180 + "==",
        role_arn=f"arn:aws:iam::123456789012:role/{name}",
    )


@asynccontextmanager
async def running(keeper: Keeper[T]) -> AsyncIterator[Keeper[T]]:
    """Run *keeper* for the block, after its first attempt."""
    task = asyncio.create_task(keeper.run(), name=keeper.name)
    await settled()
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def holding(
    name: str, lease: Lease[T] | Callable[[], Lease[T]] | SourceError, clock: FakeClock
) -> Keeper[T]:
    """Return a keeper that has asked once, got *lease* (or that error) and is stopped."""
    async with running(Keeper(name, ScriptedSource[T](lease), clock=clock)) as keeper:
        return keeper
