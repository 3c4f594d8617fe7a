"""The one adapter between HTTP and the surfaces: bytes to Request, Answer to bytes. Knows no rule.

Only aiohttp's parser is used, not its request and response: a surface answers from memory, so an
answer is written within the very call that brought the request's last byte, and nothing here waits
(C-58, C-75, C-76). It also keeps away what C-7, C-9, C-10 and C-11 warn of.
"""

import asyncio
import errno
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any, cast

from aiohttp.http import (
    HttpProcessingError,
    HttpRequestParser,
    HttpVersion11,
    RawRequestMessage,
)
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import StreamReader

from broker.access.caller import Caller
from broker.access.peer import Peers
from broker.clock import Clock
from broker.http.accepting import Accepting
from broker.http.bind import SEND_BUFFER_BYTES, listen
from broker.http.limits import ConnectionLimiter
from broker.http.message import Answer, Exchange, Request, Surface
from broker.http.text import bytes_of, split_target

BODY_BYTES = 64 * 1024
"""No surface reads a body; this much of one is taken and dropped, so that the next request begins
where this one ends (C-5)."""

PIECE_BYTES = 2048
"""How much is read at once; after each piece we look whether the client reads its answers, and
whose turn it is. What we do not take waits in the kernel, which makes the client wait."""

LINGER_S, LINGER_BYTES = 2.0, 1024 * 1024
"""After a request that was cut off: how long and how much more is taken and dropped. Closing with
bytes unread makes the kernel send a reset, which can destroy the answer on its way."""

TURNS = 5
"""Turns of the event loop in which it takes what is there already: connections and requests before
we leave, the ends of connections after."""

UNREAD = Request(method="", path="")
"""Stands for the request where there was none that could be read."""

OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accepting fails with where this process or the host has no more to give."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may take of us.

    A request must arrive whole within ``header_timeout_s`` of its first byte. When we are leaving,
    within ``drain_s``, and a connection that is quiet for ``quiet_s`` is closed; those who come in
    the last moment have ``last_s`` for all of it. A head longer
    than ``header_bytes`` (by up to a piece of what is read) is cut off. How many connections there
    may be, in all and by caller, a `ConnectionLimiter` decides; these numbers make one for a
    surface that is alone.
    """

    header_bytes: int = 16384
    header_timeout_s: float = 5.0
    idle_timeout_s: float = 75.0
    drain_s: float = 3.0
    quiet_s: float = 0.1
    last_s: float = 0.5
    connections: int = 1024
    connections_per_caller: int = 64


CallerOf = Callable[[socket.socket, Any], Caller]
"""Identifies the other end of an accepted socket, given that and the peer's address."""


def _ignore(_: object) -> None: ...


@asynccontextmanager
async def serving(
    surface: Surface,
    sockets: Iterable[socket.socket],
    *,
    clock: Clock,
    limits: Limits = Limits(),
    limiter: ConnectionLimiter | None = None,
    on_exchange: Callable[[Exchange], None] = _ignore,
    on_error: Callable[[BaseException], None] = _ignore,
    caller_of: CallerOf | None = None,
) -> AsyncIterator["Server"]:
    """Serve *surface* on *sockets*, TCP or Unix, bound or listening already, for the block.

    The sockets are ours from here on and closed at the end, when the `Server` closes.

    *limiter* is everybody who is connected to the broker: one object for all its surfaces.

    *on_exchange* receives every answer, and, of each caller once a minute, connections that were
    rejected; *on_error* an exception in a surface, whose client got the surface's
    `nothing_to_serve`. *caller_of* identifies the other end: by default the kernel does, asked when
    the connection is accepted, before anything is read.

    Raises:
        AddressInUse: Another program listens there since the socket was bound.
    """
    async with AsyncExitStack() as leaving:
        desk = Desk(
            surface,
            clock=clock,
            limits=limits,
            limiter=limiter
            or ConnectionLimiter(
                connections=limits.connections, per_caller=limits.connections_per_caller
            ),
            on_exchange=on_exchange,
            on_error=on_error,
            caller_of=caller_of or leaving.enter_context(Peers()).caller_of,
        )
        listeners = [leaving.enter_context(sock) for sock in sockets]
        for listener in listeners:
            # A listener's options pass to the connections it accepts.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listen(listener)
        server = Server(desk, listeners)
        leaving.push_async_callback(server.close)
        yield server


