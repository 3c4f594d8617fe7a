"""Add EC2's metadata addresses to the loopback device, and remove them.

A service of root's runs this at each boot, so it imports little.
"""

import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.aws import METADATA_HOST, METADATA_HOST_V6

PORT: Final = 80
ANSWER_LIMIT_S: Final = 1.0
RECORD: Final = "added"

TAKEN: Final = (
    "answers already: this is a cloud's own machine, or another metadata service has the address"
)
LEAVE_IT: Final = "leave it to that one; `namespace-broker run` serves the container endpoint"


@dataclass(frozen=True, slots=True)
class MetadataAddress:
    """An address as ``ip address add`` takes it; without a *required* one nothing works."""

    host: str
    words: tuple[str, ...]
    required: bool


# Neither may become the source address of what this host sends elsewhere: the scope prevents it for
# the first, being deprecated from the start for the second.
ADDRESSES: Final = (
    MetadataAddress(METADATA_HOST, (f"{METADATA_HOST}/32", "scope", "host"), required=True),
    MetadataAddress(
        METADATA_HOST_V6, (f"{METADATA_HOST_V6}/128", "preferred_lft", "0"), required=False
    ),
)


class CannotAdd(Exception):
    """An address cannot be added to the loopback device; the text says which and why."""


def answers(host: str, *, port: int = PORT) -> bool:
    """Return whether something accepts connections at *host* within a second."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_LIMIT_S)
            probe.connect((host, port))
    except OSError:
        return False
    return True


def ip(words: Sequence[str]) -> str | None:
    """Run ``ip`` and return its error, None where it succeeded."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every word is ours
            ["ip", *words],  # noqa: S607 - where it is differs between systems
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return f"ip cannot be run ({error.strerror}); install the package iproute2"
    return None if done.returncode == 0 else done.stderr.strip() or f"ip ended {done.returncode}"


def add(
    folder: Path, *, run: Callable[[Sequence[str]], str | None] = ip, warn: Callable[[str], None]
) -> None:
    """Add the addresses to the loopback device, and record in *folder* which were not there.

    Raises:
        CannotAdd: The required one cannot be added.
        OSError: The record cannot be written.
    """
    for address in ADDRESSES:
        complaint = run(("address", "add", *address.words, "dev", "lo"))
        if complaint is None:
            with (folder / RECORD).open("a") as record:
                record.write(f"{address.words[0]}\n")
        elif "File exists" in complaint or "already assigned" in complaint:
            continue  # somebody else's, who also removes it
        elif address.required:
            raise CannotAdd(f"{address.host}: {complaint}")
        else:
            warn(f"{address.host} is not served: {complaint}")


def remove(folder: Path, *, run: Callable[[Sequence[str]], str | None] = ip) -> None:
    """Remove the addresses that `add` recorded in *folder*.

    Raises:
        CannotAdd: One is there and cannot be removed.
    """
    try:
        added = (folder / RECORD).read_text().split()
    except FileNotFoundError:
        return
    for address in added:
        complaint = run(("address", "del", address, "dev", "lo"))
        if complaint is not None and "Cannot assign" not in complaint:
            raise CannotAdd(f"{address}: {complaint}")
    (folder / RECORD).unlink()
