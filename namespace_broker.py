"""The command ``namespace-broker``: run the package ``broker`` of this installation.

A package of that name on the caller's PYTHONPATH would come first, so those entries are dropped; so
does nothing else there decide what we import. ``python -I -m broker`` is the same.
"""

import os
import sys


def main() -> int:
    """Run the command line and return its exit code."""
    if sys.argv[1:2] == ["run"]:
        exit_on_sigterm()
    drop_callers_path(os.environ.get("PYTHONPATH", ""))
    from broker.cli.main import main as run

    return run()


def exit_on_sigterm() -> None:
    """Exit with 0 on SIGTERM until the daemon has a handler: there is nothing to clean up yet."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def drop_callers_path(python_path: str) -> None:
    """Remove the directories of *python_path* from the import path, except our own."""
    if not python_path or sys.flags.ignore_environment:
        return
    dropped = {os.path.abspath(entry) for entry in python_path.split(os.pathsep)}
    dropped.discard(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) not in dropped]
