"""Tell which unit or container a cgroup id stands for, from the cgroup file system.

The id is the inode number of a directory and is never used again, so what was found once stays
true. Whoever may make directories below a cgroup chooses their names, so only what stands before
the first unit is believed; below ``user@N.service`` the names are user N's own.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import dropwhile, islice, takewhile
from pathlib import Path

from broker.access.caller import Caller
from broker.access.rate_limit import RateLimit

UNIT_KINDS = ("service", "scope", "socket", "mount", "swap")
"""Kinds of unit that have processes of their own; a slice has none."""

LONGEST_UNIT_NAME = 255
UNIT = re.compile(rf"[A-Za-z0-9:_.\\@-]+\.(?:{'|'.join(UNIT_KINDS)})", re.ASCII)
SLICE = re.compile(r"[A-Za-z0-9:_.\\@-]+\.slice", re.ASCII)

LXC_PREFIXES = ("lxc.payload", "lxc.monitor", "lxc.pivot", "lxc.slice")
"""Cgroups at the root that LXC makes for containers, whose names their creators choose.

Source: LXC, lxc.container.conf(5), "CONTROL GROUPS"."""

# A uid as systemd writes it: no leading zero, so that there is one name for each.
USER_MANAGER = re.compile(r"user@(0|[1-9][0-9]{0,9})\.service", re.ASCII)

CONTAINER_ID = "([0-9a-f]{64})"

# Each engine below its own slice, where only root can make directories. With the cgroupfs driver
# there are no units, only directories.
ENGINES = tuple(
    re.compile(path.replace("ID", CONTAINER_ID), re.ASCII)
    for path in (
        r"/system\.slice/docker-ID\.scope",
        r"/docker/ID",
        r"/kubepods\.slice(?:/kubepods-[^/]+\.slice)*/(?:cri-containerd|crio|docker)-ID\.scope",
        r"/kubepods(?:/burstable|/besteffort)?/pod[0-9a-f-]+/ID",
        r"/machine\.slice/libpod-ID\.scope",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLocation:
    """Which unit or container a cgroup is in; None where it is in none.

    User ``manager_uid`` chose the name ``user_unit``. ``is_known`` distinguishes a cgroup that is
    in no unit from one whose path is unknown.
    """

    unit: str | None = None
    container: str | None = None
    user_unit: str | None = None
    manager_uid: int | None = None
    is_known: bool = True

    def user_unit_of(self, uid: int | None) -> str | None:
        """Return the user unit if the process is of the user who chose its name.

        Of anybody else's process, as root's within a user's session, the name says nothing.
        """
        return self.user_unit if uid is not None and uid == self.manager_uid else None

    def applied_to(self, caller: Caller) -> Caller:
        """Return *caller* with the unit and container of this location."""
        return replace(
            caller,
            unit=self.unit,
            user_unit=self.user_unit_of(caller.uid),
            container=self.container,
            is_located=self.is_known,
        )


UNKNOWN_LOCATION = CgroupLocation(is_known=False)


@lru_cache(maxsize=4096)
def location_of_path(path: str) -> CgroupLocation:
    """Return the location of a *path* that begins at the root of all cgroups."""
    before_root, *names = [unescaped(name) for name in path.split("/")]
    if before_root:
        return UNKNOWN_LOCATION
    if path.removeprefix("/").startswith(LXC_PREFIXES):  # a tree of the container's own
        return CgroupLocation()
    slices = _slices(names)
    unit = _unit_at(names, len(slices))
    manager_uid = _manager_uid(slices, unit)
    return CgroupLocation(
        unit=unit,
        container=_container_in(path),
        user_unit=None if manager_uid is None else _user_unit(names[len(slices) + 1 :]),
        manager_uid=manager_uid,
    )


def unescaped(name: str) -> str:
    r"""Return the unit's name, given the name of its directory.

    systemd puts ``_`` before what the kernel could take for a file of its own. A ``\x2d`` within
    is part of the unit's name.

    Source: systemd, "Control Group APIs and Delegation".
    """
    return name.removeprefix("_")


def is_unit_name(name: str) -> bool:
    return len(name) <= LONGEST_UNIT_NAME and UNIT.fullmatch(name) is not None


def is_delegated(name: str) -> bool:
    """Return whether another user may make directories below one of that *name*."""
    return (
        is_unit_name(unescaped(name))
        or name.startswith(LXC_PREFIXES)
        or re.fullmatch(CONTAINER_ID, name) is not None
    )


def _slices(names: Sequence[str]) -> list[str]:
    """Return the slices at the beginning of a path, each named after the one above.

    systemd keeps ``a-b.slice`` in ``a.slice``. A directory that is nested otherwise was not made by
    systemd, so what stands below it proves nothing.

    Source: systemd.slice(5).
    """
    found: list[str] = []
    above = ""
    for name in takewhile(SLICE.fullmatch, names):
        stem = name.removesuffix(".slice")
        if stem.rpartition("-")[0] != above:
            break
        above = stem
        found.append(name)
    return found


def _unit_at(names: Sequence[str], depth: int) -> str | None:
    name = names[depth] if depth < len(names) else ""
    return name if is_unit_name(name) else None


def _manager_uid(slices: list[str], unit: str | None) -> int | None:
    """Return the uid whose service manager *unit* is; systemd keeps each in its own slice."""
    manager = USER_MANAGER.fullmatch(unit or "")
    if manager is None or slices != ["user.slice", f"user-{manager[1]}.slice"]:
        return None
    return int(manager[1])


def _user_unit(names: Sequence[str]) -> str | None:
    return _unit_at(list(dropwhile(SLICE.fullmatch, names)), 0)


def _container_in(path: str) -> str | None:
    for engine in ENGINES:
        # Match a whole name: a longer one must not count for its beginning.
        found = engine.match(path)
        if found is not None and path[found.end() : found.end() + 1] in ("", "/"):
            return found[1]
    return None


ROOT_ID = 1
"""The inode of the root of all cgroups. With another, the mount begins within the tree, at a place
that its maker chose, and its paths prove nothing.

