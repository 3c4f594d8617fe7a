"""Write audit lines to a file, the journal or standard output; each write may fail or block."""

import os
import select
import socket
import stat
import sys
from pathlib import Path
from typing import Protocol

from broker.files.private import open_trusted_directory

JOURNAL = "/run/systemd/journal/socket"
WRITE_TIMEOUT_S = 1.0
"""How long a write waits for the reader; then it has failed, and is tried again later."""


class PartlyWritten(OSError):
    """Some of the lines are written whole: the first ``lines``."""

    def __init__(self, error: OSError, *, lines: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.lines = lines


class Sink(Protocol):
    """Takes whole lines, each with its newline."""

    max_lines: int
    """How many lines one write may take."""

    def write(self, data: bytes) -> None:
        """Write *data*, which is one line or several.

        Raises:
            PartlyWritten: Only some lines are written.
            OSError: No line is written whole; what is written again begins a new line.
        """

    def reopen(self) -> None:
        """Open the file of that name again, after a rotation.

        Raises:
            OSError, ValueError: It cannot be opened; the one before stays open.
        """

    def close(self) -> None: ...


def sink_for(to: str) -> Sink:
    """Open the destination *to*: ``journald``, ``stdout``, or the path of a file.

    Raises:
        OSError, ValueError: The file cannot be used, or there is no standard output.
    """
    match to:
        case "journald":
            return JournalSink()
        case "stdout":
            return StreamSink(_standard_output())
        case _:
            return FileSink(Path(to))


def _standard_output() -> int:
    # Not by number: where it was closed, the number belongs to another file or a client by now.
    if sys.__stdout__ is None:
        raise ValueError("standard output is closed; open it, or name a file or journald")
    return sys.__stdout__.fileno()


class FileSink:
    """A file that lines are appended to; made 0600, with its directory, when missing."""

    max_lines = 64

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError, ValueError: It cannot be used.
        """
        self._path = path
        self._appender = _open_appender(path)

    def write(self, data: bytes) -> None:
        if os.fstat(self._appender.descriptor).st_nlink == 0:
            self.reopen()  # it was removed
        try:
            self._appender.write(data)
        except OSError as error:
            error.filename = str(self._path)
            raise

    def reopen(self) -> None:
        appender = _open_appender(self._path)
        self.close()
        self._appender = appender

    def close(self) -> None:
        os.close(self._appender.descriptor)


class StreamSink:
    """A stream that is open already, usually a pipe whose reader may be stuck."""

    max_lines = 1

    def __init__(self, descriptor: int, *, timeout_s: float = WRITE_TIMEOUT_S) -> None:
        self._appender = LineAppender(descriptor, is_torn=False)
        self._timeout_s = timeout_s

    def write(self, data: bytes) -> None:
        ready = select.poll()
        ready.register(self._appender.descriptor, select.POLLOUT)
        if not ready.poll(self._timeout_s * 1000):
            raise TimeoutError("nobody reads it")
        self._appender.write(data)

    def reopen(self) -> None:
        """Do nothing: it has no name to open it by."""

    def close(self) -> None:
        """Do nothing: it is the process's."""


class JournalSink:
    """systemd's journal, by its own protocol: one datagram for each line.

    Source: systemd, "Native Journal Protocol".
    """

    max_lines = 1

    def __init__(self, address: str = JOURNAL, *, timeout_s: float = WRITE_TIMEOUT_S) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout_s)

    def write(self, data: bytes) -> None:
        # By name each time: the journal creates its socket again when it restarts.
        self._socket.sendto(
            b"PRIORITY=6\nSYSLOG_IDENTIFIER=namespace-broker\nNAMESPACE_BROKER_AUDIT=1\n"
            b"MESSAGE=" + data,
            self._address,
        )

    def reopen(self) -> None:
        """Do nothing: it is addressed by name each time."""

    def close(self) -> None:
        self._socket.close()


class LineAppender:
    """Appends to a descriptor whose last line may be torn: the disk was full, or we were killed."""

    def __init__(self, descriptor: int, *, is_torn: bool) -> None:
        self.descriptor = descriptor
        self._is_torn = is_torn

    def write(self, data: bytes) -> None:
        """Write *data*, on a new line.

        Raises:
            OSError, PartlyWritten: As `Sink.write`.
        """
        prefix = b"\n" if self._is_torn else b""
        data = prefix + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
                self._is_torn = not data[:written].endswith(b"\n")
        except OSError as error:
            lines = data.count(b"\n", len(prefix), written)
            if lines:
                raise PartlyWritten(error, lines=lines) from error
            raise


def _open_appender(path: Path) -> LineAppender:
    descriptor = _open(path)
    size = os.fstat(descriptor).st_size
    is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    return LineAppender(descriptor, is_torn=is_torn)


def _open(path: Path) -> int:
    # Non-blocking, or a pipe without reader in its place would hold us for ever.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open_trusted_directory(path.parent, make=True) as directory:
        try:
            descriptor = os.open(path.name, flags, 0o600, dir_fd=directory)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    if wrong := _objection(os.fstat(descriptor)):
        os.close(descriptor)
        raise ValueError(f"{path} {wrong}")
    return descriptor


def _objection(found: os.stat_result) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file; name another, or journald or stdout"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {found.st_uid}, who could change it; it must be root's or ours"
    if stat.S_IMODE(found.st_mode) & 0o022:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}; others must not write to it"
    return None
