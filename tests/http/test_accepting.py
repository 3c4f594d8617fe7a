"""Accepting connections when there are no descriptors left."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from broker.http.server import ACCEPTED_AT_ONCE, Acceptor
from tests.support.http_callers import until
from tests.support.http_plain import GET
from tests.support.wire import Served

ROOT = Path(__file__).parents[2]


class Short(socket.socket):
    """A listening socket of a process that has no descriptor left, until told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.has_room = False
        self.tries = 0
        self.bind(("127.0.0.1", 0))
        self.listen()

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if not self.has_room:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


async def test_without_descriptors_acceptor_pauses_and_goes_on_by_itself() -> None:
    taken: list[socket.socket] = []
    failures: list[OSError] = []

    with Short() as listener, socket.create_connection(listener.getsockname()):
        acceptor = Acceptor(listener, accept=into(taken), failed=failures.append)
        await until(lambda: listener.tries == 2)  # once more at once, and then after a pause
        for _ in range(200):
            await asyncio.sleep(0)
        tries_by_then = listener.tries
        listener.has_room = True
        await until(lambda: len(taken) == 1)
        acceptor.close()
        taken[0].close()

    assert tries_by_then == 2
    assert [failure.errno for failure in failures] == [errno.EMFILE] * 2


def into(taken: list[socket.socket]) -> Callable[[socket.socket, Any], bool]:
    """Return what accepts every connection into *taken*."""

    def take(sock: socket.socket, _: Any) -> bool:
        taken.append(sock)
        return True

    return take


def clients_of(listener: socket.socket, count: int) -> list[socket.socket]:
    return [socket.create_connection(listener.getsockname()) for _ in range(count)]


async def test_connections_are_taken_a_few_at_once() -> None:
    turns: list[int] = []
    turn = 0

    def take(sock: socket.socket, _: Any) -> bool:
        turns.append(turn)
        sock.close()
        return True

    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients = clients_of(listener, 3 * ACCEPTED_AT_ONCE)
        acceptor = Acceptor(listener, accept=take, failed=lambda _: None)
        async with asyncio.timeout(10):
            while len(turns) < len(clients):
                await asyncio.sleep(0)
                turn += 1
        acceptor.close()
        for client in clients:
            client.close()

    assert max(turns.count(each) for each in turns) == ACCEPTED_AT_ONCE


async def test_connections_whose_clients_have_gone_take_no_live_ones_place() -> None:
    turns: list[int] = []
    turn = 0

    def take(sock: socket.socket, _: Any) -> bool:
        turns.append(turn)
        sock.close()
        return False

    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients = clients_of(listener, 3 * ACCEPTED_AT_ONCE)
        acceptor = Acceptor(listener, accept=take, failed=lambda _: None)
        async with asyncio.timeout(10):
            while len(turns) < len(clients):
                await asyncio.sleep(0)
                turn += 1
        acceptor.close()
        for client in clients:
            client.close()

    assert turns.count(turns[0]) == len(clients)


async def test_who_is_in_the_backlog_when_it_closes_is_accepted() -> None:
    taken: list[socket.socket] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:
        clients = clients_of(listener, 3 * ACCEPTED_AT_ONCE)
        acceptor = Acceptor(listener, accept=into(taken), failed=lambda _: None)
        acceptor.close()
        for each in (*clients, *taken):
            each.close()

    assert len(taken) == len(clients)


@contextmanager
def server_with_few_descriptors() -> Iterator[tuple[Served, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.http.few_descriptors"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield Served("127.0.0.1", int(process.stdout.readline())), process
        finally:
            process.kill()


async def test_a_process_without_descriptors_goes_on_serving_and_reports_it() -> None:
    with server_with_few_descriptors() as (place, process):
        async with AsyncExitStack() as held:
            for _ in range(60):
                await held.enter_async_context(place.wire())
            reply = await place.ask(GET)
        told, noise = process.communicate("\n", timeout=30)

    assert reply.status == 200
    assert "open-files" in told.split()
    assert noise == ""