Source: linux/kernfs.h; cgroup_namespaces(7)."""

MOST_DIRECTORIES = 10_000
"""How many are read in all, and again below delegated ones, at some 10 us each."""

MOST_DELEGATED = 500
"""How many are read below one unit or container, where its owner can make millions."""

MOST_KEPT = 65_536

MISSING_FOR_S = 1.0
"""How long an id that was not found is not searched for again."""


class Cgroups:
    """Map cgroup ids to locations.

    An unknown id costs a walk of the tree, about 1 ms for a hundred cgroups, counted against the
    user who caused it. The walk reads every slice, then below each unit and container, the
    caller's own first.
    """

    def __init__(
        self,
        mount: Path | None = None,
        *,
        limit: RateLimit | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the tree below *mount*; by default, where this host mounts the root."""
        self._mount = None if mount is None else str(mount)
        self._limit = limit or RateLimit()
        self._monotonic = monotonic
        self._paths: dict[int, str] = {}
        self._missing_until: dict[int, float] = {}

    def location_of(self, cgroup_id: int | None, *, uid: int) -> CgroupLocation:
        """Return the location of that cgroup, for a caller of that *uid*."""
        path = self._path_of(cgroup_id, uid=uid) if cgroup_id else None
        return UNKNOWN_LOCATION if path is None else location_of_path(path)

    def members_of(self, cgroup_id: int | None) -> list[int] | None:
        """Return the processes in a cgroup that was located before; None when it is unknown."""
        path = self._paths.get(cgroup_id or 0)
        if path is None or self._mount is None:
            return None
        try:
            listed = Path(f"{self._mount}{path}/cgroup.procs").read_text()
        except OSError:
            return None
        return [int(pid) for pid in listed.split()]

    def _path_of(self, cgroup_id: int, *, uid: int) -> str | None:
        path = self._paths.get(cgroup_id)
        if path is not None or not self._may_walk(cgroup_id, uid):
            return path
        began_at = self._monotonic()
        self._walk(uid)
        ended_at = self._monotonic()
        self._limit.spend(uid, ended_at - began_at)
        path = self._paths.get(cgroup_id)
        if path is None:
            if len(self._missing_until) >= MOST_KEPT:
                self._missing_until.clear()
            self._missing_until[cgroup_id] = ended_at + MISSING_FOR_S
        return path

    def _may_walk(self, cgroup_id: int, uid: int) -> bool:
        is_missing = self._missing_until.get(cgroup_id, 0.0) > self._monotonic()
        return not is_missing and self._limit.allows(uid)

    def _walk(self, uid: int) -> None:
        if self._mount is None:
            self._mount = mounted_root()
        if self._mount is None:
            return
        found = paths_below(self._mount, first_of_uid=uid)
        self._paths = found if len(self._paths) > MOST_KEPT else self._paths | found


