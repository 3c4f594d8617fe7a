"""A network of the test's own, with the metadata addresses on its loopback device.

The test itself is in it, and what it starts; nothing in it has a way out.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
IMDS = "169.254.169.254"
CONTAINER = "169.254.170.2"


@contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, hence the threads and processes that it starts, in a new network."""
    with Path("/proc/thread-self/ns/net").open() as before:
        succeed("unshare", CLONE_NEWNET)
        try:
            ip("link set lo up")
            for address in (IMDS, CONTAINER):
                ip(f"address add {address}/32 dev lo")
            yield
        finally:
            succeed("setns", before.fileno(), CLONE_NEWNET)


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def succeed(call: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}; these tests need root")
