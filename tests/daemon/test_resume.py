"""A process that may be a clone renews at once and signs with a new key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.clock import CHECK_S, ClockSkew
from broker.daemon import host
from broker.daemon.lifecycle import renew_after_resume
from broker.keeper import Keeper
from broker.surfaces.session_tokens import SessionKeys, SessionTokens
from tests.support.fakes import FakeClock, ScriptedSource, an_hour_of, running, settled


class World:
    """One keeper, the signing keys, and a machine that the test changes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.boot_id = "this machine"
        self.source = ScriptedSource(an_hour_of("a lease", self.clock))
        self.keeper = Keeper("role/deploy", self.source, clock=self.clock)
        self.keys = SessionKeys.in_memory(now=self.clock.now(), on=self.boot_id)


@asynccontextmanager
async def watched() -> AsyncIterator[World]:
    world = World()
    async with running(world.keeper):
        watching = asyncio.create_task(
            renew_after_resume(
                lambda: [world.keeper],
                world.keys,
                clock=world.clock,
                skew=ClockSkew(),
                boot_id=lambda: world.boot_id,
            )
        )
        await settled()
        try:
            yield world
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def test_as_long_as_nothing_jumps_nothing_is_renewed_before_its_time() -> None:
    async with watched() as world:
        await world.clock.advance(minutes=20)

        assert world.source.fetches == 1
        assert len(world.keys.all) == 1


async def test_a_clock_that_jumped_renews_within_a_look_and_serves_nothing_dead_meanwhile() -> None:
    async with watched() as world:
        before = world.keeper.current()
        world.clock.jump(hours=5)
        assert world.keeper.state() == "expired"

        await world.clock.advance(seconds=CHECK_S + 1)

        assert world.keeper.current().issued_at > before.issued_at
        assert world.keeper.state() == "live"
        assert len(world.keys.all) == 2


async def test_another_machine_or_boot_renews_once_and_old_session_tokens_stay_good() -> None:
    async with watched() as world:
        tokens = SessionTokens(world.keys)
        token = tokens.issue(21600, "uid=1000", world.clock.now())
        world.boot_id = "its clone"

        await world.clock.advance(minutes=5)

        assert world.source.fetches == 2
        assert len(world.keys.all) == 2
        assert tokens.seconds_left(token, "uid=1000", world.clock.now()) == 21600 - 300


def test_a_machine_is_the_same_each_time_it_is_looked_at() -> None:
    assert host.boot_id() == host.boot_id()
    assert len(host.boot_id()) == 32
