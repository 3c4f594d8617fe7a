"""What the path of a cgroup, read from the root, says of who is in it. Pure; knows no file system.

Whoever may make directories below a cgroup gives them names at will, so only what stands before the
first unit is believed; below ``user@N.service`` names are user N's, and so is what they say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import dropwhile, takewhile

UNIT_KINDS = ("service", "scope", "socket", "mount", "swap")
"""Units that have processes of their own. A slice has none."""

LONGEST_UNIT_NAME = 255
UNIT = re.compile(rf"[A-Za-z0-9:_.\\@-]+\.(?:{'|'.join(UNIT_KINDS)})", re.ASCII)
SLICE = re.compile(r"[A-Za-z0-9:_.\\@-]+\.slice", re.ASCII)

# A uid as systemd writes it: no leading zero, so that there is one name for each.
USER_MANAGER = re.compile(r"user@(0|[1-9][0-9]{0,9})\.service", re.ASCII)

CONTAINER_ID = "([0-9a-f]{64})"

# Engines, each below the slice that is its own and that only root can put anything in. With the
# cgroupfs driver there are no units, only directories.
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
class Place:
    """Where in the tree of units a cgroup is; None where it is in none.

    ``user_unit`` is a name that user ``manager_uid`` chose. ``is_known`` tells a cgroup that is in
    no unit from one of which nobody can say where it is.
    """

    unit: str | None = None
    container: str | None = None
    user_unit: str | None = None
    manager_uid: int | None = None
    is_known: bool = True

    def user_unit_of(self, uid: int | None) -> str | None:
        """Return the user unit as a fact about a process of that user: of anybody else's, as of
        root's within a user's session, the name says nothing."""
        return self.user_unit if uid is not None and uid == self.manager_uid else None


NOWHERE = Place(is_known=False)


@lru_cache(maxsize=4096)
def place_in(path: str) -> Place:
    """Return where *path* is. It must begin at the root of all cgroups, as ``/system.slice/…``."""
    beginning, *names = [unescaped(name) for name in path.split("/")]
    if beginning:
        return NOWHERE
    slices = list(takewhile(SLICE.fullmatch, names))
    unit = _unit_at(names, len(slices))
    manager_uid = _manager_uid(slices, unit)
    return Place(
        unit=unit,
        container=_container_in(path),
        user_unit=None if manager_uid is None else _user_unit(names[len(slices) + 1 :]),
        manager_uid=manager_uid,
    )


def unescaped(name: str) -> str:
    r"""Return the name of the unit in a directory called *name*: systemd puts ``_`` before what the
    kernel could take for a file of its own. A ``\x2d`` within is part of the unit's name.

    Source: systemd, "Control Group APIs and Delegation".
    """
    return name.removeprefix("_")


def is_unit_name(name: str) -> bool:
    return len(name) <= LONGEST_UNIT_NAME and UNIT.fullmatch(name) is not None


def is_handed_on(name: str) -> bool:
    """Say whether somebody else may make directories below one of that *name*."""
    return is_unit_name(unescaped(name)) or re.fullmatch(CONTAINER_ID, name) is not None


def _unit_at(names: Sequence[str], depth: int) -> str | None:
    name = names[depth] if depth < len(names) else ""
    return name if is_unit_name(name) else None


def _manager_uid(slices: list[str], unit: str | None) -> int | None:
    """Return whose service manager *unit* is; systemd keeps each in a slice of its own."""
    manager = USER_MANAGER.fullmatch(unit or "")
    if manager is None or slices != ["user.slice", f"user-{manager[1]}.slice"]:
        return None
    return int(manager[1])


def _user_unit(names: Sequence[str]) -> str | None:
    return _unit_at(list(dropwhile(SLICE.fullmatch, names)), 0)


def _container_in(path: str) -> str | None:
    for engine in ENGINES:
        # The whole of a name, or a longer one would count for its beginning.
        found = engine.match(path)
        if found is not None and path[found.end() : found.end() + 1] in ("", "/"):
            return found[1]
    return None
