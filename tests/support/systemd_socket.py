"""The other end of NOTIFY_SOCKET, and descriptors in a row as systemd hands them down."""

import array
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class Heard:
    """Hears what a service says; reads no meaning into it."""

    def __init__(self, address: str | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.documents: dict[str, bytes] = {}
        """What was stored, by name, without what was taken back."""

    def all(self) -> list[str]:
        """Return what was said since the last time."""
        said = []
        with suppress(BlockingIOError):
            while True:
                said.append(self._one())
        return said

    def _one(self) -> str:
        content, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(64))
        text = content.decode()
        name = next((line[7:] for line in text.split("\n") if line.startswith("FDNAME=")), "")
        if "FDSTOREREMOVE=1" in text:
            self.documents.pop(name)
        for _, _, data in ancillary:
            for descriptor in array.array("i", data):
                self.documents[name] = os.pread(descriptor, 65536, 0)
                os.close(descriptor)
        return text

    def close(self) -> None:
        self._socket.close()


@contextmanager
def hearing(address: str | bytes | Path) -> Iterator[Heard]:
    heard = Heard(str(address) if isinstance(address, Path) else address)
    try:
        yield heard
    finally:
        heard.close()


def in_a_row(descriptors: Sequence[int]) -> int:
    """Give *descriptors* new numbers, one after the other, and return the first."""
    first = fcntl.fcntl(0, fcntl.F_DUPFD, 700)
    os.close(first)
    for index, descriptor in enumerate(descriptors):
        os.dup2(descriptor, first + index, inheritable=True)
        os.close(descriptor)
    return first
