"""Serve liveness, readiness and metrics to probes and Prometheus."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from broker.access.caller import Caller
from broker.http.guard import Guard
from broker.http.message import Answer, Request
from broker.keeper import Keeper, Status
from broker.surfaces.documents import json_answer, rfc3339_or_none

READY_STATES = frozenset({"live", "unavailable"})
"""`unavailable` is ready: the old lease is live and is served."""


def lease_named(name: str, statuses: Iterable[Status]) -> Status | None:
    """Return the status of the lease of that full name; a bare name is a role's."""
    full_name = name if "/" in name else f"role/{name}"
    return next((status for status in statuses if status.name == full_name), None)


def readiness(
    statuses: Iterable[Status], *, files_written: bool = True
) -> tuple[bool, dict[str, Any]]:
    """Return whether every lease and file is there, and the document that lists the leases.

    Shape: ``{"ready": bool, "leases": [{"name", "state", "expires_at", "renews_at", "error"}]}``,
    times as RFC 3339; no text from upstream, ARN or secret.
    """
    leases = list(statuses)
    ready = files_written and all(status.state in READY_STATES for status in leases)
    return ready, {"ready": ready, "leases": [lease_facts(status) for status in leases]}


def lease_facts(status: Status) -> dict[str, Any]:
    return {
        "name": status.name,
        "state": status.state,
        "expires_at": rfc3339_or_none(status.expires_at),
        "renews_at": rfc3339_or_none(status.renews_at),
        "error": status.error,
    }


METRICS_EVERY = timedelta(seconds=1)
"""How often the metrics are written out anew, however often they are asked for."""


class Ops:
    """``/healthz``, ``/readyz``, ``/readyz/NAME`` and ``/metrics``."""

    name = "ops"

    def __init__(
        self,
        *,
        keepers: Iterable[Keeper[Any]],
        guard: Guard,
        metrics: Callable[[], bytes],
        files_written: Callable[[], bool] = lambda: True,
    ) -> None:
        """*files_written* returns whether every configured token file is written."""
        self._keepers = list(keepers)
        self._guard = guard
        self._metrics = metrics
        self._files_written = files_written
        self._metrics_text = b""
        self._metrics_at: datetime | None = None

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        objection = self._guard.objection(request)
        if objection is not None:
            return json_answer(403, {"error": "forbidden"}, refusal=objection)
        if request.method not in ("GET", "HEAD"):
            return Answer(status=405, headers={"Allow": "GET, HEAD"})
        if request.path == "/healthz":
            return Answer(status=200, body=b"ok\n", content_type="text/plain", route="healthz")
        if request.path == "/metrics":
            kind = "text/plain; version=0.0.4; charset=utf-8"
            text = self._metrics_once_a_second(now)
            return Answer(status=200, body=text, content_type=kind, route="metrics")
        if request.path == "/readyz" or request.path.startswith("/readyz/"):
            return self._readyz(request.path.removeprefix("/readyz").strip("/"), now=now)
        return json_answer(404, {"error": "not found"})

    def _metrics_once_a_second(self, now: datetime) -> bytes:
        """Return the metrics, as they were up to a second ago: many requests cost as one."""
        at = self._metrics_at
        if at is None or not at <= now < at + METRICS_EVERY:
            self._metrics_text, self._metrics_at = self._metrics(), now
        return self._metrics_text

    def nothing_to_serve(self) -> Answer:
        return json_answer(500, {"error": "internal"})

    def bad_request(self) -> Answer:
        return json_answer(400, {"error": "bad request"})

    def head_too_long(self) -> Answer:
        return json_answer(431, {"error": "request header fields too large"})

    def _readyz(self, name: str, *, now: datetime) -> Answer:
        statuses = [keeper.status(now=now) for keeper in self._keepers]
        if name:
            status = lease_named(name, statuses)
            if status is None:
                return json_answer(404, {"error": "no such lease"}, route="readyz")
            statuses = [status]
        ready, document = readiness(statuses, files_written=bool(name) or self._files_written())
        return json_answer(200 if ready else 503, document, route="readyz")
