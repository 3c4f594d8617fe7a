"""Write the audit log in a thread, so that no disk, journal or reader delays a request."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Event, Thread

from broker.access.caller import Caller
from broker.clock import Clock
from broker.http.message import Exchange
from broker.telemetry.audit.lines import (
    UNKNOWN,
    CallerDetails,
    Entry,
    Gap,
    entry_of,
    line_of_gap,
    line_with,
    rest_of_line,
)
from broker.telemetry.audit.sinks import PartlyWritten, Sink

MAX_WAITING = 10_000
"""Entries that wait to be written: some megabytes. Refusals may take half of it, so that they
never crowd out what was served."""

MAX_WAITING_WHILE_FAILING = 1000
"""Entries that wait while nothing can be written: what is lost then is counted, and seen, early."""

MAX_FOLDED = 100
"""Callers whose refusals are folded each for itself; those of all others share a line."""

MAX_REMEMBERED = 256
"""Answers whose entry is remembered, for when they are sent again on the same connection."""

REPORT_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the log waits.

    ``stuck_s`` is how long a write may take before it counts as failing: a disk that hangs returns
    no error. ``flush_s`` is how long closing waits for what is not written yet. ``fold_s`` is how
    often a caller that is refused again and again gets a line. ``batch_s`` is how long entries
    are collected after the first of a burst, which is written at once.
    """

    retry_s: float = 1.0
    stuck_s: float = 5.0
    flush_s: float = 2.0
    fold_s: float = 1.0
    batch_s: float = 0.02


