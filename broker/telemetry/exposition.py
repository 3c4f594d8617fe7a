"""Render the metrics in Prometheus's text format, by its client library.

Imported after the start or at the first scrape: loading the library takes longer than a command.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from broker import __version__
from broker.keeper import STATES

if TYPE_CHECKING:
    from broker.telemetry.metrics import Histogram, Metrics

PREFIX = "namespace_broker"


def text_of(metrics: "Metrics") -> bytes:
    return generate_latest(_Families(metrics))


class _Families(Collector):
    """Returns our metrics, then those that the library has of every process."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._leases()
        yield from self._added()
        yield from self._histograms()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            yield from collector.collect()

    def _counters(self) -> Iterator[Metric]:
        counts = self._metrics
        yield _filled(
            CounterMetricFamily(
                f"{PREFIX}_lease_renewals",
                "Attempts to renew a lease, by outcome.",
                labels=("lease", "outcome"),
            ),
            counts.renewals.items(),
        )
        yield _filled(
            CounterMetricFamily(
                f"{PREFIX}_requests",
                "Requests answered.",
                labels=("surface", "route", "status", "role"),
            ),
            counts.requests.items(),
        )
        yield _filled(
            CounterMetricFamily(
                f"{PREFIX}_callers_refused",
                "Requests refused for who asked or how.",
                labels=("surface", "reason"),
            ),
            counts.refusals.items(),
        )
        yield CounterMetricFamily(
            f"{PREFIX}_audit_dropped",
            "Entries that the audit log could not take.",
            counts.audit_dropped,
        )

    def _leases(self) -> Iterator[Metric]:
        """Return the state of every lease at this moment, read from its keeper."""
        statuses = self._metrics.statuses()
        yield _filled(
            GaugeMetricFamily(
                f"{PREFIX}_lease_expires_timestamp_seconds",
                "When the lease ends, in seconds since 1970.",
                labels=("lease",),
            ),
            (((s.name,), s.expires_at.timestamp()) for s in statuses if s.expires_at is not None),
        )
        yield _filled(
            GaugeMetricFamily(
                f"{PREFIX}_lease_state",
                "1 for the state the lease is in.",
                labels=("lease", "state"),
            ),
            (((s.name, state), s.state == state) for s in statuses for state in STATES),
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_outage_budget_seconds",
            "Until the first lease dies if every cloud stopped answering now.",
            self._metrics.outage_budget_s(),
        )

    def _added(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{PREFIX}_build_info", "The version.", labels=("version",))
        yield _filled(build, [((__version__,), 1)])
        for name, (kind, help_text, read) in self._metrics.added.items():
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            yield family(f"{PREFIX}_{name}", help_text, read())
        if (limiter := self._metrics.limiter) is not None:
            connections = GaugeMetricFamily(
                f"{PREFIX}_connections",
                "Connections, served or parked: those wait for another of the same caller's"
                " to end.",
                labels=("state",),
            )
            counts = [(("served",), limiter.served), (("parked",), limiter.queued)]
            yield _filled(connections, counts)

    def _histograms(self) -> Iterator[Metric]:
        yield _histogram(
            f"{PREFIX}_lease_renewal_duration_seconds",
            "How long an attempt took.",
            "lease",
            self._metrics.renewal_durations,
        )
        yield _histogram(
            f"{PREFIX}_request_duration_seconds",
            "From the request's last byte to the answer's first.",
            "surface",
            self._metrics.request_durations,
        )


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily,
    samples: Iterable[tuple[tuple[object, ...], float]],
) -> Metric:
    for labels, value in samples:
        family.add_metric([str(label) for label in labels], value)
    return family


def _histogram(
    name: str, help_text: str, label: str, histograms: Mapping[str, "Histogram"]
) -> Metric:
    family = HistogramMetricFamily(name, help_text, labels=(label,))
    for value, histogram in histograms.items():
        family.add_metric([value], histogram.buckets(), histogram.sum_s)
    return family
