"""Raw sockets to a surface: the exact bytes out and in."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker.access.caller import Caller
from broker.clock import Clock, SystemClock
from broker.http.bind import bind
from broker.http.limits import Limits
from broker.http.message import Exchange, Surface
from broker.http.server import serving

PATIENCE_S = 10
"""How long an answer may take before the test fails."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer as it came: headers in order, names and values as the bytes were."""

    status: int
    reason: str
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    head: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """Return the only header of that name, in any case; None when there is none."""
        found = self.all(name)
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]


class Wire:
    """One client connection, used as often as the test likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @property
    def local(self) -> tuple[str, int]:
        """The client's own address and port."""
        address = self.writer.get_extra_info("sockname")
        return address[0], address[1]

    async def send(self, request: bytes) -> Reply:
        """Write *request*, read the one answer to it (`write` and `read` when it takes more)."""
        await self.write(request)
        return await self.read(to_head=request.startswith(b"HEAD "))

    async def write(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def read(self, *, to_head: bool = False) -> Reply:
        """Read the next answer, an interim one (1xx) too; *to_head*: it has no body.

        Raises:
            asyncio.IncompleteReadError: The connection ended before that.
        """
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            version, status, reason = first.decode("latin-1").split(" ", 2)
            headers = [_split(line) for line in lines]
            body = b"" if to_head else await self._body(int(status), headers)
        return Reply(
            status=int(status),
            reason=reason,
            version=version,
            headers=headers,
            body=body,
            head=head,
        )

    async def ended(self) -> bytes:
        """Wait until the other side closes; return what came before that."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def _body(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        if status < 200 or status in (204, 304):
            return b""
        names = {key.lower(): value for key, value in headers}
        assert b"transfer-encoding" not in names, "simple clients read no chunks (C-47)"
        return await self._reader.readexactly(int(names[b"content-length"]))


def _split(line: bytes) -> tuple[bytes, bytes]:
    key, colon, value = line.partition(b": ")
    assert colon, f"no header: {line!r}"
    return key, value


@dataclass(frozen=True)
class Served:
    """A surface on a free loopback port."""

    host: str
    port: int

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        """Open one more connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def ask(self, request: bytes) -> Reply:
        """Send *request* on a connection of its own."""
        async with self.wire() as wire:
            return await wire.send(request)


def _tell_nobody(_: Exchange) -> None: ...


@asynccontextmanager
async def served(
    surface: Surface,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    on_exchange: Callable[[Exchange], None] = _tell_nobody,
    on_error: Callable[[BaseException], None] | None = None,
    caller: Caller | None = None,
) -> AsyncIterator[Served]:
    """Serve *surface* on a free port of *host* for the block.

    The caller is who the kernel says (the test's own uid), unless *caller* says otherwise. A
    surface that fails fails the test, unless *on_error* takes the error.
    """
    errors: list[BaseException] = []
    listener: socket.socket = bind(host, 0)
    async with serving(
        surface,
        [listener],
        clock=clock or SystemClock(),
        limits=limits or Limits(),
        on_exchange=on_exchange,
        caller_of=None if caller is None else lambda _, __: caller,
        on_error=on_error or errors.append,
    ):
        yield Served(host, listener.getsockname()[1])
    if errors:
        raise errors[0]


@asynccontextmanager
async def wire_to(
    surface: Surface,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    on_exchange: Callable[[Exchange], None] = _tell_nobody,
    on_error: Callable[[BaseException], None] | None = None,
    caller: Caller | None = None,
) -> AsyncIterator[Wire]:
    """Serve *surface* and open one connection to it, for the block."""
    async with (
        served(
            surface,
            clock=clock,
            limits=limits,
            host=host,
            on_exchange=on_exchange,
            on_error=on_error,
            caller=caller,
        ) as place,
        place.wire() as wire,
    ):
        yield wire
