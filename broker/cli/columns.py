"""Rows as an aligned table for a terminal. Pure."""

from collections.abc import Sequence


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the lines of a table, each with its line break; control characters are blanked."""
    table = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
    return "".join(f"{line}\n" for line in lines)


def printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def span(seconds: float) -> str:
    """Return a length of time as a person reads it: two units at most."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest_s} s" if rest_s else f"{minutes} min"
    hours, rest_min = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest_min} min" if rest_min else f"{hours} h"