class Server:
    """One surface on its sockets, and how that ends: without a reset for anybody who asks.

    Those who are connected are answered a last time while others still come in; then the door is
    closed, and only who came in the very last moment is waited for. Where the socket is another's
    too (systemd's), who comes after that waits in it for our next process.
    """

    def __init__(self, desk: "Desk", listeners: Iterable[socket.socket]) -> None:
        self._desk = desk
        self._listeners = tuple(listeners)
        self._accepting = [
            Accepting(listener, take=desk.welcome, failed=desk.not_accepted)
            for listener in self._listeners
        ]
        self._is_winding_down = False

    def change(self, surface: Surface, *, limits: Limits | None = None) -> None:
        """Have *surface* answer from the next request on, on the connections that there are too;
        with other *limits*, where they are given."""
        self._desk.change(surface)
        if limits is not None:
            self._desk.limits = limits

    async def wind_down(self) -> None:
        """Answer who is connected now a last time and let them go; meanwhile take others."""
        if not self._is_winding_down:
            self._is_winding_down = True
            await self._desk.let_go()

    async def close(self) -> None:
        """Wind down, take whoever is at the door, and nobody after that."""
        try:
            await self.wind_down()
        finally:
            for accepting in self._accepting:
                accepting.close()
            self._accepting.clear()
            for listener in self._listeners:
                listener.close()
            await self._desk.end()


async def leave(servers: Iterable[Server]) -> None:
    """Close all of *servers*; each takes connections until every one of them can close its door."""
    leaving = tuple(servers)
    try:
        await asyncio.gather(*[server.wind_down() for server in leaving])
    finally:
        await asyncio.gather(*[server.close() for server in leaving])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """What all servers of one broker share."""

    clock: Clock
    limiter: ConnectionLimiter
    caller_of: CallerOf
    on_exchange: Callable[[Exchange], None]
    on_error: Callable[[BaseException], None]


