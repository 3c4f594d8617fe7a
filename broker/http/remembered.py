"""Remember answers for the second they were given in, by caller and the bytes of the request."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.http.message import Answer, Request

MAX_ENTRIES, MAX_BYTES = 1024, 1 << 20
"""Beyond either, everything is forgotten: that costs a computation, and refuses nobody."""

ONE_SECOND = timedelta(seconds=1)

Key = tuple[Hashable, bytes]
"""What tells callers apart that may get other answers, and the bytes of the request."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer and how it went out, good from ``since`` until the answer changes."""

    request: Request
    answer: Answer
    sent: bytes = field(repr=False)
    since: datetime
    until: datetime
    close: bool


class RememberedAnswers(dict[Key, Remembered]):
    """The answers of one server, each good at times from its ``since`` to before its ``until``.

    Nothing is good across a second, since ``Date`` changes then; whoever changes leases, rules or
    tokens clears it.
    """

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._second: datetime | None = None

    def add(
        self, key: Key, request: Request, answer: Answer, sent: bytes, *, at: datetime, close: bool
    ) -> None:
        """Remember *answer*, given *at* that time, until its second ends or it may change."""
        assert answer.unchanged_until is not None
        second = at.replace(microsecond=0)
        cost = len(key[1]) + len(sent)
        is_full = len(self) >= self._max_entries or self._bytes + cost > self._max_bytes
        if second != self._second or is_full:
            self.clear()
            self._second = second
        if cost > self._max_bytes:
            return
        self[key] = Remembered(
            request=request,
            answer=answer,
            sent=sent,
            since=at,
            until=min(answer.unchanged_until, second + ONE_SECOND),
            close=close,
        )
        self._bytes += cost

    def clear(self) -> None:
        super().clear()
        self._bytes = 0
