"""Tables of numbers, as text and as JSON."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

Row = Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True)
class Column:
    """A row's value by its key, under which heading, with how many digits after the point."""

    key: str
    title: str
    digits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one kind. Each has a ``name``; what a row lacks is shown as a dash."""

    title: str
    note: str = ""
    columns: Sequence[Column]
    rows: Sequence[Row]


def text_of(table: Table) -> str:
    """Return the table in aligned columns, numbers to the right."""
    head = ["", *(column.title for column in table.columns)]
    lines = [
        [str(row["name"]), *(_cell(row, column) for column in table.columns)] for row in table.rows
    ]
    widths = [max(len(line[at]) for line in [head, *lines]) for at in range(len(head))]
    shown = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in [head, *lines]
    ]
    title = [table.title, "=" * len(table.title)]
    return "\n".join([*title, *shown, *([table.note] if table.note else [])])


def markdown_of(table: Table) -> str:
    """Return the same as a Markdown table."""
    lines = [
        ["", *(column.title for column in table.columns)],
        ["---", *("---:" for _ in table.columns)],
        *([str(row["name"]), *(_cell(row, c) for c in table.columns)] for row in table.rows),
    ]
    shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {table.title}\n\n{shown}" + (f"\n\n{table.note}" if table.note else "")


def document_of(table: Table) -> dict[str, Any]:
    """Return the same for a program: values unrounded, keys instead of headings."""
    return {"title": table.title, "rows": [dict(row) for row in table.rows]}


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.{column.digits}f}"


def machine() -> dict[str, str | int]:
    """Return what the numbers depend on, and nothing that names the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "aiohttp": metadata.version("aiohttp"),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def percentile(values: Sequence[float], part: float) -> float | None:
    """Return the smallest of *values* that *part* of them (0 to 1) do not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]


def median(values: Sequence[float]) -> float | None:
    return percentile(values, 0.5)


def scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
