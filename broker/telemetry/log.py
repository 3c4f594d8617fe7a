"""Write log events as JSON lines or for a terminal."""

import io
import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

Log = structlog.typing.FilteringBoundLogger
Fields = MutableMapping[str, Any]


def logger(*, form: str, level: str, stream: TextIO | None = None) -> Log:
    """Return a log that writes to *stream*, by default stderr.

    *form* is ``json``, ``console`` or ``auto``: console on a terminal. Lines that *stream* does
    not take (a full disk, a reader that left) are lost; serving leases matters more.
    """
    return LogOutput(form=form, level=level, stream=stream).log


class LogOutput:
    """A log whose format and level may change while it is in use; arguments as for `logger`."""

    def __init__(self, *, form: str, level: str, stream: TextIO | None = None) -> None:
        self._out = BestEffortStream(stream or sys.stderr)
        self.change(form=form, level=level)
        processors: list[structlog.typing.Processor] = [
            self._filter,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            printable,
            self._to_text,
        ]
        wrapped = structlog.wrap_logger(
            structlog.WriteLogger(cast(TextIO, self._out)),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )
        self.log: Log = wrapped.bind()

    def change(self, *, form: str, level: str) -> None:
        """Use this format and level from the next line on."""
        self._level = _number_of(level)
        console = form == "console" or (form == "auto" and self._out.isatty())
        self._render: structlog.typing.Processor = (
            structlog.dev.ConsoleRenderer(colors=self._out.isatty())
            if console
            else structlog.processors.JSONRenderer()
        )

    def _filter(self, _: Any, level: str, event: Fields) -> Fields:
        if _number_of(level) < self._level:
            raise structlog.DropEvent
        return event

    def _to_text(self, log: Any, level: str, event: Fields) -> Any:
        return self._render(log, level, event)


def _number_of(level: str) -> int:
    number: int = getattr(logging, level.upper())
    return number


class BestEffortStream(io.TextIOBase):
    """A stream whose write errors are ignored."""

    def __init__(self, out: TextIO | None) -> None:
        """*out* is None in a process that was started without a stderr."""
        self._out = out

    def isatty(self) -> bool:
        return self._out is not None and self._out.isatty()

    def write(self, text: str) -> int:
        # ValueError: it was closed.
        with suppress(OSError, ValueError):
            if self._out is not None:
                self._out.write(text)
                self._out.flush()
        return len(text)


def printable(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters: text from a client must not move an operator's cursor."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event
