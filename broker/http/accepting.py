"""Take connections from a listening socket, a few in each turn. Admits nobody."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from broker.http.bind import BACKLOG

AT_ONCE = 8
"""Connections taken in one turn of the event loop: a crowd at the door must not hold up who is
inside. asyncio's own server takes as many as the backlog."""

PAUSE_S, FIRST_PAUSE_S = 0.2, 0.001
"""How long nothing is taken after an error. The socket stays ready while descriptors are short:
without a pause the loop would do nothing but fail. The first one is short, since who was told may
have let one go."""


class Accepting:
    """Hands each connection, non-blocking and with its peer's name, to *take*; *failed* is told why
    none can be taken, once in each pause. *listener* stays the caller's to close."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        take: Callable[[socket.socket, Any], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._listener = listener
        self._take = take
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._failed_before = False
        listener.setblocking(False)
        self._go_on()

    def close(self) -> None:
        """Take whoever is at the door already, then nobody."""
        self._loop.remove_reader(self._listener)
        for _ in range(BACKLOG):
            if not self._take_one():
                break
        if self._pause is not None:
            self._pause.cancel()

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._take_some)

    def _take_some(self) -> None:
        for _ in range(AT_ONCE):
            if not self._take_one():
                return

    def _take_one(self) -> bool:
        try:
            sock, peer = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            self._wait(error)
            return False
        self._failed_before = False
        sock.setblocking(False)
        self._take(sock, peer)
        return True

    def _wait(self, error: OSError) -> None:
        if self._pause is None:
            self._loop.remove_reader(self._listener)
            pause_s = PAUSE_S if self._failed_before else FIRST_PAUSE_S
            self._failed_before = True
            self._pause = self._loop.call_later(pause_s, self._go_on)
            self._failed(error)
