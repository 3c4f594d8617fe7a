"""The errors of commands: one line that says what happened, to what, and what to do next."""

from __future__ import annotations

import sys

FAILED = 1
MISUSED = 2


class Failure(Exception):
    """The command failed: exit 1. ``place`` is the flag or path at fault."""

    exit_code = FAILED

    def __init__(self, place: str, what: str, next_step: str = "") -> None:
        super().__init__(": ".join(part for part in (place, what) if part))
        self.next_step = next_step

    @property
    def line(self) -> str:
        text = f"{self}; {self.next_step}" if self.next_step else str(self)
        return "".join(c if c.isprintable() else " " for c in text)


class Misuse(Failure):
    """Wrong use or configuration: exit 2."""

    exit_code = MISUSED


class NotRunning(Failure):
    """No broker answers in any of the directories where one may be."""


def complain(line: str) -> None:
    """Print one line about a failure on stderr."""
    from broker.telemetry.log import complaint

    try:
        print(complaint(line), file=sys.stderr, flush=True)
    except OSError:
        return  # nobody reads it, but the exit code still tells
