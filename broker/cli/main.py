"""The command line's beginning and end: which command, and how it leaves the process."""

from __future__ import annotations

import os
import sys

from broker.cli.errors import FAILED, Failure
from broker.cli.plain import parsed

INTERRUPTED = 130

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code. Never shows a traceback, unless asked to by
    ``NAMESPACE_BROKER_DEBUG``."""
    fill_closed_streams()
    said = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: dispatch(said))


def dispatch(arguments: list[str]) -> int:
    plainly = parsed(arguments)
    if plainly is None:
        from broker.cli import full

        return full.dispatch(arguments)
    command, options = plainly
    __import__(command.module)
    return int(sys.modules[command.module].run(options))


def guarded(act: Callable[[], int]) -> int:
    """Return the exit code of *act*, however it ends, with one line where it failed."""
    try:
        code = act()
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except Failure as failure:
        debug()
        complain(failure.line)
        return failure.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED  # who read us has left, and knows it
    except Exception as error:
        debug()
        complain(surprise(error))
        return FAILED
    finally:
        give_up_on_output()


def fill_closed_streams() -> None:
    """Put the null device where we were started without a standard stream: what is opened next
    would be taken for it, by us and by the programs that we start."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def give_up_on_output() -> None:
    """Let go of output that cannot be written, or Python complains about it again at exit, by an
    exit code of its own."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def complain(line: str) -> None:
    try:
        print(f"namespace-broker: {line}", file=sys.stderr, flush=True)
    except OSError:
        return  # nobody reads it; the exit code still says it


def debug() -> None:
    if os.environ.get("NAMESPACE_BROKER_DEBUG") == "1":
        import traceback

        traceback.print_exc()


def surprise(error: BaseException) -> str:
    """Return a line about an error that nobody expected: what kind, and where.

    Its own text is left out, unless it is the system's: it may carry a secret.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return f"{where}{error.strerror}; NAMESPACE_BROKER_DEBUG=1 shows where"
    trace, place = error.__traceback__, "nowhere"
    while trace is not None:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    kind = type(error).__name__
    return f"a bug stopped it ({kind} at {place}); NAMESPACE_BROKER_DEBUG=1 shows more"