def mounted_root(mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return where the root of all cgroups is mounted; None where it is not, as in a container."""
    with suppress(OSError):
        for line in mounts.read_text().splitlines():
            about, _, source = line.partition(" - ")
            if not source.startswith("cgroup2 "):
                continue
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), about.split()[4])
            with suppress(OSError):
                if Path(point).stat().st_ino == ROOT_ID:
                    return point
    return None


def paths_below(mount: str, *, first_of_uid: int) -> dict[int, str]:
    """Return the path of every cgroup by its id, within the bounds above."""
    try:
        root = Path(mount).stat()
    except OSError:
        return {}
    tree = CgroupTree(mount, owner_uid=root.st_uid)
    found, delegated = tree.walk("", most=MOST_DIRECTORIES, into_delegated=False)
    found[root.st_ino] = "/"
    # Whoever fills the tree below a unit of their own must not hide another user's.
    own = f"/user@{first_of_uid}.service"
    most = len(found) + MOST_DIRECTORIES
    for top in sorted(delegated, key=lambda path: not path.endswith(own)):
        if len(found) >= most:
            break
        found |= tree.walk(top, most=MOST_DELEGATED, into_delegated=True)[0]
    return found


@dataclass(frozen=True, slots=True)
class CgroupDirectory:
    """One cgroup as the file system shows it."""

    cgroup_id: int
    path: str
    has_inner: bool
    is_delegated: bool


class CgroupTree:
    """The directories below *mount*.

    One that does not belong to *owner_uid*, or is a unit, is delegated: others may make more below.
    """

    def __init__(self, mount: str, *, owner_uid: int) -> None:
        self._mount = mount
        self._owner_uid = owner_uid

    def walk(
        self, top: str, *, most: int, into_delegated: bool
    ) -> tuple[dict[int, str], list[str]]:
        """Return paths by id below *top*, breadth first, and delegated ones not entered."""
        found: dict[int, str] = {}
        delegated: list[str] = []
        waiting = deque([top])
        while waiting and len(found) < most:
            for each in islice(self.directories(waiting.popleft()), most):
                found[each.cgroup_id] = each.path
                if each.has_inner:
                    into = into_delegated or not each.is_delegated
                    (waiting if into else delegated).append(each.path)
        return found, delegated

    def directories(self, above: str) -> Iterator[CgroupDirectory]:
        with suppress(OSError), os.scandir(self._mount + above) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # removed meanwhile
                    if entry.is_dir(follow_symlinks=False):
                        yield self._directory(entry, above)

    def _directory(self, entry: os.DirEntry[str], above: str) -> CgroupDirectory:
        facts = entry.stat(follow_symlinks=False)
        return CgroupDirectory(
            facts.st_ino,
            f"{above}/{entry.name}",
            # Two links: its own name and ".", and none from an inner "..".
            has_inner=facts.st_nlink != 2,
            is_delegated=facts.st_uid != self._owner_uid or is_delegated(entry.name),
        )
