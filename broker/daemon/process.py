"""Harden the process: private memory, tracebacks without secrets, threads that may hang."""

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
    """Make this process not dumpable, so that only root can read its memory.

    Its files below /proc then belong to root: no other process of this user can attach to it or see
    its descriptors. Tracebacks of uncaught errors show types and places, not values.

    Raises:
        OSError: The kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")
    # fs.suid_dumpable may have a core written all the same.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.excepthook = _print_bug
    threading.excepthook = lambda args: _print_bug(
        args.exc_type, args.exc_value, args.exc_traceback
    )
    sys.unraisablehook = lambda args: _print_bug(args.exc_type, args.exc_value, args.exc_traceback)
    # It prints places alone. A process may have no stderr.
    with suppress(OSError, ValueError, RuntimeError, AttributeError):
        faulthandler.enable()


def error_summary(error: BaseException) -> str:
    """Return the types and places of *error* and its causes.

    Its text, and that of the source lines in a traceback, may carry a secret.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "; after ".join(map(_type_and_place, seen))


def _type_and_place(error: BaseException) -> str:
    text = f"{type(error).__name__} at {_place(error.__traceback__) or 'an unknown place'}"
    if not isinstance(error, BaseExceptionGroup):
        return text
    return f"{text}, of: {', '.join(f'({error_summary(each)})' for each in error.exceptions)}"


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(frames))


def _print_bug(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if kind is KeyboardInterrupt or kind is SystemExit:
        return
    out: TextIO | None = sys.stderr
    text = kind.__name__ if error is None else error_summary(error)
    with suppress(OSError, ValueError):
        print(f"namespace-broker: a bug: {text}", file=out, flush=True)


def raise_open_files_limit() -> None:
    """Raise the limit of open files as far as we may: each surface holds many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


THREADS = 32
"""More than asyncio's default on a small machine: threads that hang must not keep the others."""


class AbandonableExecutor(ThreadPoolExecutor):
    """Threads for calls that may hang, as on a dead file system; nobody waits for them at the end.

    The process has to end by `os._exit` then: Python itself would wait for them.
    """

    def __init__(self) -> None:
        super().__init__(THREADS, thread_name_prefix="may-hang")

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Start nothing more, and abandon what is running, whatever the arguments say."""
        super().shutdown(wait=False, cancel_futures=True)


OTHERS_READ, OTHERS_SEARCH = 0o004, 0o001
GROUP_READS = 0o040


def readable_by_others(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a warning for each identity file that other users of this host can read.

    Whoever has the Namespace token needs no grant of ours.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode & 0o777
            reachable = all(
                above.stat().st_mode & OTHERS_SEARCH for above in path.absolute().parents
            )
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
