"""Errors that keep the daemon from starting, in words that an operator can act on."""

from collections.abc import Iterator
from contextlib import contextmanager

from broker.http.bind import ListenError


class CannotStart(Exception):
    """The daemon cannot start, or a reload cannot be applied; the text says what to do."""

    exit_code = 1


class Misconfigured(CannotStart):
    """The configuration names something that must not be used."""

    exit_code = 2


@contextmanager
def explained(place: str = "") -> Iterator[None]:
    """Turn errors into `CannotStart`; its text begins with *place*."""
    try:
        yield
    except (ListenError, ValueError) as error:
        raise CannotStart(f"{place}{error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CannotStart(
            f"{place}{where}{error.strerror or error}; choose another place, or make room there"
        ) from error
