"""Count requests, leases and refusals: plain numbers that become Prometheus's text at a scrape."""

import asyncio
import importlib
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import accumulate
from typing import Any, Literal

from broker.clock import Clock
from broker.http.limits import ConnectionLimiter
from broker.keeper import Keeper, Status

REQUEST_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
RENEWAL_BOUNDS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)

Kind = Literal["counter", "gauge"]
Leases = Iterable[Keeper[Any]]


class Histogram:
    """Counts durations in buckets, for one set of labels."""

    __slots__ = ("_bounds", "_counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, int]]:
        """Return for each bound how many took so long at most."""
        return list(zip((*map(str, self._bounds), "+Inf"), accumulate(self._counts), strict=True))


class Metrics:
    """The daemon's metrics; the counts are to be read alone."""

    def __init__(self, keepers: Leases, *, clock: Clock) -> None:
        self._keepers = tuple(keepers)
        self._clock = clock
        self.renewals: dict[tuple[str, str], int] = {}
        self.renewal_durations: dict[str, Histogram] = {}
        self.requests: dict[tuple[str, str, int, str], int] = {}
        self.request_durations: dict[str, Histogram] = {}
        self.refusals: dict[tuple[str, str], int] = {}
        self.audit_dropped = 0
        self.added: dict[str, tuple[Kind, str, Callable[[], float]]] = {}
        self.limiter: ConnectionLimiter | None = None

    def count_renewal(self, lease: str, outcome: str, took_s: float) -> None:
        key = (lease, outcome)
        self.renewals[key] = self.renewals.get(key, 0) + 1
        if lease not in self.renewal_durations:
            self.renewal_durations[lease] = Histogram(RENEWAL_BOUNDS_S)
        self.renewal_durations[lease].observe(took_s)

    def count_request(
        self, surface: str, route: str, status: int, role: str, took_s: float
    ) -> None:
        key = (surface, route, status, role)
        self.requests[key] = self.requests.get(key, 0) + 1
        if surface not in self.request_durations:
            self.request_durations[surface] = Histogram(REQUEST_BOUNDS_S)
        self.request_durations[surface].observe(took_s)

    def count_refusal(self, surface: str, reason: str) -> None:
        key = (surface, reason)
        self.refusals[key] = self.refusals.get(key, 0) + 1

    def count_audit_dropped(self, entries: int) -> None:
        self.audit_dropped += entries

    def add(self, name: str, kind: Kind, help_text: str, read: Callable[[], float]) -> None:
        """Add a metric without labels, *name* without prefix, that is read at each scrape."""
        self.added[name] = (kind, help_text, read)

    def count_connections(self, limiter: ConnectionLimiter) -> None:
        """Add the number of connections."""
        self.limiter = limiter

    def follow(self, keepers: Leases) -> None:
        """Show these leases from now on, and drop the series of others."""
        self._keepers = tuple(keepers)
        names = {keeper.name for keeper in self._keepers}
        self.renewals = {key: n for key, n in self.renewals.items() if key[0] in names}
        self.renewal_durations = {
            name: durations for name, durations in self.renewal_durations.items() if name in names
        }

    def statuses(self) -> list[Status]:
        now = self._clock.now()
        return [keeper.status(now=now) for keeper in self._keepers]

    def outage_budget_s(self) -> float:
        return outage_budget_s(self._keepers, now=self._clock.now())

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        from broker.telemetry import exposition

        return exposition.text_of(self)

    async def load(self) -> None:
        """Load what `text` needs, in a thread, so that no scrape has to."""
        await asyncio.to_thread(importlib.import_module, "broker.telemetry.exposition")


def outage_budget_s(keepers: Leases, *, now: datetime) -> float:
    """Return the seconds until the first lease dies without renewal; 0 when one is not there."""
    return min((keeper.seconds_left(now=now) for keeper in keepers), default=0.0)
