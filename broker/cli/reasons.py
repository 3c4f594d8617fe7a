"""Why leases are not live, each said once in a table. Pure."""

from collections.abc import Iterable


def told_once(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return the reason of each (lease, reason), in order; where it is only that another lease of
    the table is not there, that one's name in place of its whole reason once more."""
    rows = list(reasons)
    told = {lease for lease, reason in rows if reason}
    return [
        reason if (of := _other(reason, told)) is None else f"waits for {of}" for _, reason in rows
    ]


def _other(reason: str, leases: set[str]) -> str | None:
    of, colon, _ = reason.partition(": ")
    return of if colon and of in leases else None
