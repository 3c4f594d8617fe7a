"""Turn a process of root's into another user, in another user namespace, in another cgroup."""

import argparse
import ctypes
import os
from pathlib import Path

CLONE_NEWUSER = 0x10000000


def options(*positional: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, default=None)
    parser.add_argument("--user-namespace", action="store_true")
    parser.add_argument("--cgroup", type=Path, default=None)
    parser.add_argument("--cgroup-of-own", type=Path, default=None)
    for name in positional:
        parser.add_argument(name)
    return parser


def become(chosen: argparse.Namespace) -> None:
    """Enter the cgroup, take on the uid, and optionally a cgroup and a user namespace of its own.

    In that user namespace the uid, and no other, is root's. This is done after everything is
    imported: the new user may not be able to read it.
    """
    if chosen.cgroup is not None:
        enter(chosen.cgroup)
    if chosen.uid is not None:
        os.setgroups([])
        os.setresgid(chosen.uid, chosen.uid, chosen.uid)
        os.setresuid(chosen.uid, chosen.uid, chosen.uid)
        # Or /proc/self stays root's.
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    if chosen.cgroup_of_own is not None:
        chosen.cgroup_of_own.mkdir(parents=True)
        enter(chosen.cgroup_of_own)
    if chosen.user_namespace:
        outside = os.getuid()
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "no user namespace")
        Path("/proc/self/uid_map").write_text(f"0 {outside} 1")


def enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
