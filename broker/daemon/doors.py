"""The open sockets and who answers there; both outlive the configuration that they were opened by.
Makes no surface and binds nothing."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from broker.access.caller import Caller
from broker.clock import Clock
from broker.daemon.errors import explained
from broker.http.limits import Crowd
from broker.http.message import Exchange, Surface
from broker.http.server import Limits, Server, leave, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """What all doors have in common: the crowd, who knows everybody, who hears of everything."""

    clock: Clock
    crowd: Crowd
    who: Callable[[asyncio.BaseTransport], Caller]
    on_exchange: Callable[[Exchange], None]
    on_error: Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class Door:
    """One socket that is served: whose, and the server, which ends with ``closing``."""

    surface: str
    server: Server
    closing: AsyncExitStack


class Doors:
    """Serves each socket by the surface of a name, whichever that is at the time."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._surfaces: dict[str, Surface] = {}
        self._limits = Limits()
        self._open: dict[socket.socket, Door] = {}

    def change(self, surfaces: Mapping[str, Surface], *, limits: Limits) -> None:
        """Have *surfaces* answer from the next request on, also on connections that are there."""
        self._surfaces.update(surfaces)
        self._limits = limits
        for door in self._open.values():
            door.server.change(self._surfaces[door.surface], limits=limits)

    async def open(self, surface: str, sockets: Iterable[socket.socket]) -> None:
        """Serve *sockets*, ours from here on, by the surface of that name. What is open stays so.

        Raises:
            CannotStart: Another program listens there since the socket was bound.
        """
        for sock in sockets:
            if sock not in self._open:
                closing = AsyncExitStack()
                with explained(f"{surface}.listen: "):
                    server = await closing.enter_async_context(self._served(surface, sock))
                self._open[sock] = Door(surface, server, closing)

    async def close(self, sockets: Iterable[socket.socket]) -> None:
        """Close those of *sockets* that are open, all at once: a slow one keeps nobody waiting."""
        doors = [self._open.pop(sock) for sock in tuple(sockets) if sock in self._open]
        await leave([door.server for door in doors])
        for door in doors:
            await door.closing.aclose()

    async def close_all(self) -> None:
        await self.close(self._open)

    def _served(self, surface: str, sock: socket.socket):  # type: ignore[no-untyped-def]
        company = self._company
        return serving(
            self._surfaces[surface],
            [sock],
            clock=company.clock,
            limits=self._limits,
            crowd=company.crowd,
            who=company.who,
            on_exchange=company.on_exchange,
            on_error=company.on_error,
        )
