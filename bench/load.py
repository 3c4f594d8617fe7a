"""Put an HTTP load on a server from one thread, as cheaply as Python can.

Raw non-blocking sockets and epoll, no event loop: the load must cost less than what it measures.
Each client asks again when it has its answer, so there are never more requests under way than
clients.
"""

import re
import resource
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

PATIENCE_S = 20.0
"""After so long without any answer, what is under way has failed."""

FIRST_ANSWER = b"{first-answer}"
"""Stands, in a later request of a visit, for the body of the first one's answer."""

OK = b"HTTP/1.1 200 "
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


class Target(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Visit:
    """Requests that one client makes in order, on one connection."""

    target: Target
    requests: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load measured.

    A visit's latency runs from its first byte out (on a fresh connection: from before the connect)
    to its last byte in.
    """

    latencies_s: Sequence[float] = field(repr=False)
    failed: int
    took_s: float
    client_cpu_s: float


class Client:
    """One connection and where it stands in its visit."""

    __slots__ = ("began_at", "data", "first_answer", "request", "sock")

    def __init__(self, sock: socket.socket, *, began_at: float) -> None:
        self.sock = sock
        self.began_at = began_at
        self.request = 0
        self.first_answer = b""
        self.data = b""


class Driver:
    """Makes the visits and counts. One use."""

    def __init__(self, visit: Visit, *, within_s: float, count: int | None, fresh: bool) -> None:
        self._target = visit.target
        self._requests = visit.requests
        self._fresh = fresh
        self._left = count
        self._until = time.perf_counter() + within_s
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self.latencies_s: list[float] = []
        self.failed = 0

    def run(self, clients: int) -> None:
        with self._epoll:
            for _ in range(clients):
                self._open()
            while self._clients:
                events = self._epoll.poll(PATIENCE_S)
                for descriptor, event in events:
                    self._on(self._clients[descriptor], event)
                if not events:
                    for client in list(self._clients.values()):
                        self._fail(client)

    def _may_begin(self) -> bool:
        """Say whether there is to be another visit, and count it."""
        if time.perf_counter() >= self._until or self._left == 0:
            return False
        if self._left is not None:
            self._left -= 1
        return True

    def _open(self) -> None:
        if not self._may_begin():
            return
        began_at = time.perf_counter()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(sock, began_at=began_at)
        self._clients[sock.fileno()] = client
        sock.connect_ex(self._target)  # what is wrong shows when we write or read
        try:
            sock.send(self._requests[0])
            awaited = select.EPOLLIN
        except BlockingIOError:
            awaited = select.EPOLLOUT
        except OSError:
            awaited = select.EPOLLIN
        self._epoll.register(sock.fileno(), awaited)

    def _on(self, client: Client, event: int) -> None:
        try:
            if event & select.EPOLLOUT:
                client.sock.send(self._requests[0])
                self._epoll.modify(client.sock.fileno(), select.EPOLLIN)
                return None
            data = client.sock.recv(65536)
        except OSError:
            return self._fail(client)
        if not data:
            return self._fail(client)
        client.data += data
        body = body_of(client.data)
        if body is None:
            return None
        if not client.data.startswith(OK):
            return self._fail(client)
        return self._answered(client, body)

    def _answered(self, client: Client, body: bytes) -> None:
        if client.request == 0:
            client.first_answer = body
        client.request += 1
        client.data = b""
        if client.request < len(self._requests):
            return self._ask(client)
        self.latencies_s.append(time.perf_counter() - client.began_at)
        if self._fresh:
            self._close(client)
            return self._open()
        if not self._may_begin():
            return self._close(client)
        client.request = 0
        client.began_at = time.perf_counter()
        return self._ask(client)

    def _ask(self, client: Client) -> None:
        request = self._requests[client.request]
        if client.request:
            request = request.replace(FIRST_ANSWER, client.first_answer)
        try:
            client.sock.send(request)
        except OSError:
            self._fail(client)

    def _fail(self, client: Client) -> None:
        self.failed += 1
        self._close(client)
        self._open()

    def _close(self, client: Client) -> None:
        del self._clients[client.sock.fileno()]
        client.sock.close()


def drive(
    visit: Visit,
    *,
    clients: int,
    within_s: float,
    count: int | None = None,
    fresh: bool = False,
) -> Load:
    """Make *visit* again and again by so many clients at once.

    It ends when *count* have begun or *within_s* seconds have passed; with *fresh*, each is on a
    connection of its own.
    """
    with open_files(clients):
        driver = Driver(visit, within_s=within_s, count=count, fresh=fresh)
        began_at, began_cpu_s = time.perf_counter(), time.process_time()
        driver.run(clients)
        return Load(
            latencies_s=driver.latencies_s,
            failed=driver.failed,
            took_s=time.perf_counter() - began_at,
            client_cpu_s=time.process_time() - began_cpu_s,
        )


def ask(visit: Visit) -> bytes:
    """Make the requests of *visit* once and return the body of the last answer.

    Raises:
        OSError: No answer, or another status than 200.
    """
    body = b""
    with socket.create_connection(visit.target, timeout=PATIENCE_S) as sock:
        for request in visit.requests:
            sock.sendall(request)
            data, answer = b"", None
            while answer is None:
                received = sock.recv(65536)
                if not received:
                    raise ConnectionError("closed before the answer was whole")
                data += received
                answer = body_of(data)
            if not data.startswith(OK):
                raise ConnectionError(f"answered {data[:60]!r}")
            body = answer
    return body


def body_of(data: bytes) -> bytes | None:
    """Return the body of the answer that *data* begins with, None until all of it is there."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    length = LENGTH.search(data, 0, end)
    body = data[end : end + int(length[1])] if length else b""
    return body if not length or len(body) == int(length[1]) else None


@contextmanager
def open_files(needed: int) -> Iterator[None]:
    """Let this process have that many sockets, for the block.

    The servers that it starts at other times keep the limit of the shell.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
