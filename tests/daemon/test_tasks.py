"""Background tasks have one owner, which begins and ends them one by one."""

import asyncio

import pytest

from broker.daemon.tasks import task_registry
from tests.support.fakes import settled


class Thing:
    """Notes when its work begins and ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    async def work(self) -> None:
        self.begun += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended += 1


async def test_each_thing_is_begun_once_and_ended_alone_or_with_all() -> None:
    one, two = Thing(), Thing()
    async with task_registry() as tasks:
        for thing in (one, two, one):
            tasks.start(thing, thing.work, thing.work)
        await settled()
        assert (one.begun, two.begun) == (2, 2)

        await tasks.end([one, "never begun"])
        assert (one.ended, two.ended) == (2, 0)

        tasks.start(one, one.work)
        await settled()
        assert one.begun == 3

    assert (one.ended, two.ended) == (3, 2)


async def test_a_bug_in_one_ends_all() -> None:
    thing = Thing()

    async def bug() -> None:
        raise ZeroDivisionError

    async def until_then() -> None:
        async with task_registry() as tasks:
            tasks.start(thing, thing.work)
            await settled()
            tasks.start("bug", bug)
            await asyncio.get_running_loop().create_future()

    with pytest.raises(ExceptionGroup) as raised:
        await until_then()

    assert raised.group_contains(ZeroDivisionError)
    assert thing.ended == 1


async def test_what_goes_wrong_in_the_block_itself_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with task_registry():
            raise KeyError
