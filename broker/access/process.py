"""Find the process that holds a connection, and its executable and cgroup.

An unprivileged daemon is mostly refused these facts, so they may only narrow a rule.
"""

import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from broker.access.caller import Caller, known_id
from broker.access.cgroup import UNKNOWN_LOCATION, CgroupLocation, location_of_path
from broker.access.rate_limit import RateLimit

K = TypeVar("K")
V = TypeVar("V")

PROC = Path("/proc")

FIRST_CGROUP_NAMESPACE = 0xEFFFFFFB
"""The inode of the namespace in which cgroup paths begin at the real root.

Source: linux/proc_ns.h, PROC_CGROUP_INIT_INO."""

MOST_DESCRIPTORS = 20_000
"""How many descriptors are examined for one connection: some 50 ms."""

KEPT_S = 5.0
"""How long the holder of a connection is remembered: it may execute another program."""

MOST_KEPT = 1024

SEARCH_EVERY_S = 1.0
SOCKETS_KEPT_S = 0.01
"""How long the sockets of a process are remembered: for the entries of one burst."""


@dataclass(frozen=True, slots=True)
class Process:
    """The holder of a connection: ``pid`` if it is one process, ``exe`` if it is one program."""

    pid: int | None = None
    exe: str | None = None


UNKNOWN_PROCESS = Process()


class Processes:
    """Find the processes behind callers; each search counts against the caller's user."""

    def __init__(
        self,
        *,
        members_of: Callable[[int | None], list[int] | None] = lambda _: None,
        limit: RateLimit | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Search the processes that *members_of* lists for a cgroup, or all where it lists none."""
        self._members_of = members_of
        self._limit = limit or RateLimit()
        self._monotonic = monotonic
        self._found: dict[tuple[int | None, int | None], tuple[Process, float]] = {}

    def process_of(self, caller: Caller) -> Process:
        """Return the process that holds *caller*'s connection, as far as it can be read."""
        if caller.uid is None:
            return UNKNOWN_PROCESS
        key = (caller.pid, caller.inode)
        found, until = self._found.get(key, (UNKNOWN_PROCESS, 0.0))
        if until > self._monotonic():
            return found
        if not self._limit.allows(caller.billed_uid):
            return UNKNOWN_PROCESS
        began_at = self._monotonic()
        found = self._look(caller)
        ended_at = self._monotonic()
        self._limit.spend(caller.billed_uid, ended_at - began_at)
        _remember(self._found, key, (found, ended_at + KEPT_S))
        return found

    def _look(self, caller: Caller) -> Process:
        if caller.pid is not None:
            return Process(caller.pid, exe_of(caller.pid))
        if not caller.inode:
            return UNKNOWN_PROCESS
        members = self._members_of(caller.cgroup_id)
        return holder_of(caller.inode, all_pids() if members is None else members)


class RecentProcesses:
    """Find the processes behind callers, for the audit: whole searches are rare.

    A client that opens a connection for each request is found once a second by a search of its
    cgroup, and in between by looking among its own descriptors. What is not found so is left out.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processes = processes
        self._monotonic = monotonic
        self._recent: dict[tuple[int | None, int | None], tuple[Process, float]] = {}
        self._sockets: dict[int, tuple[frozenset[str], float]] = {}
        self._found: dict[int, tuple[Process, float]] = {}

    def process_of(self, caller: Caller) -> Process:
        """Return the process that holds *caller*'s connection, if it is found that cheaply."""
        if caller.pid is not None or not caller.inode:
            return self._processes.process_of(caller)
        found, until = self._found.get(caller.inode, (UNKNOWN_PROCESS, 0.0))
        if until > self._monotonic():
            return found
        found = self._look(caller)
        _remember(self._found, caller.inode, (found, self._monotonic() + KEPT_S))
        return found

    def _look(self, caller: Caller) -> Process:
        key, now = (caller.uid, caller.cgroup_id), self._monotonic()
        recent, searched_at = self._recent.get(key, (UNKNOWN_PROCESS, -SEARCH_EVERY_S))
        if recent.pid is not None and self._holds(recent.pid, caller.inode):
            return recent
        if now - searched_at < SEARCH_EVERY_S:
            return UNKNOWN_PROCESS
        found = self._processes.process_of(caller)
        _remember(self._recent, key, (found, self._monotonic()))
        return found

    def _holds(self, pid: int, inode: int | None) -> bool:
        sockets, read_at = self._sockets.get(pid, (frozenset(), -SOCKETS_KEPT_S))
        if self._monotonic() - read_at >= SOCKETS_KEPT_S:
            sockets = frozenset(_targets_of(pid))
            _remember(self._sockets, pid, (sockets, self._monotonic()))
        return f"socket:[{inode}]" in sockets


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= MOST_KEPT:
        memory.clear()
    memory[key] = value


def _targets_of(pid: int) -> Iterator[str]:
    with suppress(OSError), os.scandir(PROC / str(pid) / "fd") as descriptors:
        for descriptor in itertools.islice(descriptors, MOST_DESCRIPTORS):
            with suppress(OSError):
                yield os.readlink(descriptor.path)  # noqa: PTH115 - ten times as fast


def all_pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def holder_of(inode: int, pids: Iterable[int]) -> Process:
    """Return which of *pids* has the socket with that *inode* open, among those we may read.

    A socket can be shared: two holders leave ``pid`` unknown, and two programs ``exe``.
    """
    holders = list(_holders(f"socket:[{inode}]", pids))
    programs = {exe_of(pid) for pid in holders}
    return Process(
        pid=holders[0] if len(holders) == 1 else None,
        exe=programs.pop() if len(programs) == 1 else None,
    )


def _holders(target: str, pids: Iterable[int]) -> Iterator[int]:
    left = MOST_DESCRIPTORS
    for pid in pids:
        with suppress(OSError), os.scandir(PROC / str(pid) / "fd") as descriptors:
            for descriptor in descriptors:
                left -= 1
                if left < 0:
                    return
                with suppress(OSError):
                    if os.readlink(descriptor.path) == target:  # noqa: PTH115 - ten times as fast
                        yield pid
                        break


def exe_of(pid: int) -> str | None:
    """Return the path of the program that *pid* runs; None where it is unknown.

    A process with a root directory of its own chooses that path at will, so it counts only where
    the same path is the same file for us.
    """
    link = PROC / str(pid) / "exe"
    with suppress(OSError):
        path = link.readlink()
        if path.is_absolute() and os.path.samestat(path.stat(), link.stat()):
            return str(path)
    return None


def location_of_process(pid: int) -> CgroupLocation:
    """Return the cgroup location of that process.

    The pid may be reused meanwhile, unless the caller holds on to the process.
    """
    try:
        if (PROC / "self/ns/cgroup").stat().st_ino != FIRST_CGROUP_NAMESPACE:
            return UNKNOWN_LOCATION
        listed = (PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return UNKNOWN_LOCATION
    found = re.search(r"^0::(/.*)$", listed, re.MULTILINE)
    if found is None or found[1].endswith(" (deleted)"):
        return UNKNOWN_LOCATION
    return location_of_path(found[1])


def caller_of_process(pid: int) -> Caller:
    """Return the caller that *pid* would be, to explain the rules.

    Raises:
        ProcessLookupError: There is no such process.
    """
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    # The fourth number is the file-system id, which a socket gets.
    uid, gid = (
        known_id(int(re.findall(rf"^{name}:\t.*\t(\d+)$", status, re.MULTILINE)[0]))
        for name in ("Uid", "Gid")
    )
    return location_of_process(pid).applied_to(Caller(uid=uid, gid=gid, pid=pid))
