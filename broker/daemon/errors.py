"""Why the daemon cannot start, said so that an operator can act on it. Starts nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from broker.http.bind import ListenError


class CannotStart(Exception):
    """The daemon cannot start, or has to end; the text says why and what to do."""

    exit_code = 1


class Misconfigured(CannotStart):
    """What the configuration names must not be used."""

    exit_code = 2


@contextmanager
def explained(place: str = "") -> Iterator[None]:
    """Turn what cannot be used at start into `CannotStart`, about the *place* it begins with."""
    try:
        yield
    except (ListenError, ValueError) as error:
        raise CannotStart(f"{place}{error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CannotStart(
            f"{place}{where}{error.strerror or error}; choose another place, or make room there"
        ) from error
