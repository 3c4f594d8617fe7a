"""How long a connection lasts, how many there may be, and how the server drains."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import pytest

from broker.access.caller import Caller
from broker.clock import SystemClock
from broker.http.bind import AddressInUse, bind, bind_unix
from broker.http.limits import Limits
from broker.http.message import Answer, Request
from broker.http.server import serving
from tests.support.http_plain import GET, Plain
from tests.support.wire import Served, served, wire_to

HASTY = Limits(header_timeout_s=0.05, idle_timeout_s=0.05)
STRANGER = Caller(uid=os.getuid() + 1, address="127.0.0.1")


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until that is so."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


async def sent_for_ever(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send *data* again and again.

    Raises:
        ConnectionError: The other side hung up.
    """
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)


def test_an_idle_connection_is_kept_for_more_than_a_minute() -> None:
    assert Limits().idle_timeout_s >= 60  # C-4


@pytest.mark.parametrize("sent", [b"", GET])
async def test_an_idle_connection_is_closed_in_the_end(sent: bytes) -> None:
    async with wire_to(Plain(), limits=HASTY) as wire:
        if sent:
            assert (await wire.send(sent)).status == 200
        rest = await wire.ended()

    assert rest == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HT",
        GET[:-2],
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc",
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_a_request_that_does_not_arrive_is_given_up(begun: bytes) -> None:
    surface = Plain()

    async with wire_to(surface, limits=Limits(header_timeout_s=0.05)) as wire:
        await wire.write(begun)
        rest = await wire.ended()

    assert rest == b""
    assert surface.requests == []


async def test_a_byte_now_and_then_does_not_keep_a_request_alive() -> None:
    async with wire_to(Plain(), limits=Limits(header_timeout_s=0.05)) as wire:
        await wire.write(b"GET / HTTP/1.1\r\nX: ")
        ended = asyncio.create_task(wire.ended())
        async with asyncio.timeout(10):
            while not ended.done():
                await asyncio.gather(wire.write(b"a"), return_exceptions=True)
                await asyncio.sleep(0.01)

    assert await ended == b""


async def test_connections_have_no_delay_of_small_packets() -> None:
    seen: list[int] = []

    def look(sock: socket.socket, _: object) -> Caller:
        seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return STRANGER

    listener = bind("127.0.0.1", 0)
    async with serving(Plain(), [listener], clock=SystemClock(), caller_of=look):
        assert (await Served(*listener.getsockname()).ask(GET)).status == 200

    assert seen == [1]


async def test_who_connects_is_asked_before_anything_is_read() -> None:
    asked: list[int] = []

    def look(_: socket.socket, __: object) -> Caller:
        asked.append(1)
        return STRANGER

    listener = bind("127.0.0.1", 0)
    place = Served(*listener.getsockname())
    async with serving(Plain(), [listener], clock=SystemClock(), caller_of=look), place.wire():
        await until(lambda: bool(asked))

    assert asked == [1]


async def test_a_caller_who_cannot_be_asked_about_is_not_served_and_the_error_is_reported() -> None:
    bugs: list[BaseException] = []

    def broken(_: socket.socket, __: object) -> Caller:
        raise RuntimeError("no kernel")

    listener = bind("127.0.0.1", 0)
    async with (
        serving(Plain(), [listener], clock=SystemClock(), caller_of=broken, on_error=bugs.append),
        Served(*listener.getsockname()).wire() as wire,
    ):
        assert await wire.ended() == b""

    assert [str(bug) for bug in bugs] == ["no kernel"]


