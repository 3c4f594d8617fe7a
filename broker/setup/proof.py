"""Obtain something under a trust that was just made, waiting until the clouds have heard of it
everywhere. Knows time, and no cloud.

Source: aws-api 6.5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker.clock import Clock
from broker.lease import Refused

T = TypeVar("T")

LIMIT_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 30.0

NOT_HEARD_OF_YET: Final = frozenset({"access-denied", "no-provider", "invalid-identity-token"})
"""Refusals, by their word, that a trust ends which is not everywhere yet."""


async def proven(
    attempt: Callable[[], Awaitable[T]],
    *,
    clock: Clock,
    waiting: Callable[[float, Refused], None],
    passing: frozenset[str] = NOT_HEARD_OF_YET,
) -> T:
    """Return what *attempt* obtains, trying again for up to 5 min. *waiting* is told of each pause
    (seconds) and its reason.

    Raises:
        Refused: Of another kind than *passing*; or still so after 5 min.
        Unavailable: As *attempt*.
    """
    waited_s, pause_s = 0.0, FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except Refused as error:
            if error.word not in passing or waited_s >= LIMIT_S:
                raise
            pause_s = min(pause_s, LIMIT_S - waited_s)
            waiting(pause_s, error)
        await clock.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
