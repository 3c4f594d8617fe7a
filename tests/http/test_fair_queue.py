"""Every caller gets a share of each turn of the event loop."""

import asyncio

from broker.access.caller import UNGRANTED
from broker.http.limits import FairQueue


async def test_a_caller_has_its_share_of_a_turn_and_then_waits_for_the_next() -> None:
    turns = FairQueue(share=2)

    taken = [turns.take("a") for _ in range(3)]
    other = turns.take("b")
    await asyncio.sleep(0)

    assert (taken, other) == ([True, True, False], True)
    assert turns.take("a")


async def test_what_waits_goes_on_in_order_a_share_at_a_time_beside_everybody_else() -> None:
    turns = FairQueue(share=2)
    done: list[str] = []

    for caller in ("a", "a", "b", "b"):
        turns.take(caller)
    for name in ("a1", "a2", "a3"):
        turns.wait("a", lambda name=name: done.append(name))  # type: ignore[misc]
    turns.wait("b", lambda: done.append("b1"))
    await asyncio.sleep(0)
    first_turn, may_overtake = list(done), turns.take("a")
    await asyncio.sleep(0)

    assert first_turn == ["a1", "a2", "b1"]
    assert not may_overtake
    assert done == ["a1", "a2", "b1", "a3"]


async def test_all_callers_without_a_grant_have_a_smaller_share_together() -> None:
    turns = FairQueue(share=2, ungranted_share=1)
    done: list[str] = []

    taken = [turns.take(UNGRANTED) for _ in range(2)]
    for name in ("first", "second"):
        turns.wait(UNGRANTED, lambda name=name: done.append(name))  # type: ignore[misc]
    await asyncio.sleep(0)

    assert taken == [True, False]
    assert done == ["first"]


async def test_a_resumed_request_may_wait_again() -> None:
    turns = FairQueue(share=1)
    done: list[int] = []

    def work(left: int) -> None:
        done.append(left)
        if left and not turns.take("a"):
            turns.wait("a", lambda: work(left - 1))

    turns.take("a")
    turns.wait("a", lambda: work(2))
    for _ in range(3):
        await asyncio.sleep(0)

    assert done == [2, 1, 0]
