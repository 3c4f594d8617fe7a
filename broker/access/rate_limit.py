"""Limit how much of our time each user may take with lookups that are slow."""

import time
from collections.abc import Callable

MOST_USERS = 1024


class RateLimit:
    """A budget of seconds of work for each uid.

    It grows by *share* of the time that passes, up to *burst_s*. A user who has spent it waits
    alone. Root, who could stop us anyway, is not limited.
    """

    def __init__(
        self,
        *,
        share: float = 0.02,
        burst_s: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._burst_s = burst_s
        self._monotonic = monotonic
        self._spent: dict[int, tuple[float, float]] = {}  # seconds left, and when that was

    def allows(self, uid: int) -> bool:
        return uid == 0 or self._left_s(uid) > 0

    def spend(self, uid: int, seconds: float) -> None:
        """Take *seconds* off the budget, which may become negative."""
        left_s = self._left_s(uid) - seconds
        if len(self._spent) >= MOST_USERS:
            self._spent = {each: self._spent[each] for each in self._spent if not self._full(each)}
        self._spent[uid] = (left_s, self._monotonic())

    def _left_s(self, uid: int) -> float:
        left_s, then = self._spent.get(uid, (self._burst_s, 0.0))
        return min(self._burst_s, left_s + (self._monotonic() - then) * self._share)

    def _full(self, uid: int) -> bool:
        return self._left_s(uid) >= self._burst_s