class Desk:
    """What the connections of one surface have in common."""

    def __init__(
        self,
        surface: Surface,
        *,
        clock: Clock,
        limits: Limits,
        limiter: ConnectionLimiter,
        on_exchange: Callable[[Exchange], None],
        on_error: Callable[[BaseException], None],
        caller_of: CallerOf,
    ) -> None:
        self.limits = limits
        self.limiter = limiter
        self.on_error = on_error
        self.exempt = {0, os.geteuid()}
        self.leaving = False
        self.piece = memoryview(bytearray(PIECE_BYTES))
        self.change(surface)
        self._clock = clock
        self._on_exchange = on_exchange
        self._caller_of = caller_of
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()
        self._date = ""
        self._date_at = -1

    def change(self, surface: Surface) -> None:
        self.invites = getattr(surface, "takes_bodies", True)
        self._surface = surface

    def welcome(self, sock: socket.socket, peer: Any) -> None:
        """Give a connection its place, queued or served, or close it without a byte."""
        try:
            caller = self._caller_of(sock, peer)
        except Exception as error:
            sock.close()
            return self.on_error(error)
        connection = Connection(self, sock, caller)
        self._connections.add(connection)
        match self.limiter.enter(connection):
            case "served":
                connection.admit()
            case "queued" if not self.leaving:
                connection.queue()
            case "queued":
                connection.admit()
            case "rejected":
                connection.end(refused=True)
        return None

    def open(self, connection: "Connection", sock: socket.socket) -> None:
        """Begin to read from a connection, unless it has ended by then."""
        task = asyncio.create_task(self._open(connection, sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def leave(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        self.limiter.leave(connection)
        self._gone.set()

    def not_accepted(self, error: OSError) -> None:
        """Tell that no connection can be taken; for want of descriptors or memory, let one go."""
        short = error.errno in OUT_OF_ROOM
        if short:
            self.limiter.make_room()
        if self.limiter.is_news(f"accept: {error.errno}"):
            self.refuse(Caller(), "open-files" if short else "accept")

    def refuse(self, caller: Caller, refusal: str) -> None:
        """Tell of a connection that ends without an answer."""
        answer = Answer(status=0, close=True, route="none", refusal=refusal)
        self.tell(UNREAD, caller, answer, took_s=0.0)

    async def _open(self, connection: "Connection", sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            if not connection.is_ending:
                await loop.connect_accepted_socket(lambda: connection, sock)
        except Exception as error:
            self.on_error(error)
        finally:
            if not connection.is_open:
                sock.close()
                connection.connection_lost(None)

    async def let_go(self) -> None:
        """Let go of everybody who is connected, as soon as they are answered or quiet."""
        self.leaving = True
        await _turns()
        await self._ended(set(self._connections), within_s=self.limits.drain_s)

    async def end(self) -> None:
        """Let go of who is left, and end what does not end by itself."""
        try:
            await _turns()
            await self._ended(set(self._connections), within_s=self.limits.last_s)
        finally:
            for connection in list(self._connections):
                connection.end(refused=False)
            await _turns()

    async def _ended(self, connections: set["Connection"], *, within_s: float) -> None:
        """Wait until *connections* have ended, for so long; end those that are quiet."""
        quiet_s, began_at = self.limits.quiet_s, time.perf_counter()
        for connection in connections:
            connection.admit()  # nobody has to make room any more
        while connections & self._connections:
            now = time.perf_counter()
            if now > began_at + within_s:
                return
            if now > began_at + quiet_s:
                for connection in connections & self._connections:
                    connection.end_when_quiet(since=now - quiet_s)
            self._gone.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(quiet_s / 4):
                    await self._gone.wait()

    def answer(self, request: Request, caller: Caller) -> Answer:
        """Return the surface's answer, or its "nothing to serve" when it fails."""
        try:
            return self._surface.answer(request, caller, now=self._clock.now())
        except Exception as error:
            self.on_error(error)
            return self._surface.nothing_to_serve()

    def unreadable(self, *, too_long: bool) -> Answer:
        return self._surface.head_too_long() if too_long else self._surface.bad_request()

    def date(self) -> str:
        """Return the time as the ``Date`` header has it (C-67); made once a second."""
        now: datetime = self._clock.now()
        second = int(now.timestamp())
        if second != self._date_at:
            self._date, self._date_at = format_datetime(now, usegmt=True), second
        return self._date

    def tell(self, request: Request, caller: Caller, answer: Answer, *, took_s: float) -> None:
        """Tell of an answer. Whoever listens may fail; the client is none the worse for it."""
        exchange = Exchange(
            surface=self._surface.name,
            request=request,
            caller=caller,
            answer=answer,
            took_s=took_s,
        )
        try:
            self._on_exchange(exchange)
        except Exception as error:
            self.on_error(error)


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Connection(asyncio.BufferedProtocol):
    """One client's connection. Requests are answered in order, each as its last byte arrives and
    its caller's turn comes."""

    __slots__ = (
        "_answered",
        "_arriving",
        "_at_end",
        "_body",
        "_caller",
        "_deadline",
        "_desk",
        "_dropped",
        "_head_bytes",
        "_loop",
        "_parser",
        "_reading_paused",
        "_received_at",
        "_sock",
        "_timer",
        "_transport",
        "_unparsed",
        "_waits_for_turn",
        "_write_blocked",
        "counted_as",
        "is_ending",
        "is_exempt",
        "is_open",
        "served_at",
    )

    def __init__(self, desk: Desk, sock: socket.socket, caller: Caller) -> None:
        self.counted_as = caller.limit_key
        self.is_exempt = caller.uid in desk.exempt
        self.is_open = False  # there is a transport
        self.is_ending = False  # whatever still comes is dropped
        self.served_at = time.perf_counter()
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._caller = caller
        self._sock: socket.socket | None = sock  # None when it is no longer ours to close
        self._transport: asyncio.Transport
        self._parser: HttpRequestParser
        self._body: tuple[RawRequestMessage, StreamReader] | None = None
        self._answered = False
        self._arriving = False  # part of a request is there, and the clock runs for the rest
        self._at_end = False  # nothing more comes
        self._head_bytes = 0
        self._dropped = 0
        self._unparsed = b""
        self._waits_for_turn = False
        self._write_blocked = False
        self._reading_paused = False  # the name is the parser's: the body is too long
        self._received_at = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # What the desk and the limiter call.

    @property
    def is_idle(self) -> bool:
        return (
            self._answered
            and not self._arriving
            and not self._unparsed
            and not self._transport.get_write_buffer_size()
        )

    def queue(self) -> None:
        """Wait to be admitted, for as long as an idle connection may. Nothing is read, so nothing
        is known of the client, not even whether it is still there."""
        self._expect_within(self._desk.limits.idle_timeout_s)

    def admit(self) -> None:
        if self._sock is not None:
            self.served_at = time.perf_counter()
            sock, self._sock = self._sock, None
            self._desk.open(self, sock)

    def end_when_quiet(self, *, since: float) -> None:
        """Close, unless part of a request is here, or came to be answered after *since*."""
        begun = self._arriving or self._unparsed or self.is_ending
        if self.is_open and not begun and self.served_at <= since and not self._has_come():
            self._close()

    def end(self, *, refused: bool) -> None:
        """End without another byte."""
        self.is_ending = True
        if refused and self._desk.limiter.is_news(self.counted_as):
            self._desk.refuse(self._caller, "connections")
        if self.is_open:
            self._transport.abort()
        elif self._sock is not None:
            self._sock.close()
            self._sock = None
            self.connection_lost(None)

    # What asyncio calls. An exception that left one of these would be logged with what the client
    # sent, so none does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True
        try:
            if self.is_ending:
                return self._transport.abort()
            self._parser = _parser(self, self._loop, self._desk.limits.header_bytes)
            self._expect_within(self._desk.limits.idle_timeout_s)
        except Exception as error:
            self._failed(error)
        return None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what has come; `buffer_updated` follows at once, so that one buffer
        does for all."""
        return self._desk.piece

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self.is_ending:
                self._drop(nbytes)
            elif self._unparsed:
                # One piece waits already, and one is here: the rest waits in the kernel.
                self._unparsed += self._desk.piece[:nbytes]
                self._transport.pause_reading()
            else:
                self._received_at = time.perf_counter()
                self._unparsed = bytes(self._desk.piece[:nbytes])
                self._go_on()
        except Exception as error:
            self._failed(error)

    def eof_received(self) -> bool:
        """Close, unless something waits for its turn still."""
        self._at_end = True
        return bool(self._unparsed)

    def pause_writing(self) -> None:
        """The client asks faster than it reads: take no more until it has read."""
        self._write_blocked = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._write_blocked = False
        try:
            self._go_on()
        except Exception as error:
            self._failed(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._desk.leave(self)

    # What the parser calls: a body has outgrown its buffer; a body has ended.

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Nothing: a body that was too long is not forgiven for ending."""

    # Reading.

    def _go_on(self) -> None:
        """Take what is here, if the client reads its answers and it is its caller's turn."""
        if self._write_blocked or self._waits_for_turn or self.is_ending:
            return
        if not self._unparsed:
            self._transport.resume_reading()
        elif self._desk.limiter.turns.may_go_on(self.counted_as):
            self._read()
        else:
            self._waits_for_turn = True
            self._desk.limiter.turns.wait(self.counted_as, self._in_turn)

    def _in_turn(self) -> None:
        self._waits_for_turn = False
        try:
            if not self._write_blocked and not self.is_ending:
                self._read()
        except Exception as error:
            self._failed(error)

    def _read(self) -> None:
        piece, self._unparsed = self._unparsed, b""
        self._parse(piece)
        if not self.is_ending:
            self._watch()
            if self._at_end:
                self._close()
            elif not self._write_blocked:
                self._transport.resume_reading()

    def _parse(self, piece: bytes) -> None:
        try:
            requests, upgrade, _ = self._parser.feed_data(piece)
        except LineTooLong:
            self._desk.limiter.turns.spend(self.counted_as, requests=1)
            return self._cut_off(too_long=True)
        except (HttpProcessingError, ValueError):  # ValueError: the URL that the parser makes
            self._desk.limiter.turns.spend(self.counted_as, requests=1)
            return self._cut_off()
        self._desk.limiter.turns.spend(self.counted_as, requests=len(requests))
        if not requests and self._body is None:
            self._head_bytes += len(piece)
            if self._head_bytes > self._desk.limits.header_bytes:
                self._cut_off(too_long=True)
            return None
        self._head_bytes = 0
        begun, self._body = self._body, None
        for request in requests if begun is None else [begun, *requests]:
            self._take(request, upgrade=upgrade)
            if self.is_ending:
                return None
        if self._body is not None and self._body is not begun:
            self._invite(*self._body)
        return None

    def _take(self, request: tuple[RawRequestMessage, StreamReader], *, upgrade: bool) -> None:
        message, body = request
        if self._reading_paused:
            self._cut_off()
        elif body.is_eof():
            self._answer(message, end=upgrade)
        else:
            self._body = request

    def _invite(self, message: RawRequestMessage, body: StreamReader) -> None:
        """Let a client that waits for it send its body, which is read to its end (C-5)."""
        if _promised(message) > BODY_BYTES:
            self._cut_off()
        elif self._desk.invites and _waits_for_continue(message) and not body.total_bytes:
            self._transport.write(CONTINUE)

    def _cut_off(self, *, too_long: bool = False) -> None:
        """Answer what cannot be read or is too much, and close. A head that is *too_long* may hold
        an over-long session token, which is a bad one, not a bad request (C-34)."""
        self.is_ending = True
        self._write(UNREAD, self._desk.unreadable(too_long=too_long), end=True)
        try:
            self._transport.write_eof()
        except OSError:  # the client has gone
            return self.end(refused=False)
        return self._expect_within(LINGER_S)

    def _drop(self, count: int) -> None:
        self._dropped += count
        if self._dropped > LINGER_BYTES:
            self._transport.abort()

    # Answering.

    def _answer(self, message: RawRequestMessage, *, end: bool) -> None:
        self._arriving = False
        self._answered, self.served_at = True, self._received_at
        request = request_from(message)
        answer = self._desk.answer(request, self._caller)
        end = end or message.should_close or self._desk.leaving
        self._write(request, answer, end=end)
        # Who has gone reads no more answers, however many requests of his are here already.
        if end or answer.close or self._transport.is_closing():
            self._close()

    def _write(self, request: Request, answer: Answer, *, end: bool) -> None:
        if not answer.close:
            self._transport.write(bytes_of(request, answer, date=self._desk.date(), end=end))
        took_s = time.perf_counter() - self._received_at
        self._desk.tell(request, self._caller, answer, took_s=took_s)

    def _close(self) -> None:
        self.is_ending = True
        self._transport.close()

    def _failed(self, error: Exception) -> None:
        self.end(refused=False)
        self._desk.on_error(error)

    def _has_come(self) -> bool:
        """Say whether the kernel has something for us: closing then would reset the connection."""
        sock = self._transport.get_extra_info("socket")
        count = fcntl.ioctl(sock.fileno(), termios.FIONREAD, struct.pack("i", 0))
        return any(count)

    # Time.

    def _watch(self) -> None:
        """Give a request that has begun a short time to arrive, an idle connection a long one."""
        arriving = self._head_bytes > 0 or self._body is not None
        if arriving and not self._arriving:
            self._expect_within(self._desk.limits.header_timeout_s)
        elif not arriving:
            self._expect_within(self._desk.limits.idle_timeout_s)
        self._arriving = arriving

    def _expect_within(self, seconds: float) -> None:
        """Move the deadline. The timer is left alone when it is due before that: it looks again."""
        self._deadline = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() <= self._deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._due)
        elif not self.is_open:
            self.end(refused=True)
        elif self.is_ending or self._transport.get_write_buffer_size():
            self.end(refused=False)
        else:
            self._close()


def _parser(
    connection: Connection, loop: asyncio.AbstractEventLoop, header_bytes: int
) -> HttpRequestParser:
    return HttpRequestParser(
        # Of a protocol, it only needs what a body's buffer calls when it is full.
        cast(Any, connection),
        loop,
        BODY_BYTES // 2,  # full at twice that
        max_line_size=header_bytes,
        max_field_size=header_bytes,
        auto_decompress=False,
    )


def request_from(message: RawRequestMessage) -> Request:
    """Return what a surface sees. Nothing is made of ``Host`` and no URL is built (C-7).

    Header values are the very bytes, one character each; the path is UTF-8 after its
    percent-decoding, with U+FFFD for what is not.
    """
    path, query = split_target(message.path)
    return Request(
        method=message.method,
        path=path,
        query=query,
        headers=tuple(
            [
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in message.raw_headers
            ]
        ),
        http_version=(message.version.major, message.version.minor),
    )


def _promised(message: RawRequestMessage) -> int:
    """Return how long the body says it is, 0 if it does not. The parser has checked the digits."""
    return int(message.headers.get("Content-Length", "0"))


def _waits_for_continue(message: RawRequestMessage) -> bool:
    return (
        message.version == HttpVersion11
        and message.headers.get("Expect", "").lower() == "100-continue"
    )
