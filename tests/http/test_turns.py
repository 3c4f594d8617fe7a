"""Everybody gets a share of each turn of the event loop."""

import asyncio

from broker.http.turns import Turns


async def test_a_caller_has_its_share_of_a_turn_and_then_waits_for_the_next() -> None:
    turns = Turns(share=2)

    turns.spend("a", requests=1)
    after_one = turns.may_go_on("a")
    turns.spend("a", requests=1)
    after_two, other = turns.may_go_on("a"), turns.may_go_on("b")
    await asyncio.sleep(0)

    assert (after_one, after_two, other) == (True, False, True)
    assert turns.may_go_on("a")


async def test_what_waits_goes_on_in_order_a_share_at_a_time_beside_everybody_else() -> None:
    turns = Turns(share=2)
    done: list[str] = []

    def work(caller: str, name: str) -> None:
        done.append(name)
        turns.spend(caller, requests=1)

    turns.spend("a", requests=2)
    for name in ("a1", "a2", "a3"):
        turns.wait("a", lambda name=name: work("a", name))  # type: ignore[misc]
    turns.wait("b", lambda: work("b", "b1"))
    await asyncio.sleep(0)
    first_turn, may_overtake = list(done), turns.may_go_on("a")
    await asyncio.sleep(0)

    assert first_turn == ["a1", "a2", "b1"]
    assert not may_overtake
    assert done == ["a1", "a2", "b1", "a3"]


async def test_what_could_not_be_read_costs_as_a_request_does() -> None:
    turns = Turns(share=1)

    turns.spend("a", requests=0)

    assert not turns.may_go_on("a")
