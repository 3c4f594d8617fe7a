"""Record of the requests that the sandbox has received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as it arrived, and the status it was answered with.

    ``status`` is None while the answer is outstanding, and stays so when the connection
    was reset. ``params`` are the form fields, or the members of the JSON body.
    """

    operation: str
    method: str
    path: str
    at: datetime
    status: int | None = None
    access_key_id: str | None = None
    session_token: str | None = field(default=None, repr=False)
    authorization_present: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedIdentity:
    """Whose signature verified on one request: the proof that a client was served (C-88)."""

    operation: str
    access_key_id: str
    session_token: str | None = field(repr=False)
    arn: str


class CallRecord:
    """The calls of one cloud, in order of arrival; safe to read from another thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: list[Call] = []

    def arrived(self, call: Call) -> int:
        """Keep *call* and return the number under which :meth:`answered` knows it."""
        with self._lock:
            self._calls.append(call)
            return len(self._calls) - 1

    def answered(self, number: int, status: int) -> None:
        with self._lock:
            self._calls[number] = replace(self._calls[number], status=status)

    def snapshot(self, operation: str | None = None) -> tuple[Call, ...]:
        with self._lock:
            return tuple(c for c in self._calls if operation in (None, c.operation))
