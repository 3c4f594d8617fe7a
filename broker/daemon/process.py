"""Keep what is in this process's memory in it: no dump, no reader, no traceback that tells. Hides
nothing from root."""

import ctypes
import faulthandler
import os
import resource
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

PR_SET_DUMPABLE = 4  # Source: linux/prctl.h.


def keep_memory_private() -> None:
    """Shut this process's memory to everybody but root, and to every core file, for good.

    Not dumpable, its files below /proc are root's: no other process of this user can read its
    memory, attach to it or see its descriptors. Tracebacks of what nobody caught say kinds and
    places, not what was in them.

    Raises:
        OSError: The kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")
    # Beside that: a core is written also where fs.suid_dumpable says so.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.excepthook = _tell
    threading.excepthook = lambda args: _tell(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _tell(args.exc_type, args.exc_value, args.exc_traceback)
    # What it prints of a crash is places alone. A process may have no stderr.
    with suppress(OSError, ValueError, RuntimeError, AttributeError):
        faulthandler.enable()


def told_of(error: BaseException) -> str:
    """Return *error*, and what it came from, as kinds and places: its text, and that of the lines
    it passed, may carry a secret."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "; after ".join(map(_shown, seen))


def _shown(error: BaseException) -> str:
    text = f"{type(error).__name__} at {_place(error.__traceback__) or 'an unknown place'}"
    if not isinstance(error, BaseExceptionGroup):
        return text
    return f"{text}, of: {', '.join(f'({told_of(each)})' for each in error.exceptions)}"


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(frames))


def _tell(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if kind is KeyboardInterrupt or kind is SystemExit:
        return
    out: TextIO | None = sys.stderr
    text = kind.__name__ if error is None else told_of(error)
    with suppress(OSError, ValueError):
        print(f"namespace-broker: a bug: {text}", file=out, flush=True)


MOST = 32
"""More than asyncio has by itself on a small machine: those that hang must not keep the others."""


class AbandonableExecutor(ThreadPoolExecutor):
    """Threads that nobody waits for at the end: whatever must be whole is awaited by who began it.

    The process has to end itself then: Python would wait for them once more (`os._exit`).
    """

    def __init__(self) -> None:
        super().__init__(MOST, thread_name_prefix="may-hang")

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Begin nothing more, and leave what is under way, whatever is asked for."""
        super().shutdown(wait=False, cancel_futures=True)


OTHERS_READ, OTHERS_PASS = 0o004, 0o001
GROUP_READS = 0o040


def exposed(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a sentence for each file that other users of this host can read: whoever has the
    Namespace token needs no grant of ours."""
    for path in paths:
        try:
            mode = path.stat().st_mode & 0o777
            reachable = all(above.stat().st_mode & OTHERS_PASS for above in path.absolute().parents)
        except OSError:
            continue
        if mode & OTHERS_READ and reachable:
            yield (
                f"{path} can be read by every user of this host ({mode:04o}), and whoever reads it "
                f"needs no grant here; chmod 0600 it, or its directory 0700"
            )
        elif mode & GROUP_READS:
            yield (
                f"{path} can be read by its group ({mode:04o}), whose members then need no grant "
                f"here; chmod 0600 it, unless that is meant"
            )
