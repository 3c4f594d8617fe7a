"""More connections than there is room for: who waits, who is rejected, who notices nothing.

Over real sockets.
"""

import asyncio
import os
import time
from contextlib import AsyncExitStack

import pytest

from broker.access.caller import Caller
from broker.http.limits import ConnectionLimiter, Limits
from broker.http.message import Exchange
from tests.support.http_callers import ALICE, BOB, CAROL, Port, hang_up, open_port, until
from tests.support.http_plain import GET, Plain
from tests.support.wire import Wire, served

LIMIT_S = 10.0
"""A second on a machine that does nothing else."""

PATIENT = 3600.0
"""Idle connections make way after so many seconds: in these tests, never."""


def limiter_of(
    connections: int = 100, *, each: int, idle_yields_s: float = PATIENT
) -> ConnectionLimiter:
    return ConnectionLimiter(connections=connections, per_caller=each, idle_yields_s=idle_yields_s)


def asking(path: str) -> bytes:
    return GET.replace(b"/ ", path.encode() + b" ")


def paths(surface: Plain) -> list[str]:
    return [request.path for request in surface.requests]


async def busy(place: Port, address: str, count: int) -> list[Wire]:
    """Open so many connections, each of which has begun a request and does not end it."""
    wires = [await place.wire(address) for _ in range(count)]
    for wire in wires:
        await wire.send(GET)
        await wire.write(GET[:-2])
    return wires


async def test_a_connection_over_its_callers_cap_is_not_read_until_one_of_its_own_ends() -> None:
    surface, limiter = Plain(), limiter_of(each=2)

    async with open_port(surface, limiter=limiter) as place:
        own = await busy(place, ALICE, 2)
        third = await place.wire(ALICE)
        await third.write(asking("/third"))
        await until(lambda: limiter.queued == 1)
        others = await place.wire(BOB)
        for _ in range(100):
            await others.send(GET)
        read_by_then = paths(surface)
        await hang_up(own[0])
        reply = await third.read()

    assert "/third" not in read_by_then
    assert reply.status == 200


async def test_who_waits_is_served_in_the_order_of_coming() -> None:
    surface, limiter = Plain(), limiter_of(each=3)

    async with open_port(surface, limiter=limiter) as place:
        own = await busy(place, ALICE, 3)
        waiting = [await place.wire(ALICE) for _ in range(3)]
        for number, wire in enumerate(waiting):
            await wire.write(asking(f"/{number}"))
        await until(lambda: limiter.queued == 3)
        for wire, next_in_line in zip(own, waiting, strict=True):
            await hang_up(wire)
            assert (await next_in_line.read()).status == 200

    assert paths(surface)[3:] == ["/0", "/1", "/2"]


async def test_beyond_the_total_limit_queued_connections_are_closed_without_a_byte() -> None:
    limiter = limiter_of(4, each=2)
    reports: list[Exchange] = []

    async with open_port(Plain(), limiter=limiter, on_exchange=reports.append) as place:
        await busy(place, ALICE, 2)
        for _ in range(4):
            await place.wire(ALICE)
        await until(lambda: limiter.queued == 4)
        rest = [await (await place.wire(ALICE)).ended() for _ in range(5)]
        other = await (await place.wire(BOB)).send(GET)

    assert rest == [b""] * 5
    assert other.status == 200
    assert limiter.rejected == 5
    refused = [exchange for exchange in reports if exchange.answer.refusal]
    assert [(each.caller.address, each.answer.refusal) for each in refused] == [
        (ALICE, "connections")
    ] * 5


async def test_five_hundred_clients_of_one_user_at_once_are_served_within_a_second() -> None:
    limiter = ConnectionLimiter()

    async def ask(place: Port) -> int:
        """Ask as an SDK does, on a connection that it keeps."""
        wire = await place.wire(ALICE)
        return (await wire.send(GET)).status

    async with open_port(Plain(), limiter=limiter) as place:
        began_at = time.monotonic()
        statuses = await asyncio.gather(*[ask(place) for _ in range(500)])
        took_s = time.monotonic() - began_at

    assert statuses == [200] * 500
    assert limiter.rejected == 0
    assert took_s < LIMIT_S


async def test_who_has_many_connections_reads_that_they_end_and_loses_none_that_it_may_use() -> (
    None
):
    limiter = limiter_of(each=40)

    async with open_port(Plain(), limiter=limiter) as place:
        wires = [await place.wire(ALICE) for _ in range(60)]
        replies = [await wire.send(GET) for wire in wires]
        kept = [
            wire
            for wire, reply in zip(wires, replies, strict=True)
            if reply.header("Connection") != "close"
        ]
        again = [await wire.send(GET) for wire in kept]

    assert [reply.status for reply in replies + again] == [200] * 80


async def test_a_queued_connection_is_given_up_after_as_long_as_an_idle_one() -> None:
    limiter = limiter_of(each=1)
    hasty = Limits(idle_timeout_s=0.05)

    async with open_port(Plain(), limiter=limiter, limits=hasty) as place:
        await busy(place, ALICE, 1)
        second = await place.wire(ALICE)
        await second.write(GET)
        rest = await second.ended()

    assert rest == b""


async def test_a_queued_client_that_has_gone_does_not_keep_the_next_one_waiting() -> None:
    limiter = limiter_of(each=2)

    async with open_port(Plain(), limiter=limiter) as place:
        own = await busy(place, ALICE, 2)
        gone, waiting = await place.wire(ALICE), await place.wire(ALICE)
        await until(lambda: limiter.queued == 2)
        await hang_up(gone)
        await hang_up(own[0])
        reply = await waiting.send(GET)

    assert reply.status == 200


