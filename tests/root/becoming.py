"""A process made by root becomes somebody else: another user, in another user namespace."""

import argparse
import ctypes
import os
from pathlib import Path

CLONE_NEWUSER = 0x10000000


def options(*positional: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, default=None)
    parser.add_argument("--user-namespace", action="store_true")
    for name in positional:
        parser.add_argument(name)
    return parser


def become(chosen: argparse.Namespace) -> None:
    """Take on the uid; enter a user namespace in which that uid, and no other, is root's.

    Done after everything is imported: whom we become may not be able to read it.
    """
    if chosen.uid is not None:
        os.setgroups([])
        os.setresgid(chosen.uid, chosen.uid, chosen.uid)
        os.setresuid(chosen.uid, chosen.uid, chosen.uid)
        # Or /proc/self stays root's.
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    if chosen.user_namespace:
        outside = os.getuid()
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "no user namespace")
        Path("/proc/self/uid_map").write_text(f"0 {outside} 1")
