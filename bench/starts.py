"""How long the daemon takes to its first credential, and commands that run at every SDK start."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.effort import Effort
from bench.load import ask
from bench.process import ROOT
from bench.report import Column, Row, Table, median, scaled
from bench.servers import BARE_KINDS, Broker, Clouds, bare, broker, clean_environ

BODY_BYTES = 651
"""About the size of a credentials document."""

NOTHING = "python -c pass"
COMMANDS: Mapping[str, Sequence[str]] = {
    NOTHING: ("-c", "pass"),
    "credential-process": ("-m", "broker", "credential-process"),
    "env": ("-m", "broker", "env"),
    "wait": ("-m", "broker", "wait", "--timeout", "0"),
}


class Start(NamedTuple):
    ready_s: float
    first_answer_s: float


@dataclass(slots=True)
class Timed:
    """What one thing took, again and again, and how often it failed."""

    took_s: list[float] = field(default_factory=list)
    failed: int = 0


def starts(upstream: Clouds, folder: Path, effort: Effort) -> Table:
    """Start everything in turns, each process anew."""
    ours: list[Start] = []
    theirs: dict[str, list[Start]] = {name: [] for name in BARE_KINDS}
    for number in range(effort.starts):
        ours.append(broker_start(upstream, folder, f"start-{number}"))
        for name, found in theirs.items():
            found.append(bare_start(name, folder))
    return Table(
        title="From process start",
        note=f"Median and slowest of {effort.starts}. The broker is ready when its endpoints are "
        "open, which is when it has\nits first lease; the sandbox answers for both clouds.",
        columns=(
            Column("ready_ms", "to ready ms"),
            Column("first_answer_ms", "to first answer ms"),
            Column("slowest_ms", "slowest ms"),
        ),
        rows=[
            start_row("broker, first credential", ours),
            *(start_row(name, found) for name, found in theirs.items()),
        ],
    )


def broker_start(upstream: Clouds, folder: Path, name: str) -> Start:
    with broker(upstream, folder, name) as running:
        ask(running.container_visit())
        answered_at = time.perf_counter()
        began_at = running.process.began_at
        return Start(running.ready_at - began_at, answered_at - began_at)


def bare_start(name: str, folder: Path) -> Start:
    with bare(name, folder, body_bytes=BODY_BYTES) as running:
        ask(running.visit)
        answered_at = time.perf_counter()
        began_at = running.process.began_at
        return Start(running.ready_at - began_at, answered_at - began_at)


def start_row(name: str, found: Sequence[Start]) -> Row:
    return {
        "name": name,
        "ready_ms": scaled(median([start.ready_s for start in found]), 1e3),
        "first_answer_ms": scaled(median([start.first_answer_s for start in found]), 1e3),
        "slowest_ms": max(start.first_answer_s for start in found) * 1e3,
    }


def commands(running: Broker, folder: Path, effort: Effort) -> Table:
    """Run each command in turns against the running broker, beside the bare interpreter."""
    environ = clean_environ(folder) | {"NAMESPACE_BROKER_RUNTIME_DIR": str(running.runtime_dir)}
    timed = {name: Timed() for name in COMMANDS}
    for _ in range(effort.commands):
        for name, arguments in COMMANDS.items():
            time_command(timed[name], arguments, environ)
    return Table(
        title="Commands that run at every SDK start",
        note=f"Wall time of the whole process, median of {effort.commands}; each turn's ratio is "
        "taken within the turn.",
        columns=(
            Column("median_ms", "median ms", 1),
            Column("of_nothing", f"x {NOTHING}", 2),
            Column("failed", "failed"),
        ),
        rows=[
            {
                "name": name,
                "median_ms": scaled(median(each.took_s), 1e3),
                "of_nothing": median(
                    [
                        own / least
                        for own, least in zip(each.took_s, timed[NOTHING].took_s, strict=True)
                    ]
                ),
                "failed": each.failed,
            }
            for name, each in timed.items()
        ],
    )


def time_command(timed: Timed, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    began_at = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=dict(environ),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    timed.took_s.append(time.perf_counter() - began_at)
    timed.failed += done.returncode != os.EX_OK
