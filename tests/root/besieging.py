"""Attack, or ask beside an attack, as a user: ``python -m tests.root.besieging UID``.

The order is a line of JSON on standard input: what to do (``act``), where (``host``, ``port``) and
for how long (``within_s``). Whoever visits prints the times it took. Root can be another user on
each connection.
"""

import ctypes
import itertools
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

RESET = struct.pack("ii", 1, 0)
LIBC = ctypes.CDLL(None)
PAUSE_S = 0.002
PATIENCE_S = 10.0
NO_ANSWER_S = 60.0
"""Stands for the time of a visit that failed."""


def until_over(order: dict[str, Any], act: Callable[[], None]) -> None:
    ends_at = time.monotonic() + order["within_s"]
    while time.monotonic() < ends_at:
        act()


def nobody(order: dict[str, Any]) -> None:
    time.sleep(order["within_s"])


def connect_and_reset(order: dict[str, Any]) -> None:
    def one() -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.connect_ex((order["host"], order["port"]))

    until_over(order, one)


def opened(order: dict[str, Any]) -> None:
    """Open connections as fast as may be, send the order's bytes on each, and keep them."""
    kept: list[socket.socket] = []

    def one() -> None:
        if len(kept) == order["connections"]:
            time.sleep(PAUSE_S)
        else:
            kept.append(begun(order, len(kept)))

    until_over(order, one)


def flood(order: dict[str, Any]) -> None:
    """Ask on so many connections, again when answered; where the order says so on a fresh one."""
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    numbers = itertools.count()

    def begin() -> None:
        sock = begun(order, next(numbers))
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)

    def hear() -> None:
        for descriptor, _ in poll.poll(PAUSE_S):
            sock = socks[descriptor]
            if order["is_fresh"] or not asked_again(sock, order):
                del socks[descriptor]
                sock.close()
                begin()

    for _ in range(order["connections"]):
        begin()
    until_over(order, hear)


def begun(order: dict[str, Any], number: int) -> socket.socket:
    """Return a new connection, of the next of the order's users, with the order's bytes sent."""
    first_uid, uids = order["uids"]
    if uids:
        LIBC.setfsuid(first_uid + number % uids)
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((order["host"], order["port"]))
    sent_all(sock, order)
    return sock


def asked_again(sock: socket.socket, order: dict[str, Any]) -> bool:
    """Ask again on a connection that was answered; False if it has ended."""
    try:
        heard = sock.recv(65536)
    except OSError:
        return False
    if b"HTTP/1.1 " in heard:
        sent_all(sock, order)
    return bool(heard)


def sent_all(sock: socket.socket, order: dict[str, Any]) -> None:
    with suppress(OSError):  # not connected yet, or closed by the other side
        sock.send(order["request"].encode())


def visit(order: dict[str, Any]) -> None:
    """Ask IMDS for what an SDK asks that has nothing, each time on a fresh connection."""
    took_s: list[float] = []

    def one() -> None:
        began_at = time.monotonic()
        try:
            with socket.socket() as sock:
                sock.settimeout(PATIENCE_S)
                sock.connect((order["host"], order["port"]))
                token = ask(sock, "PUT", "api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
                header = f"X-aws-ec2-metadata-token: {token}"
                folder = "meta-data/iam/security-credentials/"
                role = ask(sock, "GET", folder, header)
                json.loads(ask(sock, "GET", folder + role, header))
        except (OSError, ValueError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            took_s.append(NO_ANSWER_S)
        else:
            took_s.append(time.monotonic() - began_at)
        time.sleep(PAUSE_S)

    until_over(order, one)
    print(json.dumps({"took_s": sorted(took_s)}), flush=True)


def ask(sock: socket.socket, method: str, path: str, header: str) -> str:
    """Return the body of a good answer.

    Raises:
        ValueError: It is another one.
    """
    sock.sendall(
        f"{method} /latest/{path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode()
    )
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    while len(body) < length:
        body += received(sock)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(head.split(b"\r\n")[0])
    return body.decode()


def received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ValueError("closed without an answer")
    return data


ACTS = {each.__name__: each for each in (nobody, connect_and_reset, opened, flood, visit)}


def main() -> None:
    uid = int(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    print("ready", flush=True)
    order = json.loads(sys.stdin.readline())
    ACTS[order["act"]](order)


if __name__ == "__main__":
    main()
