"""A lease, the errors of the sources that issue one, and when to renew it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Generic[T_co]):
    """A value and when it expires; without ``expires_at`` it ends only by revocation."""

    value: T_co = field(repr=False)
    issued_at: datetime
    expires_at: datetime | None

    def is_live(self, *, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


class SourceError(Exception):
    """A source could not issue a lease. The text is for the operator and names the next step.

    ``word`` is a fixed class word that may be shown to anybody (``/readyz``), never upstream text.
    """

    word = "error"
    lease: str | None = None
    """The lease whose keeper failed, if the error came from there; the text begins with it."""

    def __init__(self, message: str, *, word: str | None = None) -> None:
        super().__init__(message)
        if word is not None:
            self.word = word


class Unavailable(SourceError):
    """A passing fault, such as no answer: the same request may work later.

    ``retry_after_s`` is the pause that upstream asked for, if any.
    """

    word = "unavailable"

    def __init__(
        self, message: str, *, word: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, word=word)
        self.retry_after_s = retry_after_s


class Refused(SourceError):
    """A refusal: asking again does not help until somebody changes something."""

    word = "refused"


class Stale(SourceError):
    """Upstream refused the input, as an expired token: renew the input once and ask again.

    It never leaves a source, which raises `Refused` after the second time.
    """

    word = "stale-input"


class NotReady(Exception):
    """There is no live lease; the text says why."""


class Source(Protocol[T_co]):
    """Issues one lease when asked; caching, retries, log and metrics are the keeper's."""

    async def fetch(self) -> Lease[T_co]:
        """Issue a lease.

        Raises:
            Unavailable: A passing fault; ask again later.
            Refused: A refusal.
        """


class Renewable(Source[T_co], Protocol[T_co]):
    """A source that holds a lease and can replace one that was found stale."""

    async def newer_than(self, lease: Lease[object]) -> Lease[T_co]:
        """Issue a lease other than *lease*, which was found stale.

        Raises:
            Unavailable, Refused: As `fetch`; also when upstream still has only *lease*.
        """


def renew_at(lease: Lease[object], *, jitter: float) -> datetime | None:
    """Return when to renew *lease*, or None if it does not expire.

    That is halfway through its life, or up to a tenth of its life earlier, by *jitter* (0 to 1), so
    that a fleet does not ask at once. Never later: a one-hour lease then always has 30 minutes left
    while all is well, and botocore over IMDS stretches what has less than 25.

    Source: sdk-client-contract C-50, C-51.
    """
    if lease.expires_at is None:
        return None
    lifetime = lease.expires_at - lease.issued_at
    return lease.issued_at + lifetime * (0.5 - 0.1 * jitter)


def backoff_s(failures: int, *, jitter: float, first_s: float, longest_s: float) -> float:
    """Return the pause after that many failures in a row (1 or more), in seconds.

    It doubles from *first_s* up to *longest_s*, less up to half of it by *jitter* (0 to 1).
    """
    pause_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return pause_s * (1.0 - 0.5 * jitter)
