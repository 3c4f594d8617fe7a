"""What happened, as one log line and one metric each. Decides nothing."""

import io
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
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
from broker.http.limits import Crowd
from broker.http.message import Exchange
from broker.keeper import (
    STATES,
    Event,
    Expired,
    Keeper,
    Obtained,
    RenewalFailed,
    RenewalRefused,
    Renewed,
)
from broker.surfaces.token_file import FileEvent, NotWritten, ShortLived
from broker.telemetry.audit import AuditEvent, Dropped, Failing, Restored

PREFIX = "namespace_broker"

MOST_KINDS = 1000
"""Kinds of refusals whose last line is remembered."""

TROUBLE_AGAIN = timedelta(minutes=1)
"""How long the same trouble of the event loop is not told again."""

Log = structlog.typing.FilteringBoundLogger
Leases = Iterable[Keeper[Any]]
Fields = MutableMapping[str, Any]


def logger(*, form: str, level: str, stream: TextIO | None = None) -> Log:
    """Return a log: events to *stream* (stderr), as JSON lines or for a terminal.

    *form* is ``json``, ``console`` or ``auto``: console on a terminal. What *stream* does not take
    (a full disk, a reader that left) is lost: no lease is worth less than a line about it.
    """
    return Voice(form=form, level=level, stream=stream).log


class Voice:
    """How a log speaks: in which form, and from which level on. Both may change while it is in
    use. Arguments as for `logger`."""

    def __init__(self, *, form: str, level: str, stream: TextIO | None = None) -> None:
        self._out = Unfailing(stream or sys.stderr)
        self.change(form=form, level=level)
        processors: list[structlog.typing.Processor] = [
            self._loud_enough,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            printable,
            self._rendered,
        ]
        wrapped = structlog.wrap_logger(
            structlog.WriteLogger(cast(TextIO, self._out)),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )
        self.log: Log = wrapped.bind()

    def change(self, *, form: str, level: str) -> None:
        """Speak so from the next line on."""
        self._level = _number_of(level)
        console = form == "console" or (form == "auto" and self._out.isatty())
        self._render: structlog.typing.Processor = (
            structlog.dev.ConsoleRenderer(colors=self._out.isatty())
            if console
            else structlog.processors.JSONRenderer()
        )

    def _loud_enough(self, _: Any, level: str, event: Fields) -> Fields:
        if _number_of(level) < self._level:
            raise structlog.DropEvent
        return event

    def _rendered(self, log: Any, level: str, event: Fields) -> Any:
        return self._render(log, level, event)


def _number_of(level: str) -> int:
    number: int = getattr(logging, level.upper())
    return number


class Unfailing(io.TextIOBase):
    """Passes on what is written, as long as somebody takes it."""

    def __init__(self, out: TextIO | None) -> None:
        """*out* is None in a process that was started without a stderr."""
        self._out = out

    def isatty(self) -> bool:
        return self._out is not None and self._out.isatty()

    def write(self, text: str) -> int:
        # ValueError: it was closed.
        with suppress(OSError, ValueError):
            if self._out is not None:
                self._out.write(text)
                self._out.flush()
        return len(text)


