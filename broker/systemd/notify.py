"""Tell systemd how we are (sd_notify). Never waits; silent without systemd."""

import os
import socket
import time
from array import array
from collections import deque
from collections.abc import MutableMapping

STATUS_LONGEST = 300
LONGEST_USEC = 20
"""Digits of the largest number that systemd can write there."""

UNSENT_MOST = 32
"""Messages that wait for room in systemd's queue; beyond it the oldest goes that is about no
descriptor: of those about descriptors, none must be missing."""

BUSY = (BlockingIOError, InterruptedError)


class Notifier:
    """Sends what we say to the socket that systemd named, in the order in which we said it.

    What that has no room for is sent before the next message, or at the next `flush`.

    Source: sd_notify(3), sd_watchdog_enabled(3).
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        """*address* is a path, or a name that begins with ``@``; None: nobody listens.

        *watchdog_s* is how long we may be silent before systemd kills us, None for ever.
        """
        self.watchdog_s = watchdog_s
        self._address = _as_python_has_it(address)
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
        """Return what speaks for the process *pid*, and forget the variables: programs that we
        start do not speak for us."""
        address = environ.pop("NOTIFY_SOCKET", None)
        watched, usec = environ.pop("WATCHDOG_PID", None), environ.pop("WATCHDOG_USEC", "")
        is_number = usec.isascii() and usec.isdigit() and len(usec) <= LONGEST_USEC
        is_watched = is_number and watched in (None, str(pid))
        return cls(address, watchdog_s=int(usec) / 1e6 or None if is_watched else None)

    @property
    def is_heard(self) -> bool:
        """Say whether there is a systemd to tell."""
        return self._socket is not None

    @property
    def has_unsent(self) -> bool:
        """Say whether something waits for room."""
        return bool(self._unsent)

    def ready(self, status: str) -> None:
        """Tell that we serve, at first or again after `reloading`."""
        self._say("READY=1", f"STATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """Tell what `systemctl status` shows of us."""
        self._say(f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Tell that the configuration is read again; `ready` ends it."""
        now_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now_usec}")

    def stopping(self, status: str) -> None:
        """Tell that we are leaving."""
        self._say("STOPPING=1", f"STATUS={_one_line(status)}")

    def watchdog(self) -> None:
        """Tell that we are alive, where systemd wants to know; to be called twice as often as
        ``watchdog_s`` at least."""
        if self.watchdog_s is not None:
            self._say("WATCHDOG=1")
        else:
            self.flush()

    def store(self, descriptor: int, name: str) -> None:
        """Have systemd keep what *descriptor* refers to, and hand it to our next process.

        Raises:
            OSError: There is no room for it now, and no descriptor left to keep it for later.
        """
        # FDPOLL: a file in memory has nothing to be polled for.
        self._say("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptor=descriptor)

    def unstore(self, name: str) -> None:
        """Have systemd let go of every descriptor that was stored under *name*."""
        self._say("FDSTOREREMOVE=1", f"FDNAME={name}")

    def flush(self) -> None:
        """Send what there was no room for."""
        while self._unsent:
            text, descriptor = self._unsent[0]
            if not self._sent(text, descriptor):
                return
            self._forget_first()

    def close(self) -> None:
        while self._unsent:
            self._forget_first()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str, descriptor: int | None = None) -> None:
        text = "\n".join(lines).encode()
        self.flush()
        if not self._unsent and self._sent(text, descriptor):
            return
        if len(self._unsent) >= UNSENT_MOST:
            self._forget_one()
        self._unsent.append((text, None if descriptor is None else os.dup(descriptor)))

    def _sent(self, text: bytes, descriptor: int | None) -> bool:
        """Send one message; False when there is no room for it now."""
        if self._socket is None:
            return True
        try:
            self._socket.sendmsg([text], _with(descriptor), 0, self._address)
        except BUSY:
            return False
        except OSError:
            return True  # nobody listens any more, and nothing can be done about it
        return True

    def _forget_one(self) -> None:
        for index, (text, _) in enumerate(self._unsent):
            if not text.startswith(b"FDSTORE"):
                del self._unsent[index]
                return
        self._forget_first()

    def _forget_first(self) -> None:
        _, descriptor = self._unsent.popleft()
        if descriptor is not None:
            os.close(descriptor)


def _as_python_has_it(address: str | None) -> str:
    """Return the address of a Unix socket; empty for none, or one of another kind."""
    if address and address.startswith("@"):
        return "\0" + address[1:]
    return address if address and address.startswith("/") else ""


def _with(descriptor: int | None) -> list[tuple[int, int, bytes]]:
    if descriptor is None:
        return []
    # socket.send_fds leaves out the address before Python 3.12.
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]).tobytes())]


def _one_line(status: str) -> str:
    return " ".join(status.split())[:STATUS_LONGEST]
