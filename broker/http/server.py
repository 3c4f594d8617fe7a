"""Serve one surface on its sockets: accept, answer, drain."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from broker.access.caller import Caller
from broker.access.peer import Peers
from broker.clock import Clock
from broker.http.bind import BACKLOG, SEND_BUFFER_BYTES, listen
from broker.http.codec import RequestParser
from broker.http.connection import NO_REQUEST, Connection
from broker.http.limits import DEFAULT_LIMITS, ConnectionLimiter, Limits
from broker.http.message import Answer, Exchange, Request, Surface
from broker.http.remembered import Key, RememberedAnswers

ACCEPTED_AT_ONCE = 32
"""Connections accepted in one turn of the event loop: many new ones must not delay who is there.
asyncio's own server takes as many as the backlog."""

TAKEN_AT_ONCE = 256
"""The same, with those whose clients have gone already: they must not fill the backlog."""

ACCEPT_PAUSE_S, FIRST_ACCEPT_PAUSE_S = 0.2, 0.001
"""How long nothing is accepted after an error. The socket stays ready while descriptors are short:
without a pause the loop would do nothing but fail. The first one is short, since the limiter may
have made room."""

SPARE_PARSERS = 16
"""A parser takes about as much memory as the rest of a connection, so only a request that has begun
has one."""

OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accepting fails with where this process or the host has no more to give."""

MAX_LIMIT_KEYS = 4096

TURNS = 5
"""Turns of the event loop in which it takes what is there already: connections and requests before
a drain, the ends of connections after."""

CallerOf = Callable[[socket.socket, Any], Caller | None]
"""Identifies the other end of an accepted socket, given that and the peer's address."""


