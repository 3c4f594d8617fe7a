"""python -m bench.misbehaving UID: open, trickle or flood connections, as that user where it may.

Reads its order, a line of JSON, from standard input; at the next line it prints what became of its
connections.
"""

import argparse
import ctypes
import itertools
import json
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.another import become
from bench.load import Target

Manner = Literal["silent", "slow", "half", "flood", "fresh", "reset"]
"""Sends nothing; a byte at a time and never the last one; all but the last byte; whole requests, as
fast as they are answered; the same, each on a connection of its own; nothing, and resets."""

LIBC = ctypes.CDLL(None)

FIRST_UID = 2_000_000_000
"""Of the users that somebody can be by subordinate uids."""

OPENED_AT_ONCE = 64
TRICKLE_EVERY_S = 0.1
PROBE_S = 0.3
"""How long the served ones have to answer at the end."""

ANSWER = b"HTTP/1.1 "


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do; *target* is a host and a port or a Unix socket's path, *request* is ASCII.

    *pipelined* requests are under way on each connection of a flood at any time. With *uids*, each
    connection is another of so many users, where the kernel lets us.
    """

    manner: Manner
    target: Sequence[str | int] | str
    request: str
    connections: int
    pipelined: int = 8
    uids: int = 0


class Connection:
    """One connection, how much of a request it has sent and what it has heard."""

    __slots__ = ("answers", "is_open", "sent", "sock", "tail")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0
        self.answers = 0
        self.tail = b""
        self.is_open = True


class Misbehaving:
    """Opens its connections and never again; each is used until the other side closes it."""

    def __init__(self, order: Order) -> None:
        self._manner = order.manner
        self._family, self._target = address_of(order.target)
        self._request = order.request.encode()
        self._to_open = order.connections
        self._pipelined = order.pipelined
        self._uids = (
            itertools.cycle(range(FIRST_UID, FIRST_UID + order.uids)) if order.uids else None
        )
        self._resets = 0
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._all: list[Connection] = []
        self._opened_s = 0.0

    def run(self) -> None:
        """Misbehave until there is a line to read."""
        began_at = trickled_at = time.perf_counter()
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        while self._look(0.0 if self._to_open else TRICKLE_EVERY_S / 4):
            if self._manner == "reset":
                self._reset_some()
            elif self._to_open:
                self._open_some()
                self._opened_s = time.perf_counter() - began_at
            if self._manner == "slow" and time.perf_counter() >= trickled_at + TRICKLE_EVERY_S:
                trickled_at = time.perf_counter()
                for connection in list(self._open.values()):
                    self._send(connection, self._next_byte(connection))
        self._epoll.unregister(sys.stdin.fileno())

    def report(self) -> dict[str, float]:
        """Ask on every connection that is open, and return how they ended.

        They answered, now or before (served), are open without a byte (queued), or were closed
        without one (rejected).
        """
        requests = sum(each.answers for each in self._all)
        for connection in list(self._open.values()):
            if self._manner not in ("flood", "fresh"):
                self._send(connection, self._request[connection.sent :])
        until = time.perf_counter() + PROBE_S
        while (left_s := until - time.perf_counter()) > 0:
            self._look(left_s)
        silent = [each for each in self._all if not each.answers]
        return {
            "requests": requests + self._resets,
            "opened_s": self._opened_s,
            "served": len(self._all) - len(silent),
            "queued": sum(each.is_open for each in silent),
            "rejected": sum(not each.is_open for each in silent),
        }

    def _look(self, within_s: float) -> bool:
        """Take what has come; return False when what has come is a line for us."""
        for descriptor, _ in self._epoll.poll(within_s):
            if descriptor == sys.stdin.fileno():
                return False
            self._hear(self._open[descriptor])
        return True

    def _open_some(self) -> None:
        for _ in range(min(self._to_open, OPENED_AT_ONCE)):
            self._to_open -= 1
            self._open_one()

    def _open_one(self) -> None:
        sock = self._socket()
        sock.connect_ex(self._target)  # what is wrong shows when we read
        connection = Connection(sock)
        self._all.append(connection)
        self._open[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        match self._manner:
            case "flood":
                self._send(connection, self._request * self._pipelined)
            case "fresh":
                self._send(connection, self._request)
            case "half":
                self._send(connection, self._request[:-1])

    def _reset_some(self) -> None:
        for _ in range(min(self._to_open, OPENED_AT_ONCE)):
            with self._socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.connect_ex(self._target)
            self._resets += 1

    def _socket(self) -> socket.socket:
        """Return a new socket, of the next of our users where there are several."""
        if self._uids is not None:
            LIBC.setfsuid(next(self._uids))
        return socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def _next_byte(self, connection: Connection) -> bytes:
        at = connection.sent
        return self._request[at : at + 1] if at < len(self._request) - 1 else b""

    def _send(self, connection: Connection, data: bytes) -> None:
        try:
            connection.sent += connection.sock.send(data)
        except BlockingIOError:
            pass  # not connected yet, or not read by the other side
        except OSError:
            self._end(connection)

    def _hear(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._end(connection)
        heard = connection.tail + data
        answers, connection.tail = heard.count(ANSWER), heard[1 - len(ANSWER) :]
        connection.answers += answers
        if self._manner == "flood" and answers:
            self._send(connection, self._request * answers)
        elif self._manner == "fresh" and answers:
            self._end(connection)
            self._open_one()
        return None

    def _end(self, connection: Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            del self._open[connection.sock.fileno()]
            connection.sock.close()


def address_of(target: Sequence[str | int] | str) -> tuple[socket.AddressFamily, Target | str]:
    if isinstance(target, str):
        return socket.AF_UNIX, target
    return socket.AF_INET, Target(str(target[0]), int(target[1]))


def main(uid: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps({"event": "ready", "uid": become(uid)}), flush=True)
    misbehaving = Misbehaving(Order(**json.loads(sys.stdin.readline())))
    misbehaving.run()
    print(json.dumps({"event": "report", **misbehaving.report()}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.misbehaving", description=__doc__)
    parser.add_argument("uid", type=int)
    main(parser.parse_args().uid)
