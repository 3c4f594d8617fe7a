"""Write lines in a thread, so that a stuck reader or disk never holds up who logs them."""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TextIO

MAX_WAITING = 2000
"""Lines that wait to be written: about a megabyte."""

FLUSH_S = 1.0
"""How long closing waits for lines that are not written yet."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """Stands in the queue for lines that are missing there."""

    lines: int


class LineWriter:
    """Writes lines in their order; what comes while its queue is full is dropped and counted.

    Where lines are missing, the one that *gap* returns for their number stands for them.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        gap: Callable[[int], str],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Start nothing: the thread starts with the first line."""
        self.dropped = 0
        """Lines that were not written, since the start."""
        self._write = write
        self._gap = gap
        self._max_waiting = max_waiting
        self._waiting: deque[str | _Gap] = deque()
        self._missing = 0  # dropped, and no gap in the queue stands for them
        self._changed = Condition()
        self._is_closing = False
        self._thread: Thread | None = None

    def put(self, line: str) -> None:
        """Write *line* later; never waits for it."""
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                self.dropped += 1
                self._missing += 1
                return
            self._mark_gap()
            self._waiting.append(line)
            if self._thread is None:
                # A daemon thread: a write that never ends must not keep the process from leaving.
                self._thread = Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, *, within_s: float = FLUSH_S) -> None:
        """Write what waits, for at most so long."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(within_s)

    def _mark_gap(self) -> None:
        if self._missing:
            self._waiting.append(_Gap(self._missing))
            self._missing = 0

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._write(self._gap(item.lines) if isinstance(item, _Gap) else item)
            except (OSError, ValueError):  # ValueError: it was closed
                self._count_unwritten(item)
            else:
                with self._changed:
                    if not self._waiting:
                        self._mark_gap()

    def _next(self) -> str | _Gap | None:
        """Wait for the next item; None when closing and all are written."""
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None

    def _count_unwritten(self, item: str | _Gap) -> None:
        with self._changed:
            if isinstance(item, _Gap):
                self._missing += item.lines
            else:
                self.dropped += 1
                self._missing += 1


def write_to(stream: TextIO | None) -> Callable[[str], None]:
    """Return what writes a line to *stream*, None in a process that was started without one.

    It writes to the descriptor where there is one: a thread that is stuck in the stream's own
    buffer would hold its lock, which the interpreter needs at exit.
    """
    if stream is None:
        return lambda _: None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return lambda line: _write_text(stream, line)
    return lambda line: _write_all(descriptor, line.encode("utf-8", "backslashreplace"))


def _write_text(stream: TextIO, line: str) -> None:
    stream.write(line)
    stream.flush()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
