"""Send the service's state to systemd (sd_notify), without waiting; silent without systemd."""

import os
import socket
import time
from array import array
from collections import deque
from collections.abc import MutableMapping

STATUS_LONGEST = 300
LONGEST_USEC = 20
"""Digits of the largest 64-bit number."""

UNSENT_MOST = 32
"""Messages that wait for room in systemd's queue. Beyond it the oldest is dropped, but none about a
descriptor: of those, none may be missing."""

BUSY = (BlockingIOError, InterruptedError)


class Notifier:
    """Sends messages to systemd's notification socket, in order.

    What it has no room for is sent before the next message, or at the next `flush`.

    Source: sd_notify(3), sd_watchdog_enabled(3).
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        """Send to *address*, a path or an abstract name with ``@``; None sends nothing.

        After *watchdog_s* of silence systemd kills us; None: it never does.
        """
        self.watchdog_s = watchdog_s
        self._address = _socket_address(address)
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        self._socket = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            if self._address
            else None
        )
        if self._socket is not None:
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> "Notifier":
        """Return the notifier for the process *pid*, and remove the variables from *environ*.

        Programs that we start must not speak for us.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        watched_pid, usec = environ.pop("WATCHDOG_PID", None), environ.pop("WATCHDOG_USEC", "")
        is_number = usec.isascii() and usec.isdigit() and len(usec) <= LONGEST_USEC
        is_watched = is_number and watched_pid in (None, str(pid))
        return cls(address, watchdog_s=int(usec) / 1e6 or None if is_watched else None)

    @property
    def is_connected(self) -> bool:
        """Whether there is a systemd to notify."""
        return self._socket is not None

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait for room."""
        return bool(self._unsent)

    def ready(self, status: str) -> None:
        """Report that we serve, at first or again after `reloading`."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={_one_line(status)}")

    def starting(self, *, limit_s: float) -> None:
        """Ask for that many seconds until `ready`, where ``TimeoutStartSec=`` is shorter."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(limit_s * 1e6)}")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded; `ready` ends it."""
        now_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_usec}")

    def stopping(self, status: str) -> None:
        """Report that we are stopping."""
        self._send("STOPPING=1", f"STATUS={_one_line(status)}")

    def watchdog(self) -> None:
        """Keep the watchdog alive; to be called at least twice in each ``watchdog_s``."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")
        else:
            self.flush()

    def store(self, descriptor: int, name: str) -> None:
        """Store *descriptor* with systemd, to be passed to our next process.

        Raises:
            OSError: There is no room for it now, and no descriptor left to send it later.
        """
        # FDPOLL=0: a file in memory cannot be polled.
        self._send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptor=descriptor)

    def unstore(self, name: str) -> None:
        """Remove every descriptor that was stored under *name*."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def flush(self) -> None:
        """Send the messages that wait."""
        while self._unsent:
            text, descriptor = self._unsent[0]
            if not self._try_to_send(text, descriptor):
                return
            self._drop_first()

    def close(self) -> None:
        while self._unsent:
            self._drop_first()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str, descriptor: int | None = None) -> None:
        text = "\n".join(lines).encode()
        self.flush()
        if not self._unsent and self._try_to_send(text, descriptor):
            return
        if len(self._unsent) >= UNSENT_MOST:
            self._drop_one()
        self._unsent.append((text, None if descriptor is None else os.dup(descriptor)))

    def _try_to_send(self, text: bytes, descriptor: int | None) -> bool:
        """Send one message; False when there is no room for it now."""
        if self._socket is None:
            return True
        try:
            self._socket.sendmsg([text], _ancillary(descriptor), 0, self._address)
        except BUSY:
            return False
        except OSError:
            return True  # systemd is gone; there is nobody to send to
        return True

    def _drop_one(self) -> None:
        for index, (text, _) in enumerate(self._unsent):
            if not text.startswith(b"FDSTORE"):
                del self._unsent[index]
                return
        self._drop_first()

    def _drop_first(self) -> None:
        _, descriptor = self._unsent.popleft()
        if descriptor is not None:
            os.close(descriptor)


def _socket_address(address: str | None) -> str:
    """Return the address as the socket module has it; empty if it is not of a Unix socket."""
    if address and address.startswith("@"):
        return "\0" + address[1:]
    return address if address and address.startswith("/") else ""


def _ancillary(descriptor: int | None) -> list[tuple[int, int, bytes]]:
    if descriptor is None:
        return []
    # socket.send_fds leaves out the address before Python 3.12.
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]).tobytes())]


def _one_line(status: str) -> str:
    return " ".join(status.split())[:STATUS_LONGEST]
