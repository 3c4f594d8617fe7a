"""Our programs as processes: start, hear that they are ready, see what they use, end them."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ProcessFailed(Exception):
    """A program ended, or did not say in time what it should; the text has its last lines."""


class Process:
    """A running ``python -m …`` that tells what happens to it in lines of JSON.

    Both its outputs are read to the end, so that it never waits for us.
    """

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.began_at = time.perf_counter()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=dict(environ),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=10)
        self._name = " ".join(arguments[:2])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def heard(self, event: str) -> tuple[float, dict[str, Any]]:
        """Wait for the line about *event*; return when it came (`time.perf_counter`) and its keys.

        Raises:
            ProcessFailed: It ended instead, or nothing came in time.
        """
        while True:
            try:
                at, line = self._lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                line = b""
            if not line:
                last = "\n".join(self._last)
                raise ProcessFailed(f"{self._name} did not say {event}; its last lines:\n{last}")
            self._last.append(line.decode("utf-8", "replace").rstrip())
            said = said_in(line)
            if said.get("event") == event:
                return at, said

    def ask(self, event: str) -> dict[str, Any]:
        """Prompt it with an empty line, and return what it says about *event*."""
        self._write(b"\n")
        return self.heard(event)[1]

    def tell(self, order: Mapping[str, Any]) -> None:
        """Give it its order, a line of JSON."""
        self._write(json.dumps(order).encode() + b"\n")

    def cpu_s(self) -> float:
        """Return the CPU time it has used, user and system, in steps of a tick (10 ms)."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S

    def rss_mib(self) -> float:
        """Return the memory that is resident for it, in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise ProcessFailed(f"{self._name} has ended")

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join()
        for stream in (self._popen.stdin, self._popen.stdout):
            assert stream is not None
            stream.close()

    def _write(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(line)
        self._popen.stdin.flush()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._lines.put((time.perf_counter(), line))
        self._lines.put((time.perf_counter(), b""))


def machine_cpu_s() -> float:
    """Return the CPU time that everything on this machine has used.

    What a hypervisor withheld counts as used. Source: proc_stat(5): idle and iowait are the 4th and
    5th.
    """
    total = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(each) for each in total]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICKS_PER_S


def said_in(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@contextmanager
def started(arguments: Sequence[str], environ: Mapping[str, str]) -> Iterator[Process]:
    """Run ``python -m`` with these arguments and no other environment, for the block."""
    process = Process(arguments, environ)
    try:
        yield process
    finally:
        process.stop()
