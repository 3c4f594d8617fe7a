"""Where audit lines go: a file, the journal, standard output. Each write may fail or take long."""

import os
import select
import socket
import stat
import sys
from pathlib import Path
from typing import Protocol

JOURNAL = "/run/systemd/journal/socket"
PATIENCE_S = 1.0
"""How long a write waits for who should read; then it has failed, and is tried again later."""


class Sink(Protocol):
    """Takes lines, whole ones, each ending in a newline."""

    def write(self, line: bytes) -> None:
        """Write *line*.

        Raises:
            OSError: It is not written, or not all of it; written again, it is on a line of its own.
        """

    def reopen(self) -> None:
        """Go on in what is there now under the name, after a rotation.

        Raises:
            OSError, ValueError: It cannot be opened; what was open before still is.
        """

    def close(self) -> None: ...


def sink_for(to: str) -> Sink:
    """Return where *to* leads: ``journald``, ``stdout``, or the path of a file, which is opened.

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
    # Never by its number: where it was closed, that has become another file's, or a client's.
    if sys.__stdout__ is None:
        raise ValueError("standard output is closed; open it, or name a file or journald")
    return sys.__stdout__.fileno()


class FileSink:
    """A file that lines are appended to; made 0600 when it is not there."""

    def __init__(self, path: Path) -> None:
        """Raises:
        OSError, ValueError: It cannot be used.
        """
        self._path = path
        self._tail = _tail_of(path)

    def write(self, line: bytes) -> None:
        if os.fstat(self._tail.descriptor).st_nlink == 0:
            self.reopen()  # it was removed, and nobody told us
        self._tail.write(line)

    def reopen(self) -> None:
        tail = _tail_of(self._path)
        self.close()
        self._tail = tail

    def close(self) -> None:
        os.close(self._tail.descriptor)


class StreamSink:
    """A stream that is open already, most likely a pipe that somebody may not read."""

    def __init__(self, descriptor: int, *, patience_s: float = PATIENCE_S) -> None:
        self._tail = Tail(descriptor, is_torn=False)
        self._patience_s = patience_s

    def write(self, line: bytes) -> None:
        ready = select.poll()
        ready.register(self._tail.descriptor, select.POLLOUT)
        if not ready.poll(self._patience_s * 1000):
            raise TimeoutError("nobody reads it")
        self._tail.write(line)

    def reopen(self) -> None:
        """Nothing: there is no name to open it by."""

    def close(self) -> None:
        """Nothing: it is not ours."""


class JournalSink:
    """systemd's journal, by its own protocol: one datagram for each line.

    Source: systemd, "Native Journal Protocol".
    """

    def __init__(self, address: str = JOURNAL, *, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(patience_s)

    def write(self, line: bytes) -> None:
        # Each time by name: the journal makes its socket anew when it restarts.
        self._socket.sendto(
            b"PRIORITY=6\nSYSLOG_IDENTIFIER=namespace-broker\nNAMESPACE_BROKER_AUDIT=1\n"
            b"MESSAGE=" + line,
            self._address,
        )

    def reopen(self) -> None:
        """Nothing: it is found by name each time."""

    def close(self) -> None:
        self._socket.close()


class Tail:
    """The end of what is written to, which may be within a line: the disk was full just then, or
    the process before us was killed."""

    def __init__(self, descriptor: int, *, is_torn: bool) -> None:
        self.descriptor = descriptor
        self._is_torn = is_torn

    def write(self, line: bytes) -> None:
        """Write *line* on a line of its own.

        Raises:
            OSError: Not all of it is written.
        """
        data = b"\n" + line if self._is_torn else line
        written = 0
        while written < len(data):
            written += os.write(self.descriptor, data[written:])
            self._is_torn = not data[:written].endswith(b"\n")


def _tail_of(path: Path) -> Tail:
    descriptor = _opened(path)
    size = os.fstat(descriptor).st_size
    is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    return Tail(descriptor, is_torn=is_torn)


def _opened(path: Path) -> int:
    # Non-blocking, or a pipe without reader in its place would hold us for ever.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
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