def _ignore(_: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """What all servers of one broker share.

    ``on_exchange`` receives every answer, and every connection that was rejected; ``on_error`` an
    exception in a surface, whose client got `nothing_to_serve`.
    """

    clock: Clock
    limiter: ConnectionLimiter
    caller_of: CallerOf
    on_exchange: Callable[[Exchange], None] = _ignore
    on_error: Callable[[BaseException], None] = _ignore


@asynccontextmanager
async def serving(
    surface: Surface,
    sockets: Iterable[socket.socket],
    *,
    clock: Clock,
    limits: Limits = DEFAULT_LIMITS,
    limiter: ConnectionLimiter | None = None,
    caller_of: CallerOf | None = None,
    on_exchange: Callable[[Exchange], None] = _ignore,
    on_error: Callable[[BaseException], None] = _ignore,
) -> AsyncIterator["Server"]:
    """Serve *surface* on *sockets* for the block, by itself: see `serving_in`.

    By default the limits are this server's alone, and the kernel tells who connects.
    """
    with Peers() as peers:
        context = ServerContext(
            clock=clock,
            limiter=limiter
            or ConnectionLimiter(
                connections=limits.connections, per_caller=limits.connections_per_caller
            ),
            caller_of=caller_of or peers.caller_of,
            on_exchange=on_exchange,
            on_error=on_error,
        )
        async with serving_in(context, surface, sockets, limits=limits) as server:
            yield server


@asynccontextmanager
async def serving_in(
    context: ServerContext,
    surface: Surface,
    sockets: Iterable[socket.socket],
    *,
    limits: Limits,
) -> AsyncIterator["Server"]:
    """Serve *surface* on *sockets*, TCP or Unix, bound or listening already, for the block.

    The sockets are ours from here on and closed at the end, when the `Server` closes.

    Raises:
        AddressInUse: Another program listens there since the socket was bound.
    """
    async with AsyncExitStack() as stack:
        listeners = [stack.enter_context(sock) for sock in sockets]
        for listener in listeners:
            # A listener's options pass to the connections it accepts.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listen(listener)
        server = Server(surface, listeners, context=context, limits=limits)
        stack.push_async_callback(server.close)
        yield server


class Server:
    """One surface on its sockets, and how that ends: without a reset for anybody who asks.

    `drain` answers existing connections once more while others are still accepted; `close` then
    stops accepting, and waits only for those accepted in the last moment. Where the socket is
    systemd's too, later clients wait in it for our next process.
    """

    def __init__(
        self,
        surface: Surface,
        listeners: Iterable[socket.socket],
        *,
        context: ServerContext,
        limits: Limits,
    ) -> None:
        self.context = context
        self.limits = limits
        self.exempt_uids = {0, os.geteuid()}
        self.is_draining = False
        self.parsers: list[RequestParser] = []
        """Parsers that no connection uses at present."""
        self.remembered = RememberedAnswers()
        self.limit_keys: dict[Hashable, str] = {}
        self._connections: set[Connection] = set()
        self._a_connection_ended = asyncio.Event()
        self._date = ""
        self._date_at = -1
        self._drained = False
        self.change(surface)
        self._acceptors = [
            Acceptor(listener, accept=self._accept, failed=self._not_accepted)
            for listener in listeners
        ]

    def change(self, surface: Surface, *, limits: Limits | None = None) -> None:
        """Have *surface* answer from the next request on, also on existing connections.

        *limits* replace the present ones where they are given.
        """
        self.surface = surface
        self.sends_continue = getattr(surface, "takes_bodies", True)
        self.forget_answers()
        if limits is not None:
            self.limits = limits

    def forget_answers(self) -> None:
        """Compute every answer anew: a lease, a rule or a token has changed."""
        self.remembered.clear()

    async def drain(self) -> None:
        """Answer existing connections once more, and close them; meanwhile accept others."""
        if not self._drained:
            self._drained = self.is_draining = True
            self.forget_answers()  # the next ones close their connections
            await _turns()
            await self._ended(set(self._connections), within_s=self.limits.drain_s)

    async def close(self) -> None:
        """Drain, accept whoever is in the backlog, and nobody after that."""
        try:
            await self.drain()
        finally:
            for acceptor in self._acceptors:
                acceptor.close()
            self._acceptors.clear()
            await self._end_all()

    async def _end_all(self) -> None:
        try:
            await _turns()
            await self._ended(set(self._connections), within_s=self.limits.last_s)
        finally:
            for connection in list(self._connections):
                connection.end(refused=False)
            await _turns()

    async def _ended(self, connections: set[Connection], *, within_s: float) -> None:
        """Wait until *connections* have ended, at most *within_s*; end those that are quiet."""
        quiet_s, began_at = self.limits.quiet_s, time.monotonic()
        for connection in connections:
            connection.admit()  # nobody has to make room any more
        while connections & self._connections:
            now = time.monotonic()
            if now > began_at + within_s:
                return
            if now > began_at + quiet_s:
                for connection in connections & self._connections:
                    connection.end_when_quiet(since=now - quiet_s)
            self._a_connection_ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(quiet_s / 4):
                    await self._a_connection_ended.wait()

    # Accepting.

    def _accept(self, sock: socket.socket, peer: Any) -> bool:
        """Serve a connection, queue it, or close it without a byte.

        False if its client has gone already, so that there is nobody to answer, count or limit.
        """
        try:
            caller = self.context.caller_of(sock, peer)
        except Exception as error:
            sock.close()
            self.context.on_error(error)
            return True
        if caller is None:
            sock.close()
            return False
        connection = Connection(self, sock, caller)
        self._connections.add(connection)
        match self.context.limiter.enter(connection):
            case "served":
                connection.serve()
            case "queued" if not self.is_draining:
                connection.queue()
            case "queued":
                connection.admit()
            case "rejected":
                connection.end(refused=True)
        return True

    def _not_accepted(self, error: OSError) -> None:
        """Report that no connection can be accepted; for want of descriptors or memory, end one."""
        is_short = error.errno in OUT_OF_ROOM
        if is_short:
            self.context.limiter.make_room()
        self.report_unanswered(Caller(), "open-files" if is_short else "accept")

    # What connections call.

    def limit_key(self, decided_by: Hashable, caller: Caller) -> str:
        """Return whose limits *caller* uses, worked out once for each kind of caller."""
        if len(self.limit_keys) >= MAX_LIMIT_KEYS:
            self.limit_keys.clear()
        key = self.limit_keys[decided_by] = caller.limit_key
        return key

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.context.limiter.leave(connection)
        self._a_connection_ended.set()

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Return the surface's answer, or its "nothing to serve" when it fails."""
        try:
            return self.surface.answer(request, caller, now=now)
        except Exception as error:
            self.context.on_error(error)
            return self.surface.nothing_to_serve()

    def remember(
        self, key: Key, request: Request, answer: Answer, sent: bytes, *, at: datetime, close: bool
    ) -> None:
        if not self.is_draining:
            self.remembered.add(key, request, answer, sent, at=at, close=close)

    def spare(self, parser: RequestParser) -> None:
        """Keep *parser* for another request."""
        if len(self.parsers) < SPARE_PARSERS:
            self.parsers.append(parser)

    def date(self, now: datetime) -> str:
        """Return *now* as the ``Date`` header has it (C-67); made once a second."""
        second = int(now.timestamp())
        if second != self._date_at:
            self._date, self._date_at = format_datetime(now, usegmt=True), second
        return self._date

    def report(self, exchange: Exchange) -> None:
        """Report an answer. Whoever receives that may fail; the client is none the worse for it."""
        try:
            self.context.on_exchange(exchange)
        except Exception as error:
            self.context.on_error(error)

    def report_unanswered(self, caller: Caller, refusal: str) -> None:
        """Report a connection that ends without an answer."""
        exchange = Exchange(
            surface=self.surface.name,
            request=NO_REQUEST,
            caller=caller,
            answer=Answer(status=0, close=True, route="none", refusal=refusal),
            at=self.context.clock.now(),
            took_s=0.0,
        )
        self.report(exchange)


async def close_together(servers: Iterable[Server]) -> None:
    """Close all of *servers*; each accepts connections until every one of them is drained."""
    closing = tuple(servers)
    try:
        await asyncio.gather(*[server.drain() for server in closing])
    finally:
        await asyncio.gather(*[server.close() for server in closing])


class Acceptor:
    """Accepts from one listening socket, a few connections in each turn of the event loop.

    *accept* receives each, non-blocking and with its peer's address, and returns whether its client
    is still there; *failed* why none can be accepted, once in each pause.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        accept: Callable[[socket.socket, Any], bool],
        failed: Callable[[OSError], None],
    ) -> None:
        self._listener = listener
        self._accept = accept
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._failed_before = False
        listener.setblocking(False)
        self._start()

    def close(self) -> None:
        """Accept who is in the backlog already, then close the socket."""
        self._loop.remove_reader(self._listener)
        for _ in range(BACKLOG):
            if self._accept_one() is None:
                break
        if self._pause is not None:
            self._pause.cancel()
        self._listener.close()

    def _start(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept_some)

    def _accept_some(self) -> None:
        """Accept up to `ACCEPTED_AT_ONCE` clients; those that have gone cost next to nothing."""
        accepted = 0
        for _ in range(TAKEN_AT_ONCE):
            is_there = self._accept_one()
            if is_there is None:
                return
            accepted += is_there
            if accepted == ACCEPTED_AT_ONCE:
                return

    def _accept_one(self) -> bool | None:
        """Accept one connection and return whether its client is there; None if there is none."""
        try:
            sock, peer = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionAbortedError:
            return False
        except OSError as error:
            self._wait_after(error)
            return None
        self._failed_before = False
        sock.setblocking(False)
        return self._accept(sock, peer)

    def _wait_after(self, error: OSError) -> None:
        if self._pause is None:
            self._loop.remove_reader(self._listener)
            pause_s = ACCEPT_PAUSE_S if self._failed_before else FIRST_ACCEPT_PAUSE_S
            self._failed_before = True
            self._pause = self._loop.call_later(pause_s, self._start)
            self._failed(error)


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
