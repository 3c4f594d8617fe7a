"""Whose turn it is, so that nobody who asks much makes the others wait. Knows no request."""

import asyncio
from collections import deque
from collections.abc import Callable

SHARE = 2
"""Requests of one caller that are answered in one turn of the event loop: together about a tenth of
a millisecond's work. The rest waits for the next turn, after everybody else's."""


class Turns:
    """Shares each turn of the event loop among callers, however many connections each has."""

    def __init__(self, *, share: int = SHARE) -> None:
        self._share = share
        self._spent: dict[str, int] = {}
        self._waiting: dict[str, deque[Callable[[], None]]] = {}

    def may_go_on(self, caller: str) -> bool:
        """Say whether *caller* has something left of its share, and nothing of its own waits."""
        return caller not in self._waiting and self._spent.get(caller, 0) < self._share

    def spend(self, caller: str, *, requests: int) -> None:
        """Take from the share of *caller*; what could not be read as a request costs as one."""
        if not self._spent:
            # What is put down now runs at the next turn's beginning, before what is read in it.
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._spent[caller] = self._spent.get(caller, 0) + max(1, requests)

    def wait(self, caller: str, go_on: Callable[[], None]) -> None:
        """Call *go_on*, which spends and does not fail, when it is *caller*'s turn."""
        self._waiting.setdefault(caller, deque()).append(go_on)

    def _next_turn(self) -> None:
        self._spent.clear()
        for caller, waiting in list(self._waiting.items()):
            while waiting and self._spent.get(caller, 0) < self._share:
                waiting.popleft()()
            if not waiting:
                del self._waiting[caller]
