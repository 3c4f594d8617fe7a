"""Start and end of a command line: which command runs, and with which exit code it leaves."""

from __future__ import annotations

import os
import sys

from broker.cli.commands import COMMANDS, PROGRAM, load
from broker.cli.errors import FAILED, MISUSED, Failure, Misuse, complain
from broker.cli.parser import command_of, meant, no_such_flag, read

INTERRUPTED = 130
PR_SET_DUMPABLE = 4  # Source: linux/prctl.h.

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code.

    A traceback is shown only where ``NAMESPACE_BROKER_DEBUG`` asks for it.
    """
    fill_closed_streams()
    line = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: dispatch(line))


def dispatch(arguments: list[str]) -> int:
    """Run the command that *arguments* begin with.

    Raises:
        Misuse: There is no such command, or a flag is no good.
    """
    name, rest = command_of(arguments)
    if not name:
        return without_command(arguments)
    keep_memory_private()
    command = load(name)
    options = read(name, rest, command.FLAGS, getattr(command, "RUNS", ""))
    return show_help(name) if options is None else int(command.run(options))


def keep_memory_private() -> None:
    """Make this process not dumpable: what other processes of this user may ask for is not ours.

    A program that `exec` becomes is dumpable again.
    """
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_command(arguments: list[str]) -> int:
    """Answer a line that names no command: help, the version, or what is wrong with it."""
    place, rest = group_of(arguments)
    if not rest:
        from broker.cli.help import parser_of

        sys.stderr.write(parser_of(place).format_help())
        return MISUSED
    if rest[0] in ("--help", "-h"):
        return show_help(place)
    if rest[0] == "--version" and not place:
        from broker import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if rest[0].startswith("-"):
        raise no_such_flag(place, rest[0].partition("=")[0], {})
    from broker.cli.help import below

    near = meant(rest[0].replace("_", "-"), below(place))
    what = f"no such command: {' '.join([*place.split(), rest[0]])}"
    raise Misuse("", what, near or f"see {' '.join([PROGRAM, *place.split()])} --help")


def group_of(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the words that begin a longer command, and what follows them."""
    words = 0
    while words < len(arguments):
        group = " ".join(arguments[: words + 1]).replace("_", "-")
        if not any(name.startswith(f"{group} ") for name in COMMANDS):
            break
        words += 1
    return " ".join(arguments[:words]).replace("_", "-"), arguments[words:]


def show_help(place: str) -> int:
    from broker.cli.help import parser_of

    sys.stdout.write(parser_of(place).format_help())
    return 0


def guarded(act: Callable[[], int]) -> int:
    """Return the exit code of *act*, with one line on stderr where it failed."""
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
        return FAILED  # the reader has gone
    except Exception as error:
        debug()
        complain(surprise(error))
        return FAILED
    finally:
        give_up_on_output()


def fill_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file that is opened would be taken for it, by us and by the programs that we
    start.
    """
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
    """Point output that cannot be written at the null device.

    Otherwise Python complains about it again at exit, with an exit code of its own.
    """
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def debug() -> None:
    if os.environ.get("NAMESPACE_BROKER_DEBUG") == "1":
        import traceback

        traceback.print_exc()


def surprise(error: BaseException) -> str:
    """Return a line about an unexpected error: its kind and where it happened.

    Its text is left out, unless it is the system's: it may carry a secret.
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