def printable(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters: what a client sent must not move an operator's cursor."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


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
        """Show these leases from here on; what was counted of others is forgotten."""
        self._leases.keepers = tuple(keepers)
        names = {keeper.name for keeper in self._leases.keepers}
        for counted in (self.renewals, self.renewal_duration):
            for labels in _labels_of(counted):
                if labels["lease"] not in names:
                    counted.remove(
                        *(labels[name] for name in ("lease", "outcome") if name in labels)
                    )

    def count_connections(self, crowd: Crowd) -> None:
        """Show at each scrape how many connections there are."""
        connections = Gauge(
            f"{PREFIX}_connections",
            "Connections, served or parked: those wait for another of the same caller's to end.",
            ["state"],
            registry=self.registry,
        )
        connections.labels("served").set_function(lambda: crowd.served)
        connections.labels("parked").set_function(lambda: crowd.parked)

    def text(self) -> bytes:
        """Return the Prometheus text exposition."""
        return generate_latest(self.registry)


def _labels_of(counted: Counter | Histogram) -> list[Mapping[str, str]]:
    """Return the labels of everything that was counted there, once."""
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


class Telemetry:
    """Keeper and access events become a log line and a metric each."""

    def __init__(self, *, log: Log, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[str, datetime] = {}
        self._refusals: dict[tuple[str, str, int | None], tuple[datetime | None, int]] = {}
        self.log = log
        self.metrics = metrics

    def on_event(self, event: Event) -> None:
        """Tell what happened to a lease."""
        match event:
            case Obtained() | Renewed():
                self._count(event.lease, "renewed", event.took_s)
                self.log.info(
                    "lease.renewed" if isinstance(event, Renewed) else "lease.obtained",
                    lease=event.lease,
                    expires_in_s=self._seconds_until(event.expires_at),
                )
            case RenewalFailed():
                self._count(event.lease, "unavailable", event.took_s)
                self.log.warning(
                    "lease.renewal_failed",
                    lease=event.lease,
                    retry_in_s=round(event.retry_in_s, 1),
                    reason=event.reason,
                )
            case RenewalRefused():
                self._count(event.lease, "refused", event.took_s)
                self.log.error(
                    "lease.refused",
                    lease=event.lease,
                    retry_in_s=round(event.retry_in_s, 1),
                    reason=event.reason,
                )
            case Expired():
                self.log.error("lease.expired", lease=event.lease, reason=event.reason)

    def on_file(self, event: FileEvent) -> None:
        """Tell of trouble with a token file."""
        match event:
            case NotWritten():
                self.log.error(
                    "file.not_written",
                    file=str(event.file),
                    reason=event.reason,
                    retry_in_s=event.retry_in_s,
                )
            case ShortLived():
                self.log.warning(
                    "file.short_lived",
                    file=str(event.file),
                    life_s=round(event.life_s),
                    wanted_s=round(event.wanted_s),
                )

    def on_audit(self, event: AuditEvent) -> None:
        """Tell of trouble with the audit log."""
        match event:
            case Failing():
                self.log.error("audit.failing", reason=event.reason)
            case Restored():
                self.log.info("audit.restored")
            case Dropped():
                self.metrics.audit_dropped.inc(event.entries)
                self.log.error("audit.dropped", entries=event.entries)

    def on_exchange(self, exchange: Exchange) -> None:
        """Count a request, and tell of a caller that was refused."""
        answer, surface = exchange.answer, exchange.surface
        self.metrics.requests.labels(surface, answer.route, str(answer.status), answer.role).inc()
        self.metrics.request_duration.labels(surface).observe(exchange.took_s)
        if answer.refusal is not None:
            self.metrics.callers_refused.labels(surface, answer.refusal).inc()
            self._tell_refused(exchange, answer.refusal)

    def _tell_refused(self, exchange: Exchange, reason: str) -> None:
        """Write one line a second at most for each kind of refusal, with how many it stands for: a
        caller that is refused must not fill the disk."""
        kind = (exchange.surface, reason, exchange.caller.uid)
        now = self._clock.now()
        told_at, untold = self._refusals.get(kind, (None, 0))
        if told_at is not None and abs((now - told_at).total_seconds()) < 1:
            self._refusals[kind] = (told_at, untold + 1)
            return
        if len(self._refusals) >= MOST_KINDS:
            self._refusals.clear()
        self._refusals[kind] = (now, 0)
        self.log.warning(
            "caller.refused",
            surface=exchange.surface,
            reason=reason,
            route=exchange.answer.route,
            uid=exchange.caller.uid,
            address=exchange.caller.address,
            **({"not_told_before": untold} if untold else {}),
        )

    def on_bug(self, error: BaseException) -> None:
        """Tell of an exception in a handler: what kind and where, not its text, which may carry
        what a client sent."""
        frames = traceback.extract_tb(error.__traceback__)
        place = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
        self.log.error("bug", error=type(error).__name__, place=" ".join(place))

    def on_loop_trouble(self, _: Any, context: Mapping[str, Any]) -> None:
        """Tell what the event loop could not do: connections that cannot be taken for want of
        descriptors, above all. It says so a thousand times a second, so once a minute is enough."""
        error = context.get("exception")
        now = self._clock.now()
        kind = type(error).__name__
        if (told := self._troubles.get(kind)) is not None and abs(now - told) < TROUBLE_AGAIN:
            return
        self._troubles[kind] = now
        # Of other errors the text may carry what a client sent.
        reason = error.strerror if isinstance(error, OSError) else None
        self.log.error("loop.trouble", error=kind, reason=reason)

    def _count(self, lease: str, outcome: str, took_s: float) -> None:
        self.metrics.renewals.labels(lease, outcome).inc()
        self.metrics.renewal_duration.labels(lease).observe(took_s)

    def _seconds_until(self, at: datetime | None) -> int | None:
        return None if at is None else int((at - self._clock.now()).total_seconds())
