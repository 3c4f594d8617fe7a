"""Turn events of leases, files and requests into a log line and a metric each."""

import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from broker.clock import Clock
from broker.http.message import Exchange
from broker.keeper import Event, Expired, Obtained, RenewalFailed, RenewalRefused, Renewed
from broker.surfaces.token_file import FileEvent, FileNotWritten, FileRecovered, TokenTooShortLived
from broker.telemetry.audit import AuditEvent, Dropped, Failing, Restored
from broker.telemetry.log import Log
from broker.telemetry.metrics import Metrics

MAX_REFUSAL_KINDS = 1000
"""Kinds of refusals whose last line is remembered."""

MAX_REFUSAL_LINES_PER_S = 20

LOOP_TROUBLE_INTERVAL = timedelta(minutes=1)
"""How long the same trouble of the event loop is not logged again."""


class Telemetry:
    """Logs and counts what the keepers, files and surfaces report."""

    def __init__(self, *, log: Log, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[str, datetime] = {}
        self._refusals: dict[tuple[str, str, int | None], tuple[datetime | None, int]] = {}
        self._refusals_since: datetime | None = None
        self._refusal_lines = 0
        self._unlogged_refusals = 0
        self._clock_ahead_s = 0.0
        self.log = log
        self.metrics = metrics
        self.problems: dict[str, str] = {}
        """What is wrong at present beside leases, by a name, for `status`."""
        metrics.add(
            "log_dropped_total",
            "counter",
            "Log lines that could not be written.",
            lambda: log.dropped,
        )
        metrics.add(
            "audit_failing",
            "gauge",
            "1 while the audit log cannot be written.",
            lambda: "audit" in self.problems,
        )
        metrics.add(
            "config_refused",
            "gauge",
            "1 while a refused configuration stands on disk.",
            lambda: "config" in self.problems,
        )
        metrics.add(
            "clock_skew_seconds",
            "gauge",
            "How far this host's clock is ahead of the clouds', negative where it is behind.",
            lambda: self._clock_ahead_s,
        )

    def on_skew(self, ahead: timedelta) -> None:
        """Log and show how far this host's clock is *ahead* of the clouds', zero if right."""
        self._clock_ahead_s = seconds = ahead.total_seconds()
        if not ahead:
            self.problems.pop("clock", None)
            self.log.info("clock.right")
            return
        way = "ahead of" if seconds > 0 else "behind"
        reason = (
            f"this host's clock is {abs(seconds):.0f} s {way} the clouds'; set it (timedatectl)"
        )
        self.problems["clock"] = reason
        self.log.warning("clock.skewed", ahead_s=round(seconds), reason=reason)

    def on_copy(self, problem: str | None) -> None:
        """Show and log why the token file was not copied, or None after it was."""
        if problem == self.problems.get("token-file"):
            return
        if problem is None:
            self.problems.pop("token-file", None)
        else:
            self.problems["token-file"] = problem
            self.log.warning("warning", reason=problem)

    def on_config(self, refused: str | None) -> None:
        """Show a refused configuration that is still on disk, or None after one was loaded."""
        if refused is None:
            self.problems.pop("config", None)
        else:
            self.problems["config"] = f"the changed configuration is refused: {refused}"

    def on_event(self, event: Event) -> None:
        """Log and count an event of a lease."""
        match event:
            case Obtained() | Renewed():
                self.metrics.count_renewal(event.lease, "renewed", event.took_s)
                self.log.info(
                    "lease.renewed" if isinstance(event, Renewed) else "lease.obtained",
                    lease=event.lease,
                    expires_in_s=self._seconds_until(event.expires_at),
                )
            case RenewalFailed():
                self.metrics.count_renewal(event.lease, "unavailable", event.took_s)
                self.log.warning(
                    "lease.renewal_failed",
                    lease=event.lease,
                    retry_in_s=round(event.retry_in_s, 1),
                    reason=event.reason,
                )
            case RenewalRefused():
                self.metrics.count_renewal(event.lease, "refused", event.took_s)
                self.log.error(
                    "lease.refused",
                    lease=event.lease,
                    retry_in_s=round(event.retry_in_s, 1),
                    reason=event.reason,
                )
            case Expired():
                self.log.error("lease.expired", lease=event.lease, reason=event.reason)

    def on_file(self, event: FileEvent) -> None:
        """Log trouble with a token file."""
        match event:
            case FileRecovered():
                self.problems.pop(str(event.file), None)
                self.log.info("file.recovered", file=str(event.file))
            case FileNotWritten():
                if event.retry_in_s is not None:
                    self.problems[str(event.file)] = event.reason
                self.log.error(
                    "file.not_written",
                    file=str(event.file),
                    reason=event.reason,
                    retry_in_s=event.retry_in_s,
                )
            case TokenTooShortLived():
                self.log.warning(
                    "file.short_lived",
                    file=str(event.file),
                    life_s=round(event.life_s),
                    wanted_s=round(event.needed_s),
                )

    def on_audit(self, event: AuditEvent) -> None:
        """Log and count trouble with the audit log."""
        match event:
            case Failing():
                self.problems["audit"] = event.reason
                self.log.error("audit.failing", reason=event.reason)
            case Restored():
                self.problems.pop("audit", None)
                self.log.info("audit.restored")
            case Dropped():
                self.metrics.count_audit_dropped(event.entries)
                self.log.error("audit.dropped", entries=event.entries)

    def on_exchange(self, exchange: Exchange) -> None:
        """Count a request, and log a refused caller."""
        answer, surface = exchange.answer, exchange.surface
        self.metrics.count_request(
            surface, answer.route, answer.status, answer.role, exchange.took_s
        )
        if answer.refusal is not None:
            self.metrics.count_refusal(surface, answer.refusal)
            self._log_refusal(exchange, answer.refusal)

    def _log_refusal(self, exchange: Exchange, reason: str) -> None:
        """Log at most one line a second for each kind of refusal, with how many it stands for.

        Of all kinds together a few lines a second are logged, and one for all the others: callers
        that are refused must not fill the disk, however many users they are.
        """
        now = self._clock.now()
        self._log_unlogged_refusals(now)
        kind = (exchange.surface, reason, exchange.caller.uid)
        logged_at, folded = self._refusals.get(kind, (None, 0))
        if logged_at is not None and abs((now - logged_at).total_seconds()) < 1:
            self._refusals[kind] = (logged_at, folded + 1)
            return
        if self._refusal_lines >= MAX_REFUSAL_LINES_PER_S:
            self._unlogged_refusals += 1 + folded
            self._refusals.pop(kind, None)
            return
        if len(self._refusals) >= MAX_REFUSAL_KINDS:
            self._refusals.clear()
        self._refusals[kind] = (now, 0)
        self._refusal_lines += 1
        self.log.warning(
            "caller.refused",
            surface=exchange.surface,
            reason=reason,
            route=exchange.answer.route,
            uid=exchange.caller.uid,
            address=exchange.caller.address,
            **(host_advice(exchange) if reason == "host" else {}),
            **({"not_told_before": folded} if folded else {}),
        )

    def _log_unlogged_refusals(self, now: datetime) -> None:
        """Begin a new second: log how many refusals of the last one had no line of their own."""
        since = self._refusals_since
        if since is not None and abs((now - since).total_seconds()) < 1:
            return
        if self._unlogged_refusals:
            self.log.warning(
                "caller.refused", reason="several", not_told_before=self._unlogged_refusals
            )
        self._refusals_since, self._refusal_lines, self._unlogged_refusals = now, 0, 0

    def on_bug(self, error: BaseException) -> None:
        """Log an exception in a handler by type and place.

        Its text is left out: it may hold what a client sent.
        """
        frames = traceback.extract_tb(error.__traceback__)
        place = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
        self.log.error("bug", error=type(error).__name__, place=" ".join(place))

    def on_loop_trouble(self, _: Any, context: Mapping[str, Any]) -> None:
        """Log what the event loop could not do, each kind at most once a minute.

        Mostly connections that cannot be accepted for want of descriptors, which the loop reports
        a thousand times a second.
        """
        error = context.get("exception")
        now = self._clock.now()
        kind = type(error).__name__
        if (logged_at := self._troubles.get(kind)) is not None and abs(
            now - logged_at
        ) < LOOP_TROUBLE_INTERVAL:
            return
        self._troubles[kind] = now
        # The text of other errors may hold what a client sent.
        reason = error.strerror if isinstance(error, OSError) else None
        self.log.error("loop.trouble", error=kind, reason=reason)

    def _seconds_until(self, at: datetime | None) -> int | None:
        return None if at is None else int((at - self._clock.now()).total_seconds())


def host_advice(exchange: Exchange) -> dict[str, str]:
    """Return the Host that a refused request came with, and the key that admits it."""
    hosts = [value[:100] for name, value in exchange.request.headers if name == "host"]
    return {"host": ", ".join(hosts[:2]), "next_step": "add it to [guard] allowed_hosts"}
