"""Write log events as JSON lines, for a terminal, or for the journal."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TextIO

from broker.telemetry.line_writer import LineWriter, write_to

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
PRIORITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""How syslog and the journal count levels. Source: sd-daemon(3)."""


class Log:
    """Takes events: a fixed name, ``thing.happened``, and the keys that vary."""

    def __init__(
        self,
        emit: Callable[[str, str, Mapping[str, object]], None],
        dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        self._emit = emit
        self._dropped = dropped

    @property
    def dropped(self) -> int:
        """Lines that were not written, since the start."""
        return self._dropped()

    def debug(self, event: str, /, **keys: object) -> None:
        self._emit("debug", event, keys)

    def info(self, event: str, /, **keys: object) -> None:
        self._emit("info", event, keys)

    def warning(self, event: str, /, **keys: object) -> None:
        self._emit("warning", event, keys)

    def error(self, event: str, /, **keys: object) -> None:
        self._emit("error", event, keys)


def logger(*, form: str, level: str, stream: TextIO | None = None) -> Log:
    """Return a log that writes to *stream*, by default stderr, before it returns.

    *form* is ``json``, ``console`` or ``auto``: console on a terminal. Lines that *stream* does
    not take (a full disk, a reader that left) are lost; serving leases matters more.
    """
    write = write_to(stream or sys.stderr)

    def attempt(line: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            write(line)

    return _Output(attempt, form=form, level=level, stream=stream or sys.stderr).log


class LogOutput:
    """A log that is written in a thread, and whose format and level may change meanwhile.

    Arguments are as for `logger`. Where lines had to be dropped, ``log.dropped`` says how many.
    """

    def __init__(self, *, form: str, level: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._writer = LineWriter(write_to(stream), gap=self._gap)
        self._output = _Output(self._writer.put, form=form, level=level, stream=stream)
        self.log = Log(self._output.emit, lambda: self._writer.dropped)

    def change(self, *, form: str, level: str) -> None:
        """Use this format and level from the next line on."""
        self._output.change(form=form, level=level)

    def close(self) -> None:
        """Write what waits; a reader that is stuck is not waited for."""
        self._writer.close()

    def _gap(self, lines: int) -> str:
        return self._output.line("warning", "log.dropped", {"lines": lines})


class _Output:
    """Turns events into lines."""

    def __init__(
        self, write: Callable[[str], None], *, form: str, level: str, stream: TextIO | None
    ) -> None:
        self.log = Log(self.emit)
        self._write = write
        self._is_terminal = stream is not None and stream.isatty()
        self._has_colors = self._is_terminal and not os.environ.get("NO_COLOR")
        self._is_journal = _is_journal(stream)
        self.change(form=form, level=level)

    def change(self, *, form: str, level: str) -> None:
        self._level = LEVELS[level]
        self._is_console = form == "console" or (form == "auto" and self._is_terminal)

    def line(self, level: str, event: str, keys: Mapping[str, object]) -> str:
        timestamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields = {"event": event, "level": level, "timestamp": timestamp, **keys}
        render = _renderer(
            console=self._is_console, journal=self._is_journal, colors=self._has_colors
        )
        text = render(None, level, {name: _printable(value) for name, value in fields.items()})
        return f"<{PRIORITIES[level]}>{text}\n" if self._is_journal else f"{text}\n"

    def emit(self, level: str, event: str, keys: Mapping[str, object]) -> None:
        if LEVELS[level] >= self._level:
            self._write(self.line(level, event, keys))


@cache
def _renderer(*, console: bool, journal: bool, colors: bool) -> Callable[..., Any]:
    """Return the structlog renderer of such lines.

    It is loaded with the first line: that takes longer than a command that logs nothing.
    """
    from structlog import dev
    from structlog.processors import JSONRenderer

    if not console:
        return JSONRenderer(default=str)
    plain = partial(dev.KeyValueColumnFormatter, None, "", "", str)
    styles = dev.ConsoleRenderer.get_default_level_styles(colors)
    level = dev.LogLevelColumnFormatter(styles, dev.RESET_ALL if colors else "")
    columns = [
        # The journal has time and level of its own.
        dev.Column("timestamp", _nothing if journal else plain()),
        dev.Column("level", _nothing if journal else level),
        dev.Column("event", plain(width=0 if journal else 20)),
        dev.Column("", dev.KeyValueColumnFormatter("", "", "", _value)),
    ]
    return dev.ConsoleRenderer(columns=columns, sort_keys=False)


def _nothing(key: str, value: object) -> str:
    return ""


def complaint(text: str) -> str:
    """Return the last line of a program that ends by an error; on the journal with its priority."""
    prefix = f"<{PRIORITIES['error']}>" if _is_journal(sys.stderr) else ""
    return f"{prefix}namespace-broker: {text}"


def _is_journal(stream: TextIO | None) -> bool:
    """Say whether *stream* is the one that systemd connected to the journal.

    Source: systemd.exec(5), ``JOURNAL_STREAM``.
    """
    try:
        found = os.fstat(-1 if stream is None else stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _printable(value: object) -> object:
    """Escape control characters: text from a client must not move an operator's cursor."""
    if isinstance(value, str) and not value.isprintable():
        return value.encode("unicode_escape").decode("ascii")
    return value


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    is_bare = text and not any(character in text for character in ' "=')
    return text if is_bare or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)
