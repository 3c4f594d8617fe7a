"""Waiting until a trust is known everywhere in AWS: growing pauses, five minutes at most."""

import asyncio
from datetime import timedelta

import pytest

from broker.lease import Refused, Unavailable
from broker.setup.sign_in import until_effective
from tests.support.fakes import START, FakeClock, settled

NOT_YET = Refused("role deploy does not admit this identity", word="access-denied")


class Attempts:
    """Refused that many times, then admitted."""

    def __init__(self, clock: FakeClock, *, refused: int, by: Exception = NOT_YET) -> None:
        self.at: list[float] = []
        self._clock = clock
        self._refused = refused
        self._by = by

    async def __call__(self) -> str:
        self.at.append((self._clock.now() - START) / timedelta(seconds=1))
        if len(self.at) <= self._refused:
            raise self._by
        return "credentials"


def waiting(attempts: Attempts, clock: FakeClock, told: list[float]) -> "asyncio.Task[str]":
    return asyncio.create_task(
        until_effective(attempts, clock=clock, on_wait=lambda pause_s, _: told.append(pause_s))
    )


async def test_what_is_admitted_at_once_is_proven_at_once() -> None:
    clock, told = FakeClock(), list[float]()
    attempts = Attempts(clock, refused=0)

    assert await waiting(attempts, clock, told) == "credentials"
    assert told == []


async def test_the_pauses_grow_from_5_to_30_seconds_and_each_is_told() -> None:
    clock, told = FakeClock(), list[float]()
    attempts = Attempts(clock, refused=5)

    task = waiting(attempts, clock, told)
    await clock.advance(minutes=2)

    assert await task == "credentials"
    assert told == [5, 10, 20, 30, 30]
    assert attempts.at == [0, 5, 15, 35, 65, 95]


async def test_after_five_minutes_the_refusal_is_the_answer() -> None:
    clock, told = FakeClock(), list[float]()
    attempts = Attempts(clock, refused=1000)

    task = waiting(attempts, clock, told)
    await clock.advance(minutes=6)

    with pytest.raises(Refused, match="does not admit"):
        await task
    assert attempts.at[-1] == 300


@pytest.mark.parametrize("word", ["no-provider", "invalid-identity-token"])
async def test_a_provider_that_is_not_known_yet_is_waited_for(word: str) -> None:
    clock, told = FakeClock(), list[float]()

    task = waiting(Attempts(clock, refused=1, by=Refused("…", word=word)), clock, told)
    await clock.advance(seconds=5)

    assert await task == "credentials"


@pytest.mark.parametrize(
    "error", [Refused("no", word="region-disabled"), Unavailable("STS is down")]
)
async def test_what_waiting_does_not_mend_is_not_waited_for(error: Exception) -> None:
    clock, told = FakeClock(), list[float]()

    task = waiting(Attempts(clock, refused=1, by=error), clock, told)
    await settled()

    with pytest.raises(type(error)):
        await task
    assert told == []
