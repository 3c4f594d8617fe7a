"""Serve one client's connection: read requests and write answers, in order, within its limits."""

import asyncio
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from broker.access.caller import Caller
from broker.clock import within
from broker.http.codec import CONTINUE, BadRequest, HeadTooLong, RequestParser, response_bytes
from broker.http.message import Answer, Exchange, Pending, Request
from broker.http.remembered import Key, Remembered

if TYPE_CHECKING:
    from broker.http.server import Server

PIECE_BYTES = 2048
"""How much is read at once. What is not taken waits in the kernel, which makes the client wait."""

HEAD_END = b"\r\n\r\n"

LINGER_S, LINGER_BYTES = 2.0, 1024 * 1024
"""After a request that was cut off: how long and how much more is read and dropped. Closing with
bytes unread makes the kernel send a reset, which can destroy the answer on its way."""

NO_REQUEST = Request(method="", path="")
"""Stands for the request where none could be read."""


class State(Enum):
    """What a connection does with its socket."""

    QUEUED = auto()
    """Nothing: it is over its caller's limit."""
    OPEN = auto()
    """Reads requests and answers them."""
    WAITING = auto()
    """Holds bytes that it has read, until its caller's next turn."""
    PENDING = auto()
    """Waits for an attempt to obtain the lease that its request asks for."""
    BLOCKED = auto()
    """Sends: the client asks faster than it reads its answers."""
    CLOSING = auto()
    """Sends what is left of the last answer."""
    LINGERING = auto()
    """Drops what still arrives after a request that was cut off."""
    CLOSED = auto()


ENDING = frozenset({State.CLOSING, State.LINGERING, State.CLOSED})


