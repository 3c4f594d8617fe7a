"""Prometheus's text format, and the metrics of this process in it.

Source: Prometheus, "Exposition formats"; names as its own client libraries have them.
"""

import gc
import os
import platform
import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

Labels = Mapping[str, str]
Sample = tuple[Labels, float]
NO_LABELS: Labels = {}

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples by their labels; ``name`` of a counter ends in ``_total``."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Iterable[Sample]


class Histogram:
    """Counts durations in buckets, for one set of labels."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        bucket = 0
        for bound in self._bounds:
            if seconds <= bound:
                break
            bucket += 1
        self._counts[bucket] += 1
        self._sum += seconds

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield _line(f"{name}_bucket", {**labels, "le": _number(bound)}, total)
        yield _line(f"{name}_count", labels, total)
        yield _line(f"{name}_sum", labels, self._sum)


def family_lines(family: Family) -> Iterator[str]:
    yield from _head(family.name, family.kind, family.help)
    for labels, value in family.samples:
        yield _line(family.name, labels, value)


def histogram_lines(
    name: str, help_text: str, histograms: Iterable[tuple[Labels, Histogram]]
) -> Iterator[str]:
    yield from _head(name, "histogram", help_text)
    for labels, histogram in histograms:
        yield from histogram.lines(name, labels)


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}\n"
    yield f"# TYPE {name} {kind}\n"


def _line(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{labels[key].translate(_ESCAPES)}"' for key in sorted(labels))
    return f"{name}{{{pairs}}} {_number(value)}\n" if pairs else f"{name} {_number(value)}\n"


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(float(value))


def process_families() -> Iterator[Family]:
    """Return what Prometheus's client libraries tell of every process, and of Python."""
    for name, help_text, value in _process_values():
        kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
        yield Family(f"process_{name}", kind, help_text, [(NO_LABELS, value)])
    yield from _python_families()


def _process_values() -> Iterator[tuple[str, str, float]]:
    fields = _stat_fields()
    yield "virtual_memory_bytes", "Virtual memory size in bytes.", float(fields[20])
    resident = float(fields[21]) * _PAGE_BYTES
    yield "resident_memory_bytes", "Resident memory size in bytes.", resident
    started_s = _boot_time_s() + float(fields[19]) / _TICKS_PER_S
    yield "start_time_seconds", "Start time of the process since unix epoch in seconds.", started_s
    cpu_s = (float(fields[11]) + float(fields[12])) / _TICKS_PER_S
    yield "cpu_seconds_total", "Total user and system CPU time spent in seconds.", cpu_s
    with suppress(PermissionError):  # as a process that keeps its memory private is refused
        open_fds = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        yield "open_fds", "Number of open file descriptors.", open_fds
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield "max_fds", "Maximum number of open file descriptors.", limit


def _python_families() -> Iterator[Family]:
    major, minor, patchlevel = platform.python_version_tuple()
    about = {
        "implementation": platform.python_implementation(),
        "major": major,
        "minor": minor,
        "patchlevel": patchlevel,
        "version": platform.python_version(),
    }
    yield Family("python_info", "gauge", "Python platform information", [(about, 1)])
    for name, key, help_text in (
        ("objects_collected", "collected", "Objects collected during gc"),
        ("objects_uncollectable", "uncollectable", "Uncollectable objects found during GC"),
        ("collections", "collections", "Number of times this generation was collected"),
    ):
        samples = [({"generation": str(n)}, stats[key]) for n, stats in enumerate(gc.get_stats())]
        yield Family(f"python_gc_{name}_total", "counter", help_text, samples)


def _stat_fields() -> list[str]:
    """Return the fields of proc(5) ``stat`` from the third one, after the name of the program."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        return file.read().rpartition(") ")[2].split()


def _boot_time_s() -> float:
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123
        return next(float(line.split()[1]) for line in file if line.startswith("btime "))
