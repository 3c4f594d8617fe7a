"""Renew after what may have made two of this machine: a jump of the clock, another machine or boot.
Keeps nothing."""

from collections.abc import Callable, Iterable
from typing import Any

from broker.clock import Clock, looks
from broker.keeper import Keeper
from broker.surfaces.session_tokens import SigningKeys


async def renew_after_clones(
    keepers: Callable[[], Iterable[Keeper[Any]]],
    keys: SigningKeys,
    *,
    clock: Clock,
    incarnation: Callable[[], str],
) -> None:
    """Renew everything, with a signing key of our own, after the wall clock jumped or this became
    another *incarnation*: it may be a thawed clone, whose twin holds the same leases and keys.

    asyncio's clock stands still while a machine is suspended or snapshotted, and a clone wakes up
    with everything that its twin holds.
    """
    async for jumped in looks(clock):
        found = incarnation()
        if jumped or found != keys.made_on:
            keys.add_key(clock.now(), on=found)
            for keeper in keepers():
                keeper.renew_now()