async def test_a_kept_alive_connection_makes_way_for_one_of_its_own_caller() -> None:
    limiter = limiter_of(each=2, idle_yields_s=0.02)

    async with open_port(Plain(), limiter=limiter) as place:
        unused = [await place.wire(ALICE) for _ in range(2)]
        for wire in unused:
            await wire.send(GET)
        reply = await (await place.wire(ALICE)).send(GET)
        rest = await unused[0].ended()
        still = await unused[1].send(GET)

    assert (reply.status, rest, still.status) == (200, b"", 200)


async def test_it_does_not_make_way_while_a_request_is_under_way() -> None:
    surface, limiter = Plain(), limiter_of(each=1, idle_yields_s=0.01)

    async with open_port(surface, limiter=limiter, limits=Limits(idle_timeout_s=0.1)) as place:
        (own,) = await busy(place, ALICE, 1)
        second = await place.wire(ALICE)
        await second.write(asking("/second"))
        assert await second.ended() == b""
        reply = await own.send(b"\r\n")

    assert reply.status == 200
    assert "/second" not in paths(surface)


async def test_when_all_places_are_taken_whoever_has_the_most_makes_way() -> None:
    limiter = limiter_of(4, each=3)

    async with open_port(Plain(), limiter=limiter) as place:
        await busy(place, BOB, 1)
        own = await busy(place, ALICE, 3)
        await own[0].send(b"\r\n")  # so that the second is the one unheard of the longest
        reply = await (await place.wire(CAROL)).send(GET)
        rest = await own[1].ended()
        kept = await own[0].send(GET)

    assert reply.status == 200
    assert rest == b""
    assert kept.status == 200


async def test_who_fills_all_places_from_many_addresses_locks_nobody_out() -> None:
    limiter = limiter_of(10, each=3)
    told: list[Exchange] = []

    async with open_port(Plain(), limiter=limiter, on_exchange=told.append) as place:
        for number in range(40):
            await place.wire(f"127.0.1.{number}")
        await until(lambda: limiter.rejected == 30)
        replies = [await (await place.wire(BOB)).send(GET) for _ in range(3)]

    assert [reply.status for reply in replies] == [200] * 3
    assert {each.answer.refusal for each in told} == {"connections", None}


async def test_queued_connections_take_no_place_from_others() -> None:
    limiter = limiter_of(5, each=2)

    async with open_port(Plain(), limiter=limiter) as place:
        for address in (ALICE, BOB):
            await busy(place, address, 2)
            for _ in range(2):
                await place.wire(address)
        await until(lambda: limiter.queued == 4)
        reply = await (await place.wire(CAROL)).send(GET)
        served_by_then = limiter.served

    assert reply.status == 200
    assert served_by_then == 5
    assert limiter.rejected == 0


async def test_connections_count_together_whatever_the_surface() -> None:
    limiter = limiter_of(each=2)

    async with (
        open_port(Plain(), limiter=limiter) as one,
        open_port(Plain(), limiter=limiter) as other,
    ):
        own = await busy(one, ALICE, 2)
        third = await other.wire(ALICE)
        await third.write(GET)
        await until(lambda: limiter.queued == 1)
        await hang_up(own[0])
        reply = await third.read()

    assert reply.status == 200


async def test_the_brokers_own_uid_has_as_many_as_it_likes() -> None:
    limits = Limits(connections_per_caller=1)

    async with (
        served(Plain(), limits=limits, caller=Caller(uid=os.geteuid())) as place,
        place.wire() as first,
        place.wire() as second,
        place.wire() as third,
    ):
        replies = [await wire.send(GET) for wire in (first, second, third)]

    assert [reply.status for reply in replies] == [200] * 3


async def test_leaving_closes_who_was_queued() -> None:
    limiter = limiter_of(each=1)

    async with open_port(Plain(), limiter=limiter) as staying:
        await busy(staying, ALICE, 1)
        async with AsyncExitStack() as leaving:
            place = await leaving.enter_async_context(open_port(Plain(), limiter=limiter))
            waiting = await place.wire(ALICE)
            await until(lambda: limiter.queued == 1)
            closing = asyncio.create_task(waiting.ended())
        rest = await closing

    assert rest == b""
    assert limiter.queued == 0


async def test_a_place_that_becomes_free_on_one_surface_is_given_on_another_that_stays() -> None:
    limiter = limiter_of(each=1)

    async with open_port(Plain(), limiter=limiter) as staying:
        async with open_port(Plain(), limiter=limiter, limits=Limits(drain_s=0.05)) as leaving:
            await busy(leaving, ALICE, 1)
            waiting = await staying.wire(ALICE)
            await waiting.write(GET)
            await until(lambda: limiter.queued == 1)
        reply = await waiting.read()

    assert reply.status == 200


async def test_who_asks_much_at_once_does_not_keep_others_waiting() -> None:
    surface, limiter = Plain(), limiter_of(each=8)
    asked = 4 * 500

    async with open_port(surface, limiter=limiter) as place:
        other = await place.wire(BOB)
        await other.send(GET)
        flood = [await place.wire(ALICE) for _ in range(4)]
        for wire in flood:
            wire.writer.write(GET * 500)
        reply = await other.send(asking("/other"))
        before = paths(surface).index("/other")
        for wire in flood:
            for _ in range(500):
                await wire.read()

    assert reply.status == 200
    assert before < asked / 4


@pytest.mark.parametrize("count", [1, 50, 500])
async def test_who_closes_its_side_after_asking_much_at_once_gets_every_answer(count: int) -> None:
    async with open_port(Plain(), limiter=limiter_of(each=1)) as place:
        wire = await place.wire(ALICE)
        await wire.write(GET * count)
        wire.writer.write_eof()
        replies = [await wire.read() for _ in range(count)]
        rest = await wire.ended()

    assert len(replies) == count
    assert rest == b""