async def test_leaving_answers_the_request_that_has_begun_and_closes_what_is_idle() -> None:
    surface = Plain()
    leave = asyncio.Event()
    listener = bind("127.0.0.1", 0)
    place = Served(*listener.getsockname())

    async def serve() -> None:
        async with serving(surface, [listener], clock=SystemClock()):
            await leave.wait()

    server = asyncio.create_task(serve())
    await until(lambda: _is_listening(place))
    async with place.wire() as idle, place.wire() as begun:
        await idle.send(GET)
        await begun.send(GET)
        await begun.write(GET[:-4])
        leave.set()
        assert await idle.ended() == b""
        reply = await begun.send(GET[-4:])
        assert await begun.ended() == b""
    await server

    assert (reply.status, reply.header("connection")) == (200, "close")
    with pytest.raises(ConnectionRefusedError):
        await place.ask(GET)


def _is_listening(place: Served) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((place.host, place.port)) == 0


async def test_leaving_does_not_wait_for_ever_for_a_request_that_has_begun() -> None:
    listener = bind("127.0.0.1", 0)
    limits = Limits(drain_s=0.05)

    async with AsyncExitStack() as wires:
        async with serving(Plain(), [listener], clock=SystemClock(), limits=limits):
            wire = await wires.enter_async_context(Served(*listener.getsockname()).wire())
            await wire.send(GET)
            await wire.write(GET[:-4])
        rest = await wire.ended()

    assert rest == b""


async def test_a_client_that_never_reads_is_given_up() -> None:
    surface = Plain()
    asking = GET.replace(b"/ ", b"/large ") * 2000

    async with served(surface, limits=HASTY) as place:
        _unread, writer = await asyncio.open_connection(place.host, place.port, limit=1)
        writer.write(asking)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sent_for_ever(writer, GET), 10)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    assert 0 < len(surface.requests) < 2000


async def test_nothing_more_is_done_for_a_client_that_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = socket.socket()

    class Deserted(Plain):
        """Its client hangs up, answers unread, as the first request is answered."""

        def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return super().answer(request, caller, now=now)

    surface = Deserted()

    async with served(surface) as place:
        client.connect((place.host, place.port))
        client.sendall(GET * 100)
        await until(lambda: len(surface.requests) > 0)

    assert len(surface.requests) == 1
    assert caplog.records == []


async def test_who_goes_on_sending_after_it_was_cut_off_is_hung_up_on() -> None:
    async with wire_to(Plain()) as wire:
        reply = await wire.send(b"this is no HTTP\r\n\r\n")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sent_for_ever(wire.writer, b"x" * 65_536), 10)

    assert reply.status == 400


async def test_a_request_on_its_way_when_we_leave_is_answered() -> None:
    listener = bind("127.0.0.1", 0)

    async with AsyncExitStack() as wires:
        async with serving(Plain(), [listener], clock=SystemClock()):
            wire = await wires.enter_async_context(Served(*listener.getsockname()).wire())
            await wire.write(GET)
        reply = await wire.read()

    assert reply.status == 200


async def test_leaving_by_an_error_closes_everything_too() -> None:
    listener = bind("127.0.0.1", 0)
    place = Served(*listener.getsockname())

    with pytest.raises(RuntimeError, match="elsewhere"):
        async with serving(Plain(), [listener], clock=SystemClock()):
            raise RuntimeError("a failure elsewhere")

    with pytest.raises(ConnectionRefusedError):
        await place.ask(GET)


async def test_a_unix_socket_is_served_with_pid_uid_and_gid_of_who_asks(tmp_path: Path) -> None:
    surface = Plain()
    path = tmp_path / "broker.sock"

    async with serving(surface, [bind_unix(path, mode=0o600)], clock=SystemClock()):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    (caller,) = surface.callers
    assert (caller.pid, caller.uid, caller.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert path.exists()  # removing it is for whoever made it


async def test_who_began_to_listen_since_the_socket_was_bound_is_named() -> None:
    ours = bind("127.0.0.1", 0)
    theirs = bind("127.0.0.1", ours.getsockname()[1])
    theirs.listen()

    with theirs, pytest.raises(AddressInUse, match=rf"pid {os.getpid()}\b"):
        async with serving(Plain(), [ours], clock=SystemClock()):
            pass
