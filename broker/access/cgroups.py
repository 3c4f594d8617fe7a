"""Which unit or container a cgroup id stands for, by the file system of cgroups. Asks no process.

The id is the inode number of a directory and never used again, so what was found once stays true.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from broker.access.cgroup_paths import NOWHERE, Place, is_handed_on, place_in
from broker.access.rate_limit import Allowance

ROOT_ID = 1
"""The root of all cgroups. Another number: the tree begins somewhere within it, at a place that
whoever made that chose, and its paths say nothing.

Source: linux/kernfs.h; cgroup_namespaces(7)."""

MOST_DIRECTORIES = 10_000
"""How many are looked at in all, and again below what is handed on, at some 10 us each."""

MOST_HANDED_ON = 500
"""How many are looked at below one unit or container, where its owner can make millions."""

MOST_KEPT = 65_536

MISSING_FOR_S = 1.0
"""How long what was not found is not looked for again."""


class Cgroups:
    """Knows the place of each cgroup id. An unknown one costs a walk of the tree, about 1 ms for a
    hundred cgroups, paid by the user who caused it.

    Looks at every slice, then below each unit and container, the caller's own first.
    """

    def __init__(
        self,
        mount: Path | None = None,
        *,
        allowance: Allowance | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*mount* is where the root of all cgroups is; by default, where this host has it."""
        self._given_mount = mount
        self._mount: str | None = None
        self._allowance = allowance or Allowance()
        self._monotonic = monotonic
        self._paths: dict[int, str] = {}
        self._missing_until: dict[int, float] = {}

    def place_of(self, cgroup_id: int | None, *, uid: int) -> Place:
        """Return where that cgroup is, for a caller of that *uid*; nowhere when it is not known."""
        path = self._path_of(cgroup_id, uid=uid) if cgroup_id else None
        return NOWHERE if path is None else place_in(path)

    def members_of(self, cgroup_id: int | None) -> list[int] | None:
        """Return the processes in that cgroup now, for a caller whose place was asked for before;
        None when that cannot be told."""
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
        if path is not None or not self._may_look(cgroup_id, uid):
            return path
        began_at = self._monotonic()
        self._look(uid)
        ended_at = self._monotonic()
        self._allowance.spend(uid, ended_at - began_at)
        path = self._paths.get(cgroup_id)
        if path is None:
            if len(self._missing_until) >= MOST_KEPT:
                self._missing_until.clear()
            self._missing_until[cgroup_id] = ended_at + MISSING_FOR_S
        return path

    def _may_look(self, cgroup_id: int, uid: int) -> bool:
        is_missing = self._missing_until.get(cgroup_id, 0.0) > self._monotonic()
        return not is_missing and self._allowance.has_some(uid)

    def _look(self, uid: int) -> None:
        if self._mount is None:
            self._mount = str(self._given_mount) if self._given_mount else mounted_root()
        if self._mount is None:
            return
        found = paths_below(self._mount, first_of_uid=uid)
        self._paths = found if len(self._paths) > MOST_KEPT else self._paths | found


def mounted_root(mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return where the root of all cgroups is mounted; None where we cannot see it, as in a
    container."""
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
    """Return the path of every cgroup by its id, as far as the bounds allow."""
    try:
        root = Path(mount).stat()
    except OSError:
        return {}
    tree = Tree(mount, owner_uid=root.st_uid)
    found, handed_on = tree.walked("", most=MOST_DIRECTORIES, into_handed_on=False)
    found[root.st_ino] = "/"
    # Whoever fills the tree below a unit of their own must not hide another user's.
    own = f"/user@{first_of_uid}.service"
    most = len(found) + MOST_DIRECTORIES
    for top in sorted(handed_on, key=lambda path: not path.endswith(own)):
        if len(found) >= most:
            break
        found |= tree.walked(top, most=MOST_HANDED_ON, into_handed_on=True)[0]
    return found


@dataclass(frozen=True, slots=True)
class Directory:
    """One cgroup as the file system shows it."""

    cgroup_id: int
    path: str
    has_inner: bool
    is_handed_on: bool


class Tree:
    """The directories below *mount*. What belongs to another than *owner_uid*, or is a unit, is
    handed on: somebody else may make more below."""

    def __init__(self, mount: str, *, owner_uid: int) -> None:
        self._mount = mount
        self._owner_uid = owner_uid

    def walked(
        self, top: str, *, most: int, into_handed_on: bool
    ) -> tuple[dict[int, str], list[str]]:
        """Return paths by id below *top*, level by level, and what was not gone into."""
        found: dict[int, str] = {}
        handed_on: list[str] = []
        waiting = deque([top])
        while waiting and len(found) < most:
            for each in islice(self.directories(waiting.popleft()), most):
                found[each.cgroup_id] = each.path
                if each.has_inner:
                    into = into_handed_on or not each.is_handed_on
                    (waiting if into else handed_on).append(each.path)
        return found, handed_on

    def directories(self, above: str) -> Iterator[Directory]:
        with suppress(OSError), os.scandir(self._mount + above) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it ended meanwhile
                    if entry.is_dir(follow_symlinks=False):
                        yield self._seen(entry, above)

    def _seen(self, entry: os.DirEntry[str], above: str) -> Directory:
        facts = entry.stat(follow_symlinks=False)
        return Directory(
            facts.st_ino,
            f"{above}/{entry.name}",
            # Two links: its own name and ".", and none from an inner "..".
            has_inner=facts.st_nlink != 2,
            is_handed_on=facts.st_uid != self._owner_uid or is_handed_on(entry.name),
        )
