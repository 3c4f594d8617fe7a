"""The broker as an operator has it: a process of its own, started and asked by its commands."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

PROJECT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "broker")
LIMIT_S = 20.0


def wait_for(question: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Return once *question* is true.

    Raises:
        AssertionError: It is still false after *limit_s* seconds.
    """
    ends = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < ends, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


class BrokerProcess:
    """One ``python -m broker run``; *folder* holds its runtime directory, and its log.

    *environ* is the daemon's alone; the commands beside it find it by its runtime directory.
    """

    def __init__(self, *flags: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.runtime_dir = folder / "runtime"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
        }
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "run", "--runtime-dir", str(self.runtime_dir), *flags],
                env=self._environ | dict(environ),
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def wait_until_it_serves(self) -> None:
        wait_for(lambda: self._has_left() or "daemon.ready" in self.log(), "daemon.ready")
        assert not self._has_left(), self.log()

    def log(self) -> str:
        return self._log.read_text()

    def address(self, surface: str) -> str:
        """Return ``HOST:PORT`` of the first one that it serves *surface* on."""
        endpoints = json.loads((self.runtime_dir / "endpoints.json").read_bytes())
        return str(urlsplit(endpoints[surface][0]).netloc)

    def tells_clients(self, *, surface: str) -> dict[str, str]:
        """Return the variables of ``env --surface`` *surface*."""
        told: dict[str, str] = json.loads(self.env("--for", "json", "--surface", surface))
        return told

    def env(self, *flags: str) -> str:
        """Return what ``namespace-broker env`` prints to the broker's own user."""
        return self._says("env", *flags)

    def wait_until_ready(self, *, limit_s: float) -> None:
        """Wait, by our own command, until it has every lease."""
        self._says("wait", "--timeout", f"{limit_s:g}")

    def _says(self, command: str, *flags: str) -> str:
        return subprocess.run(
            [*COMMAND, command, "--runtime-dir", str(self.runtime_dir), *flags],
            env=self._environ,
            cwd=PROJECT,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            timeout=LIMIT_S,
        ).stdout

    def kill(self) -> None:
        """Let it die without a chance to tidy up."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to leave, unless it has; kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(LIMIT_S)
        finally:
            self.kill()

    def _has_left(self) -> bool:
        return self._process.poll() is not None


@contextmanager
def broker_process(
    *flags: str, folder: Path, environ: Mapping[str, str]
) -> Iterator[BrokerProcess]:
    """Run a broker for the block, serving when the block begins."""
    folder.mkdir(exist_ok=True)
    process = BrokerProcess(*flags, folder=folder, environ=environ)
    try:
        process.wait_until_it_serves()
        yield process
    finally:
        process.stop()
