"""Several callers on one machine, told apart by the loopback address they come from."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from broker.access.caller import Caller
from broker.clock import SystemClock
from broker.http.bind import bind
from broker.http.limits import ConnectionLimiter, Limits
from broker.http.message import Exchange, Surface
from broker.http.server import serving
from tests.support.wire import Wire

ALICE, BOB, CAROL = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def by_address(_: socket.socket, peer: tuple[str, int]) -> Caller:
    return Caller(address=peer[0])


class Port:
    """A surface on a free loopback port, to connect to from any loopback address."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "Port":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def wire(self, address: str) -> Wire:
        """Connect from *address*."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(address, 0)
        )
        self._open.push_async_callback(closed, writer)
        return Wire(reader, writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def hang_up(wire: Wire) -> None:
    await closed(wire.writer)


@asynccontextmanager
async def open_port(
    surface: Surface,
    *,
    limiter: ConnectionLimiter,
    limits: Limits | None = None,
    on_exchange: Callable[[Exchange], None] = lambda _: None,
) -> AsyncIterator[Port]:
    """Serve *surface* to callers who are told apart by address, within *limiter*, for the block."""
    listener: socket.socket = bind("127.0.0.1", 0)
    async with (
        serving(
            surface,
            [listener],
            clock=SystemClock(),
            limits=limits or Limits(),
            limiter=limiter,
            on_exchange=on_exchange,
            caller_of=by_address,
        ),
        Port(listener.getsockname()[1]) as opened,
    ):
        yield opened


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until that is so."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)
