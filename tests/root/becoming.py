"""Turn a process of root's into another user, in another user namespace, in another cgroup."""

import argparse
import ctypes
import os
import signal
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1

SUBORDINATES = range(300_000, 301_000)
"""The subordinate uids of a user, as in /etc/subuid."""


def options(*positional: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, default=None)
    parser.add_argument("--user-namespace", action="store_true")
    parser.add_argument("--inner-uid", type=int, default=None)
    parser.add_argument("--cgroup", type=Path, default=None)
    parser.add_argument("--cgroup-of-own", type=Path, default=None)
    for name in positional:
        parser.add_argument(name)
    return parser


def become(chosen: argparse.Namespace) -> None:
    """Enter the cgroup, take on the uid, and optionally a cgroup and a user namespace of its own.

    In that user namespace the uid, and no other, is root's. With *inner_uid*, `SUBORDINATES` are
    mapped there from 1 on, as newuidmap does, and that one is taken on. This is done after
    everything is imported: the new user may not be able to read it.
    """
    if chosen.inner_uid is not None:
        become_subordinate(chosen)
        return
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


def become_subordinate(chosen: argparse.Namespace) -> None:
    """Go on in a child, as the inner uid of a user namespace that this process maps as root."""
    ready_read, ready_write = os.pipe()
    mapped_read, mapped_write = os.pipe()
    child = os.fork()
    if child:
        os.read(ready_read, 1)
        (Path("/proc") / str(child) / "uid_map").write_text(
            f"0 {chosen.uid} 1\n1 {SUBORDINATES.start} {len(SUBORDINATES)}"
        )
        os.write(mapped_write, b".")
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    inner = chosen.inner_uid
    become(argparse.Namespace(**{**vars(chosen), "inner_uid": None, "user_namespace": False}))
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace")
    os.write(ready_write, b".")
    os.read(mapped_read, 1)
    os.setresuid(inner, inner, inner)


def enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
