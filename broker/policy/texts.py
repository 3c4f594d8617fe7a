"""Values of claims and policies as texts, matched and shown. Knows no policy's meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_SHOWN_CHARACTERS = 200


@lru_cache(maxsize=256)
def pattern(text: str, wildcards: str) -> re.Pattern[str]:
    """Compile a pattern in which ``*`` is any text and, where *wildcards* has it, ``?`` any
    one character; IAM's ``${*}``, ``${?}`` and ``${$}`` are then the plain characters.

    Each part after a star is matched at its first place and never given back, so that no
    pattern takes longer than its length times the text's.
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
    """Match *value* against a pattern of IAM's."""
    return pattern(text, "*?").fullmatch(value) is not None


def listed(value: object) -> list[object]:
    """Return what JSON allows to stand alone instead of in a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def texts(value: object) -> tuple[str, ...]:
    """Return what JSON holds as texts; what has no text (an object, null) is left out."""
    return tuple(text_of(one) for one in listed(value) if isinstance(one, (str, int, float)))


def text_of(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else ""


def listing(values: Iterable[str]) -> str:
    quoted = [shown(value) for value in values]
    if len(quoted) <= 1:
        return quoted[0] if quoted else "none"
    return f"one of {', '.join(quoted)}"


def shown(value: str) -> str:
    """Quote a foreign text: control characters escaped, the end of a long one left off."""
    cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
    return repr(cut)
