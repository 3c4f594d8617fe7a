"""EC2's metadata addresses on the loopback device: put there where nobody answers at them, taken
away where we put them. Serves nothing.

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
    """An address, and how ``ip address add`` takes it. *wanted*: nothing works without it."""

    host: str
    words: tuple[str, ...]
    wanted: bool


# Neither must become the source of what this host sends elsewhere: the one by its scope, the other
# by being deprecated from its first moment.
ADDRESSES: Final = (
    MetadataAddress(METADATA_HOST, (f"{METADATA_HOST}/32", "scope", "host"), wanted=True),
    MetadataAddress(
        METADATA_HOST_V6, (f"{METADATA_HOST_V6}/128", "preferred_lft", "0"), wanted=False
    ),
)


class CannotAdd(Exception):
    """An address cannot be put on the loopback device; the text says which and why."""


def answers(host: str, *, port: int = PORT) -> bool:
    """Say whether something takes connections at *host* within a second."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_LIMIT_S)
            probe.connect((host, port))
    except OSError:
        return False
    return True


def ip(words: Sequence[str]) -> str | None:
    """Run ``ip`` and return its complaint, None for none."""
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
    """Put the addresses on the loopback device, and note in *folder* which were not there.

    Raises:
        CannotAdd: The first of them cannot be had.
        OSError: The note cannot be written.
    """
    for address in ADDRESSES:
        complaint = run(("address", "add", *address.words, "dev", "lo"))
        if complaint is None:
            with (folder / RECORD).open("a") as record:
                record.write(f"{address.words[0]}\n")
        elif "File exists" in complaint or "already assigned" in complaint:
            continue  # somebody else's, who takes it away again
        elif address.wanted:
            raise CannotAdd(f"{address.host}: {complaint}")
        else:
            warn(f"{address.host} is not served: {complaint}")


def remove(folder: Path, *, run: Callable[[Sequence[str]], str | None] = ip) -> None:
    """Take away what `add` noted in *folder*.

    Raises:
        CannotAdd: One cannot be taken away, and is there.
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
