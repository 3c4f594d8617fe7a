"""Keep what is in this process's memory in it: no dump, no reader, no traceback that tells. Hides
nothing from root."""

import ctypes
import faulthandler
import os
import resource
import sys
import threading
import traceback
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
