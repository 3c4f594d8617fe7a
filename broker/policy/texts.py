"""Read the values of claims and policies as text, match them and quote them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_MAX_CHARACTERS = 200


@lru_cache(maxsize=256)
def pattern(text: str, wildcards: str) -> re.Pattern[str]:
    """Compile a pattern in which ``*`` is any text and ``?``, if in *wildcards*, any character.

    With ``?``, IAM's ``${*}``, ``${?}`` and ``${$}`` are the plain characters. Each part after a
    star is matched at its first place without backtracking, so that no pattern takes longer than
    its length times the text's.
    """
    escapes = r"\$\{[*?$]\}|." if "?" in wildcards else "."
    segments = [""]
    for piece in re.findall(escapes, text, re.DOTALL):
        if piece == "*":
            segments.append("")
        elif piece in wildcards:
            segments[-1] += "."
        else:
            segments[-1] += re.escape(piece.removeprefix("${").removesuffix("}") or piece)
    first, *rest = segments
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    atomic = "".join(f"(?>.*?{segment})" for segment in middle)
    return re.compile(f"{first}{atomic}.*{last}", re.DOTALL)


def like(text: str, value: str) -> bool:
    """Return whether *value* matches a pattern of IAM."""
    return pattern(text, "*?").fullmatch(value) is not None


def listed(value: object) -> list[object]:
    """Return *value* as a list; JSON policies may leave the list out around a single value."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def texts(value: object) -> tuple[str, ...]:
    """Return *value* as texts; objects and null are left out."""
    return tuple(text_of(one) for one in listed(value) if isinstance(one, (str, int, float)))


def text_of(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else ""


def listing(values: Iterable[str]) -> str:
    items = [quoted(value) for value in values]
    if len(items) <= 1:
        return items[0] if items else "none"
    return f"one of {', '.join(items)}"


def quoted(value: str) -> str:
    """Quote *value* for a message: control characters escaped, a long one cut."""
    cut = value if len(value) <= _MAX_CHARACTERS else value[:_MAX_CHARACTERS] + "…"
    return repr(cut)
