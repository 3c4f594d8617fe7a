"""Keep one lease fresh in the background and hand out the newest."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar

from broker.clock import Clock, within
from broker.lease import (
    Lease,
    NotReady,
    Refused,
    Source,
    SourceError,
    Unavailable,
    backoff_s,
    renew_at,
)

T = TypeVar("T")

State = Literal["starting", "live", "unavailable", "refused", "expired"]
STATES: tuple[State, ...] = ("starting", "live", "unavailable", "refused", "expired")

NAP_S = 60.0
"""The longest sleep before the wall clock is read again: it may have been set meanwhile."""

FLOOR_S = 1.0
"""The shortest pause between two fetches, so that an upstream which returns the same lease again
does not make us spin."""

ATTEMPT_LIMIT_S = 30.0
"""How long one attempt may take, hanging upstreams included."""

UNAVAILABLE_FIRST_S, UNAVAILABLE_LONGEST_S = 1.0, 60.0
REFUSED_FIRST_S, REFUSED_LONGEST_S = 30.0, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a lease, for log and metrics."""

    lease: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained(Event):
    """The first lease, or the first after a gap."""

    expires_at: datetime | None
    took_s: float
    found_stale: bool = False
    """Whether a dependant asked for it because it found the previous lease stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed(Event):
    """A new lease replaced a live one. Fields as in `Obtained`."""

    expires_at: datetime | None
    took_s: float
    found_stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed(Event):
    """No proper answer; another attempt follows."""

    reason: str
    word: str
    retry_in_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRefused(Event):
    """Refused; a slow re-probe follows."""

    reason: str
    word: str
    retry_in_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired(Event):
    """The lease ended before another could be had."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a keeper holds, for people and probes, without secrets. ``reason`` is the operator's."""

    name: str
    state: State
    expires_at: datetime | None
    renews_at: datetime | None
    error: str | None
    reason: str | None


def _ignore(_: Event) -> None: ...


