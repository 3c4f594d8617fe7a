"""Remember the last use of each role and how often each rule matched, for `status`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broker.access.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUse:
    """When credentials of a role were last served, to whom, and by which rule."""

    at: datetime
    caller: Caller
    rule: str


class Usage:
    """The last use of each role, and how often each rule matched, since the start."""

    def __init__(self, rules: tuple[str, ...] = (), *, before: "Usage | None" = None) -> None:
        """Count the matches of *rules*; keep the last uses of *before*, a usage of other rules."""
        self._last: dict[str, LastUse] = {} if before is None else dict(before._last)
        self._matched: dict[str, int] = dict.fromkeys(rules, 0)
        self._matched_at: dict[str, datetime] = {}

    def note(self, rule: str, caller: Caller, *, role: str, at: datetime) -> None:
        """Note that *rule* decided a request of *caller*, who got *role*, unless ``none``."""
        if rule in self._matched:
            self._matched[rule] += 1
            self._matched_at[rule] = at
        if role != "none":
            self._last[role] = LastUse(at=at, caller=caller, rule=rule)

    def last_used(self) -> dict[str, dict[str, Any]]:
        """Return the last use of each role that was used.

        Shape: ``{"at", "uid", "unit", "container", "address", "rule"}``, ``at`` as an instant.
        """
        return {
            role: {
                "at": use.at,
                "uid": use.caller.uid,
                "unit": use.caller.unit or use.caller.user_unit,
                "container": use.caller.container,
                "address": use.caller.address,
                "rule": use.rule,
            }
            for role, use in self._last.items()
        }

    def rule_matches(self) -> list[dict[str, Any]]:
        """Return ``{"name", "matched", "last_matched_at"}`` of each rule, in order."""
        return [
            {"name": name, "matched": count, "last_matched_at": self._matched_at.get(name)}
            for name, count in self._matched.items()
        ]
