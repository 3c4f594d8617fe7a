"""Write the audit log in a thread of its own, so that no disk, journal or reader holds up whoever
asked. Decides nothing."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Event, Thread

from broker.access.caller import Caller
from broker.clock import Clock
from broker.http.message import Exchange
from broker.telemetry.audit.lines import UNKNOWN, Entry, Gap, Holder, entry_of, line_of, line_of_gap
from broker.telemetry.audit.sinks import Sink

MOST_WAITING = 10_000
"""Entries that wait to be written: some megabytes."""

RETRY_S = 1.0
STUCK_S = 5.0
"""How long a write may take before it is told as failing: a disk that hangs gives no error."""

FLUSH_S = 2.0
"""How long leaving waits for what is not written yet."""

TELL_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Failing:
    """Nothing can be written at present."""

    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """Writing works again."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many entries more will never be written."""

    entries: int


AuditEvent = Failing | Restored | Dropped


def _tell_nobody(_: AuditEvent) -> None: ...


def _nothing_known(_: Caller) -> Holder:
    return UNKNOWN


@asynccontextmanager
async def auditing(
    sink: Sink,
    *,
    clock: Clock,
    holder_of: Callable[[Caller], Holder] = _nothing_known,
    on_event: Callable[[AuditEvent], None] = _tell_nobody,
    most_waiting: int = MOST_WAITING,
    retry_s: float = RETRY_S,
    stuck_s: float = STUCK_S,
    flush_s: float = FLUSH_S,
) -> AsyncIterator["AuditLog"]:
    """Write to *sink*, ours from here on, for the block.

    *holder_of* is asked in the log's own thread, about each entry, just before it is written.
    *on_event* is called in the event loop. Leaving waits *flush_s* at most for what is not written.
    """
    log = AuditLog(
        sink,
        clock=clock,
        holder_of=holder_of,
        on_event=on_event,
        most_waiting=most_waiting,
        retry_s=retry_s,
        stuck_s=stuck_s,
    )
    try:
        yield log
    finally:
        await log.close(within_s=flush_s)


class AuditLog:
    """What is to be written waits in memory, so much of it; what comes while that is full is
    dropped, counted, and stands in the log as one line that says how many."""

    def __init__(
        self,
        sink: Sink,
        *,
        clock: Clock,
        holder_of: Callable[[Caller], Holder],
        on_event: Callable[[AuditEvent], None],
        most_waiting: int,
        retry_s: float,
        stuck_s: float,
    ) -> None:
        self.dropped = 0
        """Entries that were not written, since the start."""
        self._sink = sink
        self._clock = clock
        self._holder_of = holder_of
        self._on_event = on_event
        self._most_waiting = most_waiting
        self._retry_s = retry_s
        self._stuck_s = stuck_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry | Gap] = deque()
        self._changed = Condition()
        self._leaving = Event()
        self._reopen = False
        self._missing = 0  # dropped since the last gap that stands in the queue
        self._untold = 0  # dropped since the last event about it
        self._told_at = 0.0
        self._writing_since: float | None = None
        self._is_failing = False
        # A daemon thread: a write that never ends must not keep the process from leaving.
        self._thread = Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    # In the event loop.

    def on_exchange(self, exchange: Exchange) -> None:
        """Write of *exchange* what there is to write. Never waits for it."""
        entry = entry_of(exchange, at=self._clock.now())
        if entry is not None:
            self._put(entry)
            self._look_for_a_stuck_write()

    def reopen(self) -> None:
        """Go on in the file that is there now: for SIGHUP."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    async def close(self, *, within_s: float) -> None:
        """Write what waits, for at most so long. What is left is told as dropped."""
        self._leaving.set()
        with self._changed:
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, within_s)
        with self._changed:
            left = sum(isinstance(each, Entry) for each in self._waiting)
            self._count_dropped(left)
            self._tell_dropped()
        await asyncio.sleep(0)  # who listens is told in the next turn

    def _put(self, entry: Entry) -> None:
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                self._missing += 1
                self._count_dropped(1)
                if time.monotonic() - self._told_at >= TELL_AGAIN_S:
                    self._tell_dropped()
                return
            self._mark_gap()
            self._waiting.append(entry)
            self._changed.notify()

    def _look_for_a_stuck_write(self) -> None:
        since = self._writing_since
        if since is not None and time.monotonic() - since > self._stuck_s:
            self._now_failing(f"a write has not ended for {self._stuck_s:g} s")

    # In either, holding the lock.

    def _mark_gap(self) -> None:
        """Put a line in the place of those that are missing."""
        if self._missing:
            self._waiting.append(Gap(at=self._clock.now(), dropped=self._missing))
            self._missing = 0

    def _count_dropped(self, entries: int) -> None:
        self.dropped += entries
        self._untold += entries

    def _tell_dropped(self) -> None:
        if self._untold:
            self._tell(Dropped(self._untold))
            self._untold, self._told_at = 0, time.monotonic()

    def _tell(self, event: AuditEvent) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody listens
            self._loop.call_soon_threadsafe(self._on_event, event)

    # In the thread. Nothing that can take long is done with the lock held.

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if not self._write(self._line_of(item)):
                    return
                with self._changed:
                    self._waiting.popleft()
        finally:
            self._sink.close()

    def _next(self) -> Entry | Gap | None:
        """Wait for what is to be written; None when all is and we are leaving."""
        while True:
            self._reopen_when_told()
            with self._changed:
                if not self._waiting:
                    self._tell_dropped()
                    self._mark_gap()
                if self._waiting:
                    return self._waiting[0]
                if self._leaving.is_set():
                    return None
                if not self._reopen:
                    self._changed.wait()

    def _line_of(self, item: Entry | Gap) -> bytes:
        if isinstance(item, Gap):
            return line_of_gap(item)
        try:
            holder = self._holder_of(item.caller)
        except Exception:  # the line is worth more than what else could be said
            holder = UNKNOWN
        return line_of(item, holder=holder)

    def _write(self, line: bytes) -> bool:
        """Write *line*, however often it takes; False when we are leaving before that."""
        while True:
            self._writing_since = time.monotonic()
            try:
                self._sink.write(line)
            except (OSError, ValueError) as error:
                self._writing_since = None
                self._now_failing(_reason(error))
                if self._leaving.wait(self._retry_s):
                    return False
                self._reopen_when_told()
            else:
                self._writing_since = None
                self._now_working()
                return True

    def _reopen_when_told(self) -> None:
        told, self._reopen = self._reopen, False
        if told:
            try:
                self._sink.reopen()
            except (OSError, ValueError) as error:
                # Nothing is lost: what is open still is.
                self._tell(Failing(f"it goes on in the old file: {_reason(error)}"))

    # In either.

    def _now_failing(self, reason: str) -> None:
        with self._changed:
            if not self._is_failing:
                self._is_failing = True
                self._tell(Failing(reason))

    def _now_working(self) -> None:
        with self._changed:
            if self._is_failing:
                self._is_failing = False
                self._tell(Restored())


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
