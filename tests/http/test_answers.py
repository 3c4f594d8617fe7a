"""How an answer goes out, to the byte."""

import os

from broker.access.caller import Caller
from broker.http.message import Exchange
from tests.support.fakes import FakeClock
from tests.support.http_plain import GET, Plain
from tests.support.wire import wire_to

A_SECOND_LATER = b"Wed, 02 Jan 2030 03:04:06 GMT"


async def test_an_answer_is_these_bytes_and_no_others() -> None:
    async with wire_to(Plain(), clock=FakeClock()) as wire:
        reply = await wire.send(GET)

    assert reply.head == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: application/json\r\n"
        b"X-Order: first\r\n"
        b"Server: plain\r\n"
        b"Content-Length: 16\r\n"
        b"Date: Wed, 02 Jan 2030 03:04:05 GMT\r\n"
        b"\r\n"
    )
    assert reply.body == b'["GET", "/", ""]'


async def test_nothing_is_compressed_however_it_is_asked_for() -> None:
    async with wire_to(Plain()) as wire:
        reply = await wire.send(
            b"GET /large HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\nTE: gzip\r\n\r\n"
        )

    assert reply.header("content-encoding") is None
    assert reply.header("transfer-encoding") is None
    assert reply.header("content-length") == "20000"
    assert len(reply.body) == 20_000


async def test_an_answer_without_body_says_so() -> None:
    async with wire_to(Plain()) as wire:
        reply = await wire.send(GET.replace(b"/ ", b"/empty "))

    assert reply.header("content-length") == "0"
    assert reply.header("content-type") is None
    assert reply.header("server") is None


async def test_head_gets_the_head_of_what_get_gets() -> None:
    async with wire_to(Plain(), clock=FakeClock()) as wire:
        by_get = await wire.send(GET.replace(b"/ ", b"/large "))
        by_head = await wire.send(GET.replace(b"GET / ", b"HEAD /large "))
        after = await wire.send(GET)

    assert by_head.head == by_get.head
    assert after.status == 200


async def test_the_date_is_the_time_of_the_answer() -> None:
    clock = FakeClock()

    async with wire_to(Plain(), clock=clock) as wire:
        await wire.send(GET)
        await clock.advance(seconds=1)
        reply = await wire.send(GET)

    assert reply.header("date") == A_SECOND_LATER.decode()


async def test_a_surface_may_hang_up_without_a_byte() -> None:
    async with wire_to(Plain()) as wire:
        await wire.write(GET.replace(b"/ ", b"/hang-up "))
        rest = await wire.ended()

    assert rest == b""


async def test_a_surface_that_fails_has_nothing_to_serve_and_the_error_is_reported() -> None:
    bugs: list[BaseException] = []

    async with wire_to(Plain(), on_error=bugs.append) as wire:
        reply = await wire.send(GET.replace(b"/ ", b"/bug "))
        after = await wire.send(GET)

    assert (reply.status, reply.body) == (404, b"nothing")
    assert after.status == 200
    assert [str(bug) for bug in bugs] == ["a bug"]


async def test_every_exchange_is_reported() -> None:
    exchanges: list[Exchange] = []

    async with wire_to(Plain(), on_exchange=exchanges.append) as wire:
        await wire.send(GET.replace(b"/ ", b"/one "))
        await wire.send(b"no HTTP\r\n\r\n")

    assert [(told.surface, told.request.path, told.answer.status) for told in exchanges] == [
        ("plain", "/one", 200),
        ("plain", "", 400),
    ]
    assert all(told.caller.uid == os.getuid() for told in exchanges)
    assert all(0 <= told.took_s < 10 for told in exchanges)


async def test_a_listener_that_fails_costs_the_client_nothing() -> None:
    bugs: list[BaseException] = []

    def broken(_: Exchange) -> None:
        raise RuntimeError("no disk")

    async with wire_to(Plain(), on_exchange=broken, on_error=bugs.append) as wire:
        replies = [await wire.send(GET) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    assert len(bugs) == 2


async def test_a_client_that_does_not_read_is_not_read_from_and_loses_nothing() -> None:
    surface = Plain()
    asked = 2000

    async with wire_to(surface) as wire:
        await wire.write(GET.replace(b"/ ", b"/large ") * asked)
        first = await wire.read()
        answered_by_then = len(surface.requests)
        replies = [first] + [await wire.read() for _ in range(asked - 1)]

    assert answered_by_then < asked
    assert {len(reply.body) for reply in replies} == {20_000}


async def test_the_kernel_may_be_spoken_for_in_a_test() -> None:
    surface = Plain()

    async with wire_to(surface, caller=Caller(uid=4242)) as wire:
        await wire.send(GET)

    assert surface.callers == [Caller(uid=4242)]
