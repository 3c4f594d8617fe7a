"""Keep one secret document in systemd's descriptor store, in memory, across restarts."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from typing import Final

from broker.systemd.notify import Notifier

LEASES: Final = ("leases-a", "leases-b")
"""The names that a document is stored under, in turn: the old one is removed after the new one is
stored, so that a crash in between leaves one or both. The document says which is newer."""

LARGEST_BYTES: Final = 16 * 1024 * 1024

MFD_NOEXEC_SEAL: Final = 0x0008
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Store:
    """systemd's descriptor store (``FileDescriptorStoreMax=``, 2 at least), for one document."""

    def __init__(
        self, notifier: Notifier, *, holds: str | None = None, found: Iterable[str] = ()
    ) -> None:
        """Use *holds* as the current document, of those that were *found* there."""
        self._notifier = notifier
        self._holds = holds
        self._stored = set(found)

    def put(self, document: bytes) -> None:
        """Store *document* in place of the current one.

        Raises:
            OSError: This process can make no file in memory, or has no descriptor left. systemd
                keeps what it has.
        """
        if not self._notifier.is_connected:
            return
        name = LEASES[1] if self._holds == LEASES[0] else LEASES[0]
        descriptor = sealed(document)
        try:
            self._remove(name)  # left by a crash, and older than what we hold
            self._notifier.store(descriptor, name)
        finally:
            os.close(descriptor)
        self._stored.add(name)
        if self._holds is not None:
            self._remove(self._holds)
        self._holds = name

    def _remove(self, name: str) -> None:
        if name in self._stored:
            self._stored.discard(name)
            self._notifier.unstore(name)


def sealed(document: bytes) -> int:
    """Return the descriptor of a sealed file in memory that holds *document*.

    Raises:
        OSError: There is no memory left, or the host has no such files.

    Source: memfd_create(2), fcntl(2).
    """
    descriptor = _memory_file()
    try:
        view = memoryview(document)
        while view:
            view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _memory_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Some hosts allow no others (vm.memfd_noexec=2).
        return os.memfd_create("namespace-broker", flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3
            raise
        return os.memfd_create("namespace-broker", flags)


def content_of(descriptor: int) -> bytes:
    """Return the whole content of a stored descriptor.

    Raises:
        OSError: It is not a file, or far too long.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a file")
    if found.st_size > LARGEST_BYTES:
        raise OSError(errno.EFBIG, "it is too long")
    document = b""
    while piece := os.pread(descriptor, found.st_size - len(document), len(document)):
        document += piece
    return document
