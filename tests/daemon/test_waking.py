"""Roles wait for their identity and are woken when it is renewed, never in a circle."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from broker.daemon.tasks import waking
from broker.keeper import Event, Keeper
from broker.lease import Lease, Refused
from tests.support.fakes import FakeClock, ScriptedSource, an_hour_of, lease_of


def ignored(_: Event) -> None: ...


@asynccontextmanager
async def running_all(keepers: Sequence[Keeper[Any]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(keeper.run()) for keeper in keepers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class RejectedEveryTime:
    """A role whose cloud takes none of the identity's tokens, however fresh."""

    def __init__(self, identity: Keeper[int], clock: FakeClock) -> None:
        self.attempts = 0
        self._identity = identity
        self._clock = clock

    async def fetch(self) -> Lease[str]:
        self.attempts += 1
        stale = await self._identity.fetch()
        await self._clock.sleep(0.05)
        await self._identity.newer_than(stale)
        await self._clock.sleep(0.05)
        raise Refused("the identity's token is not taken")


async def test_roles_that_find_every_token_stale_do_not_wake_each_other() -> None:
    clock = FakeClock()
    minted = ScriptedSource(lambda: lease_of(minted.fetches, clock, hours=1))
    identity = Keeper("identity/default", minted, clock=clock)
    sources = [RejectedEveryTime(identity, clock) for _ in range(3)]
    roles = [Keeper(f"role/{n}", source, clock=clock) for n, source in enumerate(sources)]
    identity.on_event = waking(roles, ignored)

    async with running_all([identity, *roles]):
        await clock.advance(minutes=10)

    assert all(source.attempts <= 10 for source in sources)


async def test_a_refused_role_is_tried_at_once_when_its_identity_changed() -> None:
    clock = FakeClock()
    file = ScriptedSource(an_hour_of("a", clock), an_hour_of("b", clock))
    identity = Keeper("identity/default", file, clock=clock)
    source = ScriptedSource(Refused("not trusted"), an_hour_of("credentials", clock))
    role = Keeper("role/deploy", source, clock=clock)
    identity.on_event = waking([role], ignored)

    async with running_all([identity, role]):
        await clock.advance(seconds=5)
        assert role.state() == "refused"

        identity.renew_now()
        await clock.advance(seconds=2)

        assert role.current().value == "credentials"
