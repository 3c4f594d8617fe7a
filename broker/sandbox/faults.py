"""Scripted faults: which operation answers wrongly next, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Literal

ErrorShape = Literal["status", "relaxed", "details-bin", "grpc-headers", "http-status"]
"""How Namespace spells an error. Source: namespace-api.md 9.1, in its order."""

EVERY_OPERATION = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted answer.

    With neither status, code, body, reset nor truncated it only delays the true answer, by
    ``delay_s`` real seconds.

    ``count`` is how often it still happens; None: always. ``truncated`` announces the
    whole body (the true one when none is scripted), sends half of it and hangs up.
    """

    status: int | None = None
    code: str | int | None = None
    message: str | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reset: bool = False
    truncated: bool = False
    shape: ErrorShape | None = None
    count: int | None = None

    @property
    def replaces_the_answer(self) -> bool:
        return self.status is not None or self.code is not None or self.body is not None


class Faults:
    """The script: faults by operation name, taken in the order they were added."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_operation: dict[str, list[Fault]] = {}

    def add(self, operation: str, fault: Fault) -> None:
        """Queue *fault*; one without a count is replaced by whatever is added after it."""
        with self._lock:
            queue = self._by_operation.setdefault(operation, [])
            queue[:] = [earlier for earlier in queue if earlier.count is not None]
            queue.append(fault)

    def remove(self, operation: str | None = None) -> None:
        with self._lock:
            if operation is None:
                self._by_operation.clear()
            else:
                self._by_operation.pop(operation, None)

    def take(self, operation: str) -> Fault | None:
        """Return the fault for this call of *operation*, if any, and count it."""
        with self._lock:
            for name in (operation, EVERY_OPERATION):
                queue = self._by_operation.get(name)
                if queue:
                    return _next_of(queue)
        return None


def _next_of(queue: list[Fault]) -> Fault:
    fault = queue[0]
    if fault.count is None:
        return fault
    if fault.count <= 1:
        del queue[0]
    else:
        queue[0] = replace(fault, count=fault.count - 1)
    return fault