@dataclass(frozen=True, slots=True)
class Failing:
    """Nothing can be written at present."""

    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """Writing works again."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """That many more entries will never be written."""

    entries: int


AuditEvent = Failing | Restored | Dropped
RefusalKey = tuple[int | None, str | None, str | None, str, str | None]


@dataclass(slots=True)
class _Folded:
    """Refusals of one caller since its last line."""

    count: int = 0
    last: Entry | None = None


def _ignore(_: AuditEvent) -> None: ...


def _no_details(_: Caller) -> CallerDetails:
    return UNKNOWN


@asynccontextmanager
async def auditing(
    sink: Sink,
    *,
    clock: Clock,
    details_of: Callable[[Caller], CallerDetails] = _no_details,
    on_event: Callable[[AuditEvent], None] = _ignore,
    max_waiting: int = MAX_WAITING,
    timing: Timing = Timing(),
) -> AsyncIterator["AuditLog"]:
    """Open the audit log for the block; it owns *sink*.

    *details_of* is called in the log's own thread, for each line, just before it is written.
    *on_event* is called in the event loop. Closing waits a moment for what is not written.
    """
    log = AuditLog(
        sink,
        clock=clock,
        details_of=details_of,
        on_event=on_event,
        max_waiting=max_waiting,
        timing=timing,
    )
    try:
        yield log
    finally:
        await log.close(within_s=timing.flush_s)


class AuditLog:
    """Entries wait in a bounded queue; what comes while it is full is dropped and counted.

    A line in its place says how many. Refusals of one caller, surface and reason are folded:
    the first is written whole, then at most one line per interval that says how many it stands for.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        clock: Clock,
        details_of: Callable[[Caller], CallerDetails],
        on_event: Callable[[AuditEvent], None],
        max_waiting: int,
        timing: Timing,
    ) -> None:
        self.dropped = 0
        """Entries that were not written, since the start."""
        self._sink = sink
        self._clock = clock
        self._details_of = details_of
        self._on_event = on_event
        self._max_waiting = max_waiting
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry | Gap] = deque()
        self._folded: dict[RefusalKey | None, _Folded] = {}
        self._unfold_at = 0.0
        self._changed = Condition()
        self._closing = Event()
        self._reopen = False
        self._missing = 0  # dropped since the last gap in the queue
        self._unreported = 0  # dropped since the last event about it
        self._reported_at = 0.0
        self._writing_since: float | None = None
        self._is_failing = False
        self._is_idle = False  # the thread waits to be notified
        self._entries: dict[tuple[int, int, int], tuple[Exchange, Entry]] = {}
        self._last_written: tuple[object, ...] = ()
        self._last_rest = ""
        # A daemon thread: a write that never ends must not keep the process from leaving.
        self._thread = Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    # In the event loop.

    def on_exchange(self, exchange: Exchange) -> None:
        """Queue the entry for *exchange*, if it needs one; never waits."""
        entry = self._entry_of(exchange)
        if entry is None:
            return
        if entry.outcome == "served" and self._has_room:
            self._waiting.append(entry)  # needs no lock
        else:
            with self._changed:
                if entry.outcome == "served" or not self._fold(entry):
                    self._put(entry)
        if self._is_idle:
            with self._changed:
                self._changed.notify()
        if self._writing_since is not None:
            self._check_for_stuck_write()

    def reopen(self) -> None:
        """Open the file of that name again: for SIGHUP."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    async def close(self, *, within_s: float) -> None:
        """Write what waits, for at most so long, and count the rest as dropped."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, within_s)
        with self._changed:
            self._unfold()
            for each in self._waiting:
                self._count_dropped(_weight(each))
            self._report_dropped()
        await asyncio.sleep(0)  # listeners are called in the next turn

    def _entry_of(self, exchange: Exchange) -> Entry | None:
        """Return the entry; of an answer that is sent again, with its own time alone."""
        key = (id(exchange.request), id(exchange.answer), id(exchange.caller))
        known = self._entries.get(key)
        if known is not None:  # it keeps those three alive, so the ids are still theirs
            return known[1]._replace(at=exchange.at)
        entry = entry_of(exchange)
        if entry is not None and entry.outcome == "served":
            if len(self._entries) >= MAX_REMEMBERED:
                self._entries.clear()
            self._entries[key] = (exchange, entry)
        return entry

    @property
    def _has_room(self) -> bool:
        """Whether an entry can simply be appended: nothing is missing before it."""
        limit = MAX_WAITING_WHILE_FAILING if self._is_failing else self._max_waiting
        return not self._missing and len(self._waiting) < min(limit, self._max_waiting)

    def _check_for_stuck_write(self) -> None:
        since = self._writing_since
        if since is not None and time.monotonic() - since > self._timing.stuck_s:
            self._set_failing(f"a write has not ended for {self._timing.stuck_s:g} s")

    # In either, holding the lock.

    def _fold(self, entry: Entry) -> bool:
        """Fold one more refusal of a caller that was refused in this interval; False if first."""
        key: RefusalKey | None = _key_of(entry)
        if key not in self._folded:
            if not self._folded:
                self._unfold_at = time.monotonic() + self._timing.fold_s
            if len(self._folded) < MAX_FOLDED:
                self._folded[key] = _Folded()
                return False
            key, entry = None, _of_many(entry)
        folded = self._folded.setdefault(key, _Folded())
        folded.count += 1
        folded.last = entry
        return True

    def _unfold(self) -> None:
        """Queue a line for each caller with folded refusals, and forget the others."""
        for key, folded in list(self._folded.items()):
            if folded.last is None:
                del self._folded[key]
            else:
                self._put(folded.last._replace(folded=folded.count))
                self._folded[key] = _Folded()
        self._unfold_at = time.monotonic() + self._timing.fold_s

    def _put(self, entry: Entry) -> None:
        if len(self._waiting) >= self._limit_for(entry):
            self._missing += _weight(entry)
            self._count_dropped(_weight(entry))
            if time.monotonic() - self._reported_at >= REPORT_INTERVAL_S:
                self._report_dropped()
            return
        self._mark_gap()
        self._waiting.append(entry)

    def _limit_for(self, entry: Entry) -> int:
        limit = self._max_waiting
        if self._is_failing:
            limit = min(limit, MAX_WAITING_WHILE_FAILING)
        return limit if entry.outcome == "served" else max(1, limit // 2)

    def _mark_gap(self) -> None:
        """Queue the line that stands for missing entries."""
        if self._missing:
            self._waiting.append(Gap(at=self._clock.now(), dropped=self._missing))
            self._missing = 0

    def _count_dropped(self, entries: int) -> None:
        self.dropped += entries
        self._unreported += entries

    def _report_dropped(self) -> None:
        if self._unreported:
            self._report(Dropped(self._unreported))
            self._unreported, self._reported_at = 0, time.monotonic()

    def _report(self, event: AuditEvent) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody listens
            self._loop.call_soon_threadsafe(self._on_event, event)

    # In the thread. Nothing slow is done with the lock held.

    def _run(self) -> None:
        try:
            while (items := self._next()) is not None:
                if not self._write(self._lines_of(items)):
                    return
                if not self._waiting:
                    # A burst is collected: to be woken for each entry costs the event loop more
                    # than the entry does.
                    self._closing.wait(self._timing.batch_s)
        finally:
            self._sink.close()

    def _next(self) -> list[Entry | Gap] | None:
        """Wait for items; None when closing and all are written."""
        while True:
            self._reopen_if_requested()
            with self._changed:
                left_s = self._unfold_at - time.monotonic()
                if self._folded and (left_s <= 0 or self._closing.is_set()):
                    self._unfold()
                    continue
                if not self._waiting:
                    self._report_dropped()
                    self._mark_gap()
                if self._waiting:
                    return list(itertools.islice(self._waiting, self._sink.max_lines))
                if self._closing.is_set():
                    return None
                # Set before the last look: whoever appends after that look sees it, and waits for
                # the lock to notify.
                self._is_idle = True
                if not self._waiting and not self._reopen:
                    self._changed.wait(left_s if self._folded else None)
                self._is_idle = False

    def _lines_of(self, items: list[Entry | Gap]) -> list[bytes]:
        looked_up: dict[object, CallerDetails] = {}
        lines = []
        for item in items:
            if isinstance(item, Gap):
                lines.append(line_of_gap(item))
                continue
            caller = item.caller
            key = (caller.uid, caller.pid, caller.inode, caller.cgroup_id)
            if key not in looked_up:
                looked_up[key] = self._look_up(caller)
            lines.append(line_with(item.at, self._rest_of_line(item, looked_up[key])))
        return lines

    def _rest_of_line(self, entry: Entry, details: CallerDetails) -> str:
        written = (entry[1:], details)
        if written != self._last_written:
            self._last_written, self._last_rest = written, rest_of_line(entry, details)
        return self._last_rest

    def _look_up(self, caller: Caller) -> CallerDetails:
        try:
            return self._details_of(caller)
        except Exception:  # the line matters more than the details
            return UNKNOWN

    def _write(self, lines: list[bytes]) -> bool:
        """Write *lines*, with as many attempts as it takes; False if closing ends them."""
        while True:
            self._writing_since = time.monotonic()
            try:
                self._sink.write(b"".join(lines))
            except (OSError, ValueError) as error:
                self._writing_since = None
                if isinstance(error, PartlyWritten):
                    self._remove_written(error.lines)
                    del lines[: error.lines]
                self._set_failing(_reason(error))
                if self._closing.wait(self._timing.retry_s):
                    return False
                self._reopen_if_requested()
            else:
                self._writing_since = None
                self._remove_written(len(lines))
                self._set_working()
                return True

    def _remove_written(self, lines: int) -> None:
        with self._changed:
            for _ in range(lines):
                self._waiting.popleft()

    def _reopen_if_requested(self) -> None:
        requested, self._reopen = self._reopen, False
        if requested:
            try:
                self._sink.reopen()
            except (OSError, ValueError) as error:
                # Nothing is lost: the old file is still open.
                self._report(Failing(f"it goes on in the old file: {_reason(error)}"))

    # In either.

    def _set_failing(self, reason: str) -> None:
        with self._changed:
            if not self._is_failing:
                self._is_failing = True
                self._report(Failing(reason))

    def _set_working(self) -> None:
        with self._changed:
            if self._is_failing:
                self._is_failing = False
                self._report(Restored())


def _key_of(entry: Entry) -> RefusalKey:
    """Return what refusals have in common that are folded: the caller, the surface, the reason."""
    caller = entry.caller
    address = caller.address if caller.uid is None else None
    return caller.uid, address, entry.caller_token, entry.surface, entry.reason


def _of_many(entry: Entry) -> Entry:
    """Return the entry without what is one caller's own."""
    return entry._replace(caller=Caller(), caller_token=None, user_agent=None, rule=None)


def _weight(item: Entry | Gap) -> int:
    """Return how many entries an item of the queue stands for that would be lost with it."""
    if isinstance(item, Gap):
        return 0
    return 1 if item.folded is None else item.folded


def _reason(error: OSError | ValueError) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    filename = error.filename if isinstance(error, OSError) else None
    return f"{filename}: {reason}" if filename else reason
