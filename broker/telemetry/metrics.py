"""Count requests, leases and refusals: plain numbers that become Prometheus's text at a scrape."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal

from broker import __version__
from broker.clock import Clock
from broker.http.limits import ConnectionLimiter
from broker.keeper import STATES, Keeper
from broker.telemetry.exposition import (
    NO_LABELS,
    Family,
    Histogram,
    family_lines,
    histogram_lines,
    process_families,
)

PREFIX = "namespace_broker"

REQUEST_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
RENEWAL_BOUNDS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)

Leases = Iterable[Keeper[Any]]


class Metrics:
    """The daemon's metrics."""

    def __init__(self, keepers: Leases, *, clock: Clock) -> None:
        self._keepers = tuple(keepers)
        self._clock = clock
        self._renewals: dict[tuple[str, str], int] = {}
        self._renewal_durations: dict[str, Histogram] = {}
        self._requests: dict[tuple[str, str, int, str], int] = {}
        self._request_durations: dict[str, Histogram] = {}
        self._refusals: dict[tuple[str, str], int] = {}
        self._audit_dropped = 0
        self._added: list[Callable[[], Family]] = []

    def count_renewal(self, lease: str, outcome: str, took_s: float) -> None:
        key = (lease, outcome)
        self._renewals[key] = self._renewals.get(key, 0) + 1
        if lease not in self._renewal_durations:
            self._renewal_durations[lease] = Histogram(RENEWAL_BOUNDS_S)
        self._renewal_durations[lease].observe(took_s)

    def count_request(
        self, surface: str, route: str, status: int, role: str, took_s: float
    ) -> None:
        key = (surface, route, status, role)
        self._requests[key] = self._requests.get(key, 0) + 1
        if surface not in self._request_durations:
            self._request_durations[surface] = Histogram(REQUEST_BOUNDS_S)
        self._request_durations[surface].observe(took_s)

    def count_refusal(self, surface: str, reason: str) -> None:
        key = (surface, reason)
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def count_audit_dropped(self, entries: int) -> None:
        self._audit_dropped += entries

    def add(
        self,
        name: str,
        kind: Literal["counter", "gauge"],
        help_text: str,
        read: Callable[[], float],
    ) -> None:
        """Add a metric without labels, *name* without prefix, that is read at each scrape."""
        self._added.append(
            lambda: Family(f"{PREFIX}_{name}", kind, help_text, [(NO_LABELS, read())])
        )

    def count_connections(self, limiter: ConnectionLimiter) -> None:
        """Add the number of connections."""
        self._added.append(
            lambda: Family(
                f"{PREFIX}_connections",
                "gauge",
                "Connections, served or parked: those wait for another of the same caller's"
                " to end.",
                [({"state": "served"}, limiter.served), ({"state": "parked"}, limiter.queued)],
            )
        )

    def follow(self, keepers: Leases) -> None:
        """Show these leases from now on, and drop the series of others."""
        self._keepers = tuple(keepers)
        names = {keeper.name for keeper in self._keepers}
        self._renewals = {key: n for key, n in self._renewals.items() if key[0] in names}
        self._renewal_durations = {
            name: durations for name, durations in self._renewal_durations.items() if name in names
        }

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return "".join(self._lines()).encode("utf-8", "backslashreplace")

    def _lines(self) -> Iterator[str]:
        for family in (*self._counters(), *self._leases(), *(each() for each in self._added)):
            yield from family_lines(family)
        yield from histogram_lines(
            f"{PREFIX}_lease_renewal_duration_seconds",
            "How long an attempt took.",
            [({"lease": lease}, each) for lease, each in self._renewal_durations.items()],
        )
        yield from histogram_lines(
            f"{PREFIX}_request_duration_seconds",
            "From the request's last byte to the answer's first.",
            [({"surface": surface}, each) for surface, each in self._request_durations.items()],
        )
        for family in process_families():
            yield from family_lines(family)

    def _counters(self) -> Iterator[Family]:
        yield Family(
            f"{PREFIX}_lease_renewals_total",
            "counter",
            "Attempts to renew a lease, by outcome.",
            [({"lease": lease, "outcome": out}, n) for (lease, out), n in self._renewals.items()],
        )
        yield Family(
            f"{PREFIX}_requests_total",
            "counter",
            "Requests answered.",
            [
                ({"surface": surface, "route": route, "status": str(status), "role": role}, n)
                for (surface, route, status, role), n in self._requests.items()
            ],
        )
        yield Family(
            f"{PREFIX}_callers_refused_total",
            "counter",
            "Requests refused for who asked or how.",
            [({"surface": surface, "reason": r}, n) for (surface, r), n in self._refusals.items()],
        )
        yield Family(
            f"{PREFIX}_audit_dropped_total",
            "counter",
            "Entries that the audit log could not take.",
            [(NO_LABELS, self._audit_dropped)],
        )
        yield Family(
            f"{PREFIX}_build_info", "gauge", "The version.", [({"version": __version__}, 1)]
        )

    def _leases(self) -> Iterator[Family]:
        """Return the state of every lease at this moment, read from its keeper."""
        now = self._clock.now()
        statuses = [keeper.status(now=now) for keeper in self._keepers]
        yield Family(
            f"{PREFIX}_lease_expires_timestamp_seconds",
            "gauge",
            "When the lease ends, in seconds since 1970.",
            [
                ({"lease": status.name}, status.expires_at.timestamp())
                for status in statuses
                if status.expires_at is not None
            ],
        )
        yield Family(
            f"{PREFIX}_lease_state",
            "gauge",
            "1 for the state the lease is in.",
            [
                ({"lease": status.name, "state": state}, status.state == state)
                for status in statuses
                for state in STATES
            ],
        )
        yield Family(
            f"{PREFIX}_outage_budget_seconds",
            "gauge",
            "Until the first lease dies if every cloud stopped answering now.",
            [(NO_LABELS, outage_budget_s(self._keepers, now=now))],
        )


def outage_budget_s(keepers: Leases, *, now: datetime) -> float:
    """Return the seconds until the first lease dies without renewal; 0 when one is not there."""
    return min((keeper.seconds_left(now=now) for keeper in keepers), default=0.0)
