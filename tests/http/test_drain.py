"""A server ends without a reset for any client: last answers, then no more connections."""

import asyncio
import socket
from contextlib import AsyncExitStack

from broker.clock import SystemClock
from broker.http.bind import bind
from broker.http.limits import ConnectionLimiter, Limits
from broker.http.server import Server, close_together, serving
from tests.support.http_callers import by_address, until
from tests.support.http_plain import GET, Plain
from tests.support.wire import Served

SLOW = Limits(drain_s=20, quiet_s=20, last_s=20)
"""So long that a test that waited for it would fail."""


async def opened(stack: AsyncExitStack, limits: Limits) -> tuple[Server, Served]:
    listener = bind("127.0.0.1", 0)
    place = Served(*listener.getsockname())
    serves = serving(Plain(), [listener], clock=SystemClock(), limits=limits)
    return await stack.enter_async_context(serves), place


async def test_who_comes_while_others_are_let_go_is_answered_a_last_time() -> None:
    async with AsyncExitStack() as stack:
        server, place = await opened(stack, SLOW)
        slow = await stack.enter_async_context(place.wire())
        await slow.send(GET)
        await slow.write(GET[:-4])
        draining = asyncio.create_task(server.drain())
        await until_closing(place)

        late = await stack.enter_async_context(place.wire())
        reply = await late.send(GET)
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert not draining.done()

        assert (await slow.send(GET[-4:])).header("connection") == "close"
        await draining


async def until_closing(place: Served) -> None:
    """Ask on connection after connection until the answer is the last on it."""
    while True:
        if (await place.ask(GET)).header("connection") == "close":
            return


async def test_a_kept_connection_is_answered_once_more_before_it_ends() -> None:
    async with AsyncExitStack() as stack:
        server, place = await opened(stack, SLOW)
        kept = await stack.enter_async_context(place.wire())
        await kept.send(GET)
        draining = asyncio.create_task(server.drain())
        await until_closing(place)

        reply = await kept.send(GET)
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert await kept.ended() == b""
        await draining


async def test_a_kept_connection_on_which_nothing_comes_is_closed_soon() -> None:
    async with AsyncExitStack() as stack:
        server, place = await opened(stack, Limits(drain_s=20, quiet_s=0.02))
        kept = await stack.enter_async_context(place.wire())
        await kept.send(GET)

        await server.drain()

        assert await kept.ended() == b""


async def test_who_is_in_the_backlog_when_it_closes_is_answered() -> None:
    async with AsyncExitStack() as stack:
        server, place = await opened(stack, SLOW)
        with socket.create_connection((place.host, place.port)) as client:
            client.sendall(GET)  # the loop has not turned since, so nobody has taken it
            await server.close()

            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_of_several_none_stops_accepting_before_all_can() -> None:
    async with AsyncExitStack() as stack:
        slow_server, slow_place = await opened(stack, SLOW)
        server, place = await opened(stack, SLOW)
        slow = await stack.enter_async_context(slow_place.wire())
        await slow.send(GET)
        await slow.write(GET[:-4])
        leaving = asyncio.create_task(close_together([server, slow_server]))
        await until_closing(place)

        for _ in range(20):
            assert (await place.ask(GET)).status == 200
        await slow.send(GET[-4:])
        await leaving

        with socket.socket() as probe:
            assert probe.connect_ex((place.host, place.port)) != 0


async def test_who_waits_for_a_place_gets_it_when_we_leave() -> None:
    limiter = ConnectionLimiter(per_caller=1)
    listener = bind("127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        serves = serving(
            Plain(),
            [listener],
            clock=SystemClock(),
            limits=SLOW,
            limiter=limiter,
            caller_of=by_address,
        )
        server = await stack.enter_async_context(serves)
        place = Served(*listener.getsockname())
        first = await stack.enter_async_context(place.wire())
        await first.send(GET)
        second = await stack.enter_async_context(place.wire())
        await second.write(GET)
        await until(lambda: limiter.queued == 1)

        draining = asyncio.create_task(server.drain())

        assert (await second.read()).header("connection") == "close"
        assert (await first.send(GET)).header("connection") == "close"
        await draining


async def test_nobody_who_asks_again_and_again_is_reset() -> None:
    failures: list[str] = []
    answered = 0

    async def ask_until_refused(place: Served, *, keep: bool) -> None:
        nonlocal answered
        try:
            while True:
                async with place.wire() as wire:
                    last = False
                    while not last:
                        reply = await wire.send(GET)
                        answered += reply.status == 200
                        last = not keep or reply.header("connection") == "close"
        except ConnectionRefusedError:
            return  # our own socket is closed; systemd's would make it wait
        except (OSError, EOFError, AssertionError) as error:
            failures.append(repr(error))

    for _ in range(10):
        async with AsyncExitStack() as stack:
            server, place = await opened(stack, Limits())
            asking = [
                asyncio.create_task(ask_until_refused(place, keep=each % 2 == 0))
                for each in range(8)
            ]
            for _ in range(50):
                await place.ask(GET)
            await server.close()
            await asyncio.gather(*asking)

    assert failures == []
    assert answered > 100
