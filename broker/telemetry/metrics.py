"""Count requests, leases and refusals for Prometheus."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker import __version__
from broker.clock import Clock
from broker.http.limits import ConnectionLimiter
from broker.keeper import STATES, Keeper

PREFIX = "namespace_broker"

Leases = Iterable[Keeper[Any]]


class Metrics:
    """The daemon's counters, in a registry of their own."""

    def __init__(self, keepers: Leases, *, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self.renewals = Counter(
            f"{PREFIX}_lease_renewals",
            "Attempts to renew a lease, by outcome.",
            ["lease", "outcome"],
            registry=self.registry,
        )
        self.renewal_duration = Histogram(
            f"{PREFIX}_lease_renewal_duration_seconds",
            "How long an attempt took.",
            ["lease"],
            registry=self.registry,
        )
        self.requests = Counter(
            f"{PREFIX}_requests",
            "Requests answered.",
            ["surface", "route", "status", "role"],
            registry=self.registry,
        )
        self.request_duration = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "From the request's last byte to the answer's first.",
            ["surface"],
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
            registry=self.registry,
        )
        self.callers_refused = Counter(
            f"{PREFIX}_callers_refused",
            "Requests refused for who asked or how.",
            ["surface", "reason"],
            registry=self.registry,
        )
        self.audit_dropped = Counter(
            f"{PREFIX}_audit_dropped",
            "Entries that the audit log could not take.",
            registry=self.registry,
        )
        build = Gauge(f"{PREFIX}_build_info", "The version.", ["version"], registry=self.registry)
        build.labels(version=__version__).set(1)
        self._leases = LeaseCollector(keepers, clock=clock)
        self.registry.register(self._leases)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def follow(self, keepers: Leases) -> None:
        """Show these leases from now on, and drop the series of others."""
        self._leases.keepers = tuple(keepers)
        names = {keeper.name for keeper in self._leases.keepers}
        for counted in (self.renewals, self.renewal_duration):
            for labels in _labels_of(counted):
                if labels["lease"] not in names:
                    counted.remove(
                        *(labels[name] for name in ("lease", "outcome") if name in labels)
                    )

    def count_connections(self, limiter: ConnectionLimiter) -> None:
        """Show the number of connections at each scrape."""
        connections = Gauge(
            f"{PREFIX}_connections",
            "Connections, served or parked: those wait for another of the same caller's to end.",
            ["state"],
            registry=self.registry,
        )
        connections.labels("served").set_function(lambda: limiter.served)
        connections.labels("parked").set_function(lambda: limiter.queued)

    def text(self) -> bytes:
        """Return the Prometheus text exposition."""
        return generate_latest(self.registry)


def _labels_of(counted: Counter | Histogram) -> list[Mapping[str, str]]:
    """Return the distinct label sets of that metric."""
    samples = (sample for metric in counted.collect() for sample in metric.samples)
    found = {
        tuple((name, value) for name, value in sample.labels.items() if name != "le")
        for sample in samples
    }
    return [dict(labels) for labels in found]


class LeaseCollector(Collector):
    """The state of every lease at the moment of the scrape, read from its keeper."""

    def __init__(self, keepers: Leases, *, clock: Clock) -> None:
        self.keepers = tuple(keepers)
        self._clock = clock

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = self._clock.now()
        statuses = [keeper.status(now=now) for keeper in self.keepers]
        ends = GaugeMetricFamily(
            f"{PREFIX}_lease_expires_timestamp_seconds",
            "When the lease ends, in seconds since 1970.",
            labels=["lease"],
        )
        states = GaugeMetricFamily(
            f"{PREFIX}_lease_state",
            "1 for the state the lease is in.",
            labels=["lease", "state"],
        )
        for status in statuses:
            if status.expires_at is not None:
                ends.add_metric([status.name], status.expires_at.timestamp())
            for state in STATES:
                states.add_metric([status.name, state], float(status.state == state))
        budget = GaugeMetricFamily(
            f"{PREFIX}_outage_budget_seconds",
            "Until the first lease dies if every cloud stopped answering now.",
        )
        budget.add_metric([], outage_budget_s(self.keepers, now=now))
        yield from (ends, states, budget)


def outage_budget_s(keepers: Leases, *, now: datetime) -> float:
    """Return the seconds until the first lease dies without renewal; 0 when one is not there."""
    return min((keeper.seconds_left(now=now) for keeper in keepers), default=0.0)
