"""A client program that stays alive and makes one call for each line of input."""

import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 20.0


class Lasting:
    """A running program that answers each line on its stdin with one on its stdout."""

    def __init__(self, *argv: str, environ: Mapping[str, str], errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                bufsize=1,
            )

    def call(self) -> str:
        """Let it call once more, and return what it prints of that.

        Raises:
            AssertionError: It ended instead, or said nothing for 20 s.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("again\n")
        readable, _, _ = select.select([self._process.stdout], [], [], LIMIT_S)
        line = self._process.stdout.readline() if readable else ""
        assert line, self._errors.read_text()
        return line

    def stop(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes, and waits
            pass


@contextmanager
def lasting(*argv: str, environ: Mapping[str, str], folder: Path) -> Iterator[Lasting]:
    """Run the program for the block; its stderr goes to *folder*."""
    program = Lasting(*argv, environ=environ, errors=folder / "errors")
    try:
        yield program
    finally:
        program.stop()
