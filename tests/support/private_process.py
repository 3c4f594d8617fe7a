"""A process that keeps its memory private, or another of the same user that looks at it.

Neither is root: a test that is root makes them another user's.
"""

import ctypes
import os
import sys
from pathlib import Path

from broker.daemon.process import keep_memory_private

SOMEBODY = 4242
PR_SET_DUMPABLE = 4
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


def become_somebody() -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
        os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
        # The change itself has shut the memory: that is not what is tried here.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def outcome_of_reading(path: str) -> str:
    try:
        with Path(path).open("rb"):
            return "open"
    except PermissionError:
        return "refused"


def outcome_of_attaching(pid: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        return "refused"
    os.waitpid(pid, 0)
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    return "attached"


def main() -> None:
    become_somebody()
    match sys.argv[1:]:
        case ["keeps"]:
            keep_memory_private()
            print("ready", flush=True)
            sys.stdin.readline()
        case ["dies"]:
            keep_memory_private()
            os.abort()
        case ["fails"]:
            keep_memory_private()
            hidden = "the-secret-in-it"
            raise ValueError(f"no such token: {hidden}")
        case ["looks", pid]:
            for name in ("mem", "environ", "maps"):
                print(name, outcome_of_reading(f"/proc/{pid}/{name}"))
            print("ptrace", outcome_of_attaching(int(pid)))


if __name__ == "__main__":
    main()
