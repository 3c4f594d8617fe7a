"""Things that are changed at once and seen by others later. Knows not what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Version(Generic[V]):
    value: V | None
    seen_at: datetime


class Versions(Generic[V]):
    """Values by key, in the order they were first written. IAM itself reads the newest, STS the
    one that has spread: written ``delay_s`` seconds ago or more. Source: aws-api.md 6.5."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self.delay_s = 0.0
        self._now = now
        self._written: dict[str, list[_Version[V]]] = {}

    def write(self, key: str, value: V | None) -> None:
        """Change what stands under *key*; None takes it away."""
        now = self._now()
        spread = [one for one in self._written.get(key, []) if one.seen_at <= now][-1:]
        waiting = [one for one in self._written.get(key, []) if one.seen_at > now]
        version = _Version(value, now + timedelta(seconds=self.delay_s))
        self._written[key] = [*spread, *waiting, version]

    def newest(self, key: str) -> V | None:
        versions = self._written.get(key)
        return versions[-1].value if versions else None

    def seen(self, key: str) -> V | None:
        now = self._now()
        spread = [one.value for one in self._written.get(key, []) if one.seen_at <= now]
        return spread[-1] if spread else None

    def all(self) -> tuple[V, ...]:
        newest = (versions[-1].value for versions in list(self._written.values()))
        return tuple(value for value in newest if value is not None)