class Keeper(Generic[T]):
    """Holds the newest lease of one source and renews it at about half its life.

    Is itself a source, so that pipelines compose. `run` is the one task that fetches: whoever
    asks meanwhile waits for the attempt under way, so an upstream sees one call at a time.
    """

    def __init__(
        self,
        name: str,
        source: Source[T],
        *,
        clock: Clock,
        on_event: Callable[[Event], None] = _ignore,
        jitter: Callable[[], float] = random.random,
        attempt_limit_s: float = ATTEMPT_LIMIT_S,
        renew_within_s: float | None = None,
    ) -> None:
        """*renew_within_s* caps the time between renewals, for a demo that shows them."""
        self.name = name
        self.on_event = on_event
        self._source = source
        self._clock = clock
        self._jitter = jitter
        self._attempt_limit_s = attempt_limit_s
        self._renew_within_s = renew_within_s
        self._lease: Lease[T] | None = None
        self._error: SourceError | None = None
        self._failures = 0
        self._next_at: datetime | None = clock.now()
        self._expiry_reported = False
        self._is_running = self._attempting = False
        self._found_stale = False
        self._wake = asyncio.Event()
        self._attempts = 0
        self._attempted = asyncio.Condition()

    def restore(self, lease: Lease[T], *, renew: bool = False) -> None:
        """Begin with *lease*, obtained by an earlier process, without an event.

        It is renewed at its usual time; with *renew*, or when that time has passed, at once. To be
        called before `run`.
        """
        now = self._clock.now()
        due = renew_at(lease, jitter=self._jitter())
        self._lease = lease
        self._next_at = now if renew or (due is not None and due < now) else due

    def current(self, *, now: datetime | None = None) -> Lease[T]:
        """Return the newest lease while it lives.

        Raises:
            NotReady: There is none; the text says why.
        """
        lease = self._lease
        if lease is not None and lease.is_live(now=now or self._clock.now()):
            return lease
        raise NotReady(str(self._error) if self._error else f"{self.name} has no lease yet")

    def state(self, *, now: datetime | None = None) -> State:
        """Return one word: `refused` and `unavailable` may still have a live lease to serve."""
        if self._lease is not None and not self._lease.is_live(now=now or self._clock.now()):
            return "expired"
        if isinstance(self._error, Refused):
            return "refused"
        if self._lease is None:
            return "starting"
        return "unavailable" if self._error else "live"

    def status(self, *, now: datetime | None = None) -> Status:
        lease = self._lease
        return Status(
            name=self.name,
            state=self.state(now=now),
            expires_at=lease.expires_at if lease else None,
            renews_at=self._next_at,
            error=self._error.word if self._error else None,
            reason=str(self._error) if self._error else None,
        )

    def seconds_left(self, *, now: datetime) -> float:
        """Return how long the lease still lives: 0 without one, infinity for one without end."""
        if self._lease is None:
            return 0.0
        if self._lease.expires_at is None:
            return math.inf
        return max(0.0, (self._lease.expires_at - now).total_seconds())

    async def fetch(self) -> Lease[T]:
        """Return the newest lease; without a live one, wait for the attempt under way.

        Raises:
            Unavailable, Refused: There is none, and the last attempt failed so.
        """
        await self._until(lambda: self._is_live() or self._error is not None)
        if self._error is not None and not self._is_live():
            raise copy_of(self._error, lease=self.name) from None
        assert self._lease is not None
        return self._lease

    async def newer_than(self, lease: Lease[object]) -> Lease[T]:
        """Return a lease other than *lease*, renewing at once if that is still the newest.

        Raises:
            Unavailable, Refused: The renewal failed so, or brought the same lease again.
        """
        # Twice, because an attempt already under way may have read the source too early.
        for _ in range(2):
            if not self._holds(lease):
                return await self.fetch()
            self._found_stale = True
            self.renew_now()
            attempts = self._attempts
            await self._until(lambda: self._attempts > attempts)  # noqa: B023 - awaited here
            if self._error is not None:
                raise copy_of(self._error, lease=self.name)
        raise Refused(f"{self.name} was not accepted, and its source has no newer one")

    async def change(self, lease: Lease[object] | None, *, within_s: float) -> None:
        """Wait for a live lease other than *lease*, at most that long, without renewing it."""
        changed = self._until(lambda: self._is_live() and self._lease != lease)
        with suppress(TimeoutError):
            await within(within_s, changed, clock=self._clock)

    async def settled(self) -> None:
        """Wait until there is a live lease, or a refusal."""
        await self._until(lambda: self.state() in ("live", "unavailable", "refused"))

    @property
    def is_refused(self) -> bool:
        """Whether the last attempt was refused."""
        return isinstance(self._error, Refused)

    @property
    def is_attempting(self) -> bool:
        """Whether an attempt is under way."""
        return self._attempting

    def attempt(self, *, now: datetime) -> Callable[[], Awaitable[None]] | None:
        """Return a wait for the attempt that is under way or due, or None between attempts.

        An attempt is overdue after a suspend, until somebody notices: then the wait starts it.
        """
        is_due = self._is_running and self._next_at is not None and self._next_at <= now
        return self._wait_for_attempt if self._attempting or is_due else None

    async def _wait_for_attempt(self) -> None:
        if not self._attempting:
            self.renew_now()
        attempts = self._attempts
        await self._until(lambda: self._attempts > attempts)

    def renew_now(self) -> None:
        """Renew now instead of at the usual time: the clock was set, or the input changed."""
        self._failures = 0
        self._next_at = self._clock.now()
        self._wake.set()

    async def run(self) -> None:
        """Keep the lease fresh until cancelled."""
        self._is_running = True
        try:
            while True:
                await self._until_due()
                # Cleared before the attempt: what wakes us during it asks for another one.
                self._wake.clear()
                await self._attempt()
                await self._clock.sleep(FLOOR_S)
        finally:
            self._is_running = False

    async def _until_due(self) -> None:
        # Due also when woken during the last attempt: what that read may have been too old.
        while not self._wake.is_set() and (
            self._next_at is None or self._clock.now() < self._next_at
        ):
            self._report_expiry()
            await self._nap()
        self._report_expiry()

    async def _nap(self) -> None:
        ends = [end for end in (self._next_at, self._unreported_expiry()) if end is not None]
        left_s = min(((end - self._clock.now()).total_seconds() for end in ends), default=NAP_S)
        with suppress(TimeoutError):
            await within(max(0.0, min(left_s, NAP_S)), self._wake.wait(), clock=self._clock)

    async def _attempt(self) -> None:
        started_at = self._clock.now()
        found_stale, self._found_stale = self._found_stale, False
        self._attempting = True
        try:
            lease = await self._fetch_in_time()
        except SourceError as error:
            self._failed(error, took_s=self._since(started_at))
        else:
            self._took(lease, took_s=self._since(started_at), found_stale=found_stale)
        self._attempting = False
        self._attempts += 1
        async with self._attempted:
            self._attempted.notify_all()
        self._report_expiry()

    async def _fetch_in_time(self) -> Lease[T]:
        limit_s = self._attempt_limit_s
        try:
            lease = await within(limit_s, self._source.fetch(), clock=self._clock)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {limit_s:g} s", word="timeout") from error
        if not lease.is_live(now=self._clock.now()):
            raise Unavailable(
                "the credential received had already expired; check this host's clock"
            )
        return lease

    def _took(self, lease: Lease[T], *, took_s: float, found_stale: bool) -> None:
        now = self._clock.now()
        had = self._lease if self._lease is not None and self._lease.is_live(now=now) else None
        unchanged = had is not None and had.value == lease.value and self._error is None
        self._lease, self._error, self._failures = lease, None, 0
        self._expiry_reported = False
        self._next_at = self._due(lease, now=now)
        if not unchanged:
            happened = Obtained if had is None else Renewed
            self.on_event(
                happened(
                    lease=self.name,
                    expires_at=lease.expires_at,
                    took_s=took_s,
                    found_stale=found_stale,
                )
            )

    def _due(self, lease: Lease[T], *, now: datetime) -> datetime | None:
        # It may be from the future, where the host's clock turned out to be ahead.
        due = renew_at(replace(lease, issued_at=min(lease.issued_at, now)), jitter=self._jitter())
        if self._renew_within_s is not None:
            soon = now + timedelta(seconds=self._renew_within_s)
            due = soon if due is None else min(due, soon)
        if due is None or due > now:
            return due
        # Past half of its life already, as a token file that nobody has rewritten: try again after
        # half of what is left.
        assert lease.expires_at is not None
        left_s = (lease.expires_at - now).total_seconds()
        return now + timedelta(seconds=max(FLOOR_S, min(left_s / 2, NAP_S)))

    def _failed(self, error: SourceError, *, took_s: float) -> None:
        refused = isinstance(error, Refused)
        if refused != isinstance(self._error, Refused):
            self._failures = 0
        self._failures += 1
        self._error = error
        retry_in_s = self._pause_s(error)
        self._next_at = self._clock.now() + timedelta(seconds=retry_in_s)
        self.on_event(
            (RenewalRefused if refused else RenewalFailed)(
                lease=self.name,
                reason=str(error),
                word=error.word,
                retry_in_s=retry_in_s,
                took_s=took_s,
            )
        )

    def _pause_s(self, error: SourceError) -> float:
        if isinstance(error, Refused):
            first_s, longest_s = REFUSED_FIRST_S, REFUSED_LONGEST_S
        else:
            first_s, longest_s = UNAVAILABLE_FIRST_S, UNAVAILABLE_LONGEST_S
        pause_s = backoff_s(
            self._failures, jitter=self._jitter(), first_s=first_s, longest_s=longest_s
        )
        requested_s = error.retry_after_s if isinstance(error, Unavailable) else None
        return max(FLOOR_S, pause_s, min(requested_s or 0.0, REFUSED_LONGEST_S))

    def _report_expiry(self) -> None:
        ended_at = self._unreported_expiry()
        if ended_at is not None and self._clock.now() >= ended_at:
            self._expiry_reported = True
            self.on_event(Expired(lease=self.name, reason=str(self._error or "not renewed")))

    def _unreported_expiry(self) -> datetime | None:
        return None if self._expiry_reported or self._lease is None else self._lease.expires_at

    def _is_live(self) -> bool:
        return self._lease is not None and self._lease.is_live(now=self._clock.now())

    def _holds(self, lease: Lease[object]) -> bool:
        return self._lease is not None and self._lease.value == lease.value

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait for the end of an attempt after which *is_so* holds, or return at once."""
        async with self._attempted:
            await self._attempted.wait_for(is_so)

    def _since(self, started_at: datetime) -> float:
        return max(0.0, (self._clock.now() - started_at).total_seconds())


def copy_of(error: SourceError, *, lease: str) -> SourceError:
    """Copy *error* for another waiter, prefixed with the name of the lease that first failed."""
    kind = Refused if isinstance(error, Refused) else Unavailable
    copy = kind(str(error) if error.lease else f"{lease}: {error}", word=error.word)
    copy.lease = error.lease or lease
    return copy