class Connection:
    """An accepted connection; its socket is non-blocking, and its own to close.

    Bytes are taken up to the end of one head at a time, and each piece uses a part of its caller's
    share: one segment with fifty requests delays others no more than fifty segments.
    """

    __slots__ = (
        "_answered",
        "_caller",
        "_deadline",
        "_decided_by",
        "_dropped",
        "_is_arriving",
        "_is_reading",
        "_loop",
        "_parser",
        "_pending",
        "_received_at",
        "_refuse",
        "_server",
        "_sock",
        "_state",
        "_timer",
        "_unread",
        "_unsent",
        "is_exempt",
        "limit_key",
        "served_at",
    )

    def __init__(self, server: "Server", sock: socket.socket, caller: Caller) -> None:
        self._decided_by = (
            *(caller.uid, caller.unit, caller.user_unit, caller.container, caller.is_located),
            *(caller.address, caller.is_remote, caller.delegated_by, caller.is_ungranted),
        )
        """What rules, surfaces and limits may decide by, apart from the process and the token."""
        known = server.limit_keys.get(self._decided_by)
        self.limit_key = known or server.limit_key(self._decided_by, caller)
        self.is_exempt = caller.uid in server.exempt_uids
        self.served_at = self._received_at = time.monotonic()
        self._server = server
        self._sock = sock
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._state = State.QUEUED
        self._parser: RequestParser | None = None  # there while part of a request is
        self._pending: asyncio.Task[None] | None = None
        self._refuse: Callable[[], Answer] | None = None  # for what follows the parsed requests
        self._unread = b""
        self._unsent = b""
        self._is_reading = False
        self._answered = False
        self._is_arriving = False  # the deadline is for the rest of a request
        self._dropped = 0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # What the server and the limiter call.

    @property
    def is_idle(self) -> bool:
        is_waiting = self._state is State.OPEN and self._answered and not self._is_arriving
        return is_waiting and not _has_input(self._sock)

    @property
    def _makes_way(self) -> bool:
        """Close with the next answer, which says so.

        One that is ended while it is idle is an error for a client that asks at that moment.
        """
        if not self._server.context.limiter.is_crowded(self) or self._unread:
            return False
        return not (self._parser and self._parser.requests) and not _has_input(self._sock)

    def queue(self) -> None:
        """Wait to be admitted, for as long as an idle connection may.

        Nothing is read, so nothing is known of the client, not even whether it is still there.
        """
        if self._state is State.QUEUED:
            self._expect_within(self._server.limits.idle_timeout_s)

    def admit(self) -> None:
        """Begin to read, if it was queued."""
        if self._state is State.QUEUED:
            self._state = State.OPEN
            self.served_at = time.monotonic()
            self._watch()

    def serve(self) -> None:
        """Begin to read, at once what may be here already."""
        if self._state is State.QUEUED:
            self._state = State.OPEN
            self._on_readable()
            if self._state is State.OPEN and self._timer is None:
                self._watch()

    def end_when_quiet(self, *, since: float) -> None:
        """Close, unless part of a request is here, or one was answered after *since*."""
        is_quiet = self._state is State.OPEN and not self._is_arriving and self.served_at <= since
        if is_quiet and not _has_input(self._sock):
            self.end(refused=False)

    def end(self, *, refused: bool) -> None:
        """Close without another byte."""
        if self._state is State.CLOSED:
            return
        if refused:
            self._server.report_unanswered(self._caller, "connections")
        self._stop_reading()
        if self._unsent:
            self._loop.remove_writer(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        if self._pending is not None:
            self._pending.cancel()
        self._state = State.CLOSED
        self._unread = self._unsent = b""
        self._parser = None
        self._sock.close()
        self._server.forget(self)

    # Reading.

    def _on_readable(self) -> None:
        try:
            piece = self._sock.recv(PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:  # the client has gone
            return self.end(refused=False)
        if self._state is State.LINGERING:
            return self._drop(piece)
        if not piece:
            return self.end(refused=False)
        self._received_at = time.monotonic()
        self._unread = piece
        try:
            self._proceed()
        except Exception as error:
            self._fail(error)
        return None

    def _fail(self, error: Exception) -> None:
        """End on a bug. The event loop would log the exception together with what a client sent."""
        self.end(refused=False)
        self._server.context.on_error(error)

    def _proceed(self) -> None:
        """Take what is here, as far as the client reads its answers and its caller's share goes."""
        turns = self._server.context.limiter.turns
        while self._unread and self._state is State.OPEN:
            if turns.take(self.limit_key):
                self._take()
            else:
                self._state = State.WAITING
                turns.wait(self.limit_key, self._resume)
        if self._state is State.OPEN:
            self._watch()
        elif self._state is not State.LINGERING:
            self._stop_reading()

    def _resume(self) -> None:
        """Go on in the caller's next turn, of which one request's part is this connection's."""
        if self._state is State.WAITING:
            self._state = State.OPEN
            try:
                self._take()
                self._proceed()
            except Exception as error:
                self._fail(error)

    def _take(self) -> None:
        """Answer what is complete up to the end of one head."""
        end = self._unread.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END):
            end = len(self._unread)
        piece, self._unread = self._unread[:end], self._unread[end:]
        server = self._server
        now = server.context.clock.now()
        if self._parser is not None:
            self._parse(self._parser, piece, now=now, key=None)
            return
        key = ((self._decided_by, self._makes_way), piece)
        remembered = server.remembered.get(key)
        if remembered is not None and remembered.since <= now < remembered.until:
            self._answer_again(remembered, now=now)
        else:
            self._parser = server.parsers.pop() if server.parsers else RequestParser()
            self._parse(self._parser, piece, now=now, key=key)

    def _parse(
        self, parser: RequestParser, piece: bytes, *, now: datetime, key: Key | None
    ) -> None:
        """Answer the requests that *piece* completes; *key* is for one that is all of it."""
        try:
            parser.feed(piece, header_bytes=self._server.limits.header_bytes)
        except BadRequest:
            self._refuse = self._server.surface.bad_request
        except HeadTooLong:
            self._refuse = self._server.surface.head_too_long
        if len(parser.requests) != 1 or not parser.is_between_requests:
            key = None
        self._answer_parsed(parser, now=now, key=key)

    def _answer_parsed(self, parser: RequestParser, *, now: datetime, key: Key | None) -> None:
        server = self._server
        while parser.requests:
            request, is_kept = parser.requests.pop(0)
            self._answer(request, close=not is_kept, now=now, key=key)
            if self._state in ENDING or self._state is State.PENDING:
                return
        if self._refuse is not None:
            self._cut_off(self._refuse(), now=now)
        elif parser.is_between_requests:
            self._parser = None
            server.spare(parser)
        elif parser.expects_continue and server.sends_continue and not self._unread:
            parser.expects_continue = False
            self._send(CONTINUE)

    def _drop(self, piece: bytes) -> None:
        self._dropped += len(piece)
        if not piece or self._dropped > LINGER_BYTES:
            self.end(refused=False)

    def _read_when_ready(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._sock, self._on_readable)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock)

    # Answering.

    def _answer(self, request: Request, *, close: bool, now: datetime, key: Key | None) -> None:
        """Answer *request*, whose bytes are *key*'s if it came alone and whole."""
        self._is_arriving = False
        self._answered, self.served_at = True, self._received_at
        answer = self._server.answer(request, self._caller, now=now)
        if answer.pending is None:
            self._finish(request, answer, close=close, now=now, key=key)
        else:
            self._state = State.PENDING
            self._expect_within(self._server.limits.idle_timeout_s)
            waiting = self._answer_later(request, answer.pending, close=close)
            self._pending = self._loop.create_task(waiting)

    async def _answer_later(self, request: Request, pending: Pending, *, close: bool) -> None:
        """Answer once the attempt under way has ended, or as things are after its time."""
        clock = self._server.context.clock
        try:
            with suppress(TimeoutError):
                await within(pending.within_s, pending.attempt(), clock=clock)
            self._pending = None
            if self._state is State.PENDING:
                self._state, now = State.OPEN, clock.now()
                answer = self._server.answer(request, self._caller, now=now)
                self._finish(request, answer, close=close, now=now, key=None)
                if self._state not in ENDING and self._parser is not None:
                    self._answer_parsed(self._parser, now=now, key=None)
                self._proceed()
        except Exception as error:
            self._fail(error)

    def _finish(
        self, request: Request, answer: Answer, *, close: bool, now: datetime, key: Key | None
    ) -> None:
        close = close or answer.close or self._server.is_draining or self._makes_way
        sent = self._write(request, answer, close=close, now=now)
        if key is not None and answer.unchanged_until is not None:
            self._server.remember(key, request, answer, sent, at=now, close=close)
        if close:
            self._close()

    def _answer_again(self, remembered: Remembered, *, now: datetime) -> None:
        self._send(remembered.sent)
        self._report(remembered.request, remembered.answer, now=now)
        self._answered, self.served_at = True, self._received_at
        if remembered.close:
            self._close()

    def _write(self, request: Request, answer: Answer, *, close: bool, now: datetime) -> bytes:
        sent = b""
        if not answer.close:
            date = self._server.date(now)
            sent = response_bytes(request, answer, date=date, close=close)
            self._send(sent)
        self._report(request, answer, now=now)
        return sent

    def _report(self, request: Request, answer: Answer, *, now: datetime) -> None:
        exchange = Exchange(
            surface=self._server.surface.name,
            request=request,
            caller=self._caller,
            answer=answer,
            at=now,
            took_s=time.monotonic() - self._received_at,
        )
        self._server.report(exchange)

    def _cut_off(self, answer: Answer, *, now: datetime) -> None:
        """Answer what cannot be read or is too much, and read no more requests."""
        self._unread = b""
        self._parser = None
        self._write(NO_REQUEST, answer, close=True, now=now)
        if answer.close:
            self._close()
        if self._state in ENDING:
            return
        self._state = State.LINGERING
        self._expect_within(LINGER_S)
        if not self._unsent:
            self._end_output()

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return None
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # the client has gone, and reads no answer any more
            return self.end(refused=False)
        if sent < len(data):
            self._unsent = data[sent:]
            if self._state is State.OPEN:
                self._state = State.BLOCKED
            if self._timer is None:
                self._expect_within(self._server.limits.idle_timeout_s)
            self._loop.add_writer(self._sock, self._on_writable)
        return None

    def _on_writable(self) -> None:
        data, self._unsent = self._unsent, b""
        self._loop.remove_writer(self._sock)
        self._send(data)
        if self._unsent:
            return
        match self._state:
            case State.BLOCKED:
                self._state = State.OPEN
                try:
                    self._proceed()
                except Exception as error:
                    self._fail(error)
            case State.CLOSING:
                self.end(refused=False)
            case State.LINGERING:
                self._end_output()

    def _end_output(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client has gone
            return self.end(refused=False)
        return self._read_when_ready()

    def _close(self) -> None:
        """Close, as soon as every answer is sent."""
        if self._unsent:
            self._state = State.CLOSING
        else:
            self.end(refused=False)

    # Time.

    def _watch(self) -> None:
        """Give a request that has begun a short time to arrive, an idle connection a long one."""
        is_arriving = self._parser is not None
        if not is_arriving:
            self._expect_within(self._server.limits.idle_timeout_s)
        elif not self._is_arriving:
            self._expect_within(self._server.limits.header_timeout_s)
        self._is_arriving = is_arriving
        self._read_when_ready()

    def _expect_within(self, seconds: float) -> None:
        """Move the deadline. A timer that is due before it is left alone: it looks again."""
        self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_time)
        else:
            self.end(refused=self._state is State.QUEUED)


def _has_input(sock: socket.socket) -> bool:
    """Say whether the kernel holds bytes for us: closing then would reset the connection."""
    return any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, struct.pack("i", 0)))
