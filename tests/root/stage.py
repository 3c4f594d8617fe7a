"""Where callers that only root can play appear: processes, networks and cgroups of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.access.cgroup import mounted_root

ROOT = Path(__file__).parents[2]
RUN = (sys.executable, "-m")
IN_NETWORK = ("unshare", "--net")
AS_4242 = ("--uid=4242",)
IN_USER_NAMESPACE = ("--user-namespace",)

LONG_S = 30.0

Process = subprocess.Popen[str]


@contextmanager
def started(command: Sequence[str]) -> Iterator[Process]:
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_from(process: Process) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "the process has failed; it says why above"
    return line


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def caller_seen(
    *,
    probe: Sequence[str] = (),
    client: Sequence[str] = (),
    address: str = "127.0.0.1",
    bystander: int = 0,
    source_port: int = 0,
    here: Sequence[str] = (),
    there: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a probe says of a client.

    Each has options of its own, and is started by a command that enters *here* or *there*.
    """
    probing = [*here, *RUN, "tests.root.probe", *probe, address, str(bystander)]
    with started(probing) as server:
        port = line_from(server)
        asking = [*there, *RUN, "tests.root.client", *client, address, port, str(source_port)]
        with started(asking) as process:
            go(process)
            return said(server)


def said(process: Process) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(line_from(process))
    return document


@contextmanager
def two_networks() -> Iterator[tuple[list[str], list[str]]]:
    """Yield how to enter each of two network namespaces: 192.0.2.1 here, 192.0.2.2 there."""
    waiting = [*IN_NETWORK, sys.executable, "-c", "print(1, flush=True); input()"]
    with started(waiting) as first, started(waiting) as second:
        for process in (first, second):
            line_from(process)  # it is in its namespace when it speaks
        here, there = way_into(first), way_into(second)
        link = f"ip link add left type veth peer name right netns {second.pid}"
        for way, command in (
            (here, link),
            (here, "ip address add 192.0.2.1/24 dev left"),
            (there, "ip address add 192.0.2.2/24 dev right"),
            (here, "ip link set lo up"),
            (here, "ip link set left up"),
            (there, "ip link set right up"),
        ):
            subprocess.run([*way, *command.split()], check=True)
        yield here, there


def way_into(process: Process) -> list[str]:
    return ["nsenter", f"--target={process.pid}", "--net"]


def cgroup_root() -> Path:
    """Return where the root of all cgroups is mounted."""
    root = mounted_root()
    assert root is not None, "these tests need cgroup2 mounted, from its root"
    return Path(root)


@contextmanager
def cgroup(path: str, *, owner: int | None = None) -> Iterator[Path]:
    """Make a cgroup of that path, delegated to *owner* as systemd does, for the block.

    What was made, and what was made below it, is removed.
    """
    place = cgroup_root() / path
    missing = [each for each in (place, *place.parents) if not each.exists()]
    place.mkdir(parents=True, exist_ok=True)
    if owner is not None:
        for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(place / name, owner, owner)
    try:
        yield place
    finally:
        for each in missing[-1:]:
            remove(each)


def remove(top: Path) -> None:
    """Remove a cgroup and all below it, as soon as who was in it has gone."""
    deadline = time.monotonic() + LONG_S
    below = [Path(place) for place, _, _ in os.walk(top, topdown=False)]
    for place in below:
        while (place / "cgroup.procs").read_text():
            assert time.monotonic() < deadline, f"somebody is still in {place}"
        place.rmdir()
