"""Take over the sockets and stored descriptors that systemd passes to the service."""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar

from broker.systemd.fdstore import LEASES, content_of

T = TypeVar("T")

FIRST_DESCRIPTOR = 3
LONGEST_NUMBER = 9
SURFACES: Final = ("imds", "container", "namespace", "ops", "control")
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class NotServable(ValueError):
    """systemd passed a descriptor that cannot be served on; the text says what to do."""


def nothing() -> Mapping[str, T]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What systemd passed to this process.

    ``sockets`` are listening stream sockets by ``FileDescriptorName=``, open as long as the
    process: whoever serves on one takes a duplicate. ``kept`` are the documents in the descriptor
    store, by name. ``warnings`` are about descriptors that were of no use.
    """

    sockets: Mapping[str, tuple[socket.socket, ...]] = field(default_factory=nothing)
    kept: Mapping[str, bytes] = field(default_factory=nothing, repr=False)
    warnings: tuple[str, ...] = ()

    def of(self, *names: str) -> tuple[socket.socket, ...]:
        """Return the sockets of those names, in that order."""
        return tuple(sock for name in names for sock in self.sockets.get(name, ()))


def take_inherited(
    environ: MutableMapping[str, str], pid: int, *, first: int = FIRST_DESCRIPTOR
) -> Inherited:
    """Return what systemd passed to the process *pid*, as descriptors from *first* on.

    The variables that say so are removed from *environ*: programs that we start must not take the
    descriptors again.

    Raises:
        NotServable: A descriptor named for a surface is not a listening stream socket.

    Source: sd_listen_fds(3).
    """
    variables = {name: environ.pop(name) for name in VARIABLES if name in environ}
    if variables.get("LISTEN_PID") != str(pid):
        return Inherited()
    sockets: dict[str, tuple[socket.socket, ...]] = {}
    kept: dict[str, bytes] = {}
    warnings: list[str] = []
    try:
        for descriptor, name in _named(variables, first):
            os.set_inheritable(descriptor, False)
            if name in SURFACES:
                sockets[name] = (*sockets.get(name, ()), _listening(descriptor, name))
            elif name in LEASES:
                warnings += _read_into(kept, descriptor, name)
            else:
                os.close(descriptor)
                warnings.append(
                    f"systemd passed a descriptor with the unknown name {name!a}, which is closed; "
                    f"FileDescriptorName= may be {', '.join(SURFACES)}"
                )
        if len(sockets.get("control", ())) > 1:
            raise NotServable("control: systemd passed several sockets; leave one")
    except NotServable:
        for each in sockets.values():
            for sock in each:
                sock.close()
        raise
    return Inherited(
        sockets=MappingProxyType(sockets), kept=MappingProxyType(kept), warnings=tuple(warnings)
    )


def _named(variables: Mapping[str, str], first: int) -> Iterator[tuple[int, str]]:
    """Yield each descriptor and its name.

    Raises:
        NotServable: There are fewer than LISTEN_FDS says.
    """
    count = variables.get("LISTEN_FDS", "0")
    names = variables.get("LISTEN_FDNAMES", "").split(":")
    if not count.isascii() or not count.isdigit() or len(count) > LONGEST_NUMBER:
        raise NotServable(f"LISTEN_FDS: {count[:20]!a} is not a number; leave it to systemd")
    for index in range(int(count)):
        descriptor = first + index
        try:
            os.fstat(descriptor)
        except OSError as error:
            raise NotServable(
                f"LISTEN_FDS: {count}, but descriptor {descriptor} is not open; leave it to systemd"
            ) from error
        yield descriptor, names[index] if index < len(names) else "unknown"


def _read_into(kept: dict[str, bytes], descriptor: int, name: str) -> list[str]:
    """Read a stored document, close its descriptor, and return any warning."""
    try:
        kept[name] = content_of(descriptor)
    except OSError as error:
        return [f"the stored {name} cannot be read: {error.strerror}; it is ignored"]
    finally:
        os.close(descriptor)
    return []


def _listening(descriptor: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _not_servable(name, "is not a socket") from error
    if what := _wrong_with(sock, name):
        sock.close()
        raise _not_servable(name, what)
    return sock


def _wrong_with(sock: socket.socket, name: str) -> str | None:
    if sock.type != socket.SOCK_STREAM:
        return "is not a stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen"
    if (sock.family == socket.AF_UNIX) != (name == "control"):
        expected = "a path" if name == "control" else "ADDRESS:PORT"
        return f"is of the wrong family (ListenStream= takes {expected} there)"
    if name == "control" and not isinstance(sock.getsockname(), str):
        return "has no path in the file system"
    return None


def _not_servable(name: str, what: str) -> NotServable:
    return NotServable(
        f"{name}: the descriptor that systemd passed with that FileDescriptorName= {what}; the "
        "socket unit needs ListenStream= and Accept=no"
    )


def device_of(sock: socket.socket) -> str | None:
    """Return the device that a listener is bound to (``BindToDevice=``), or None."""
    with contextlib.suppress(OSError):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        return raw.rstrip(b"\0").decode("ascii", "replace") or None
    return None
