"""Write texts, values and blocks in Terraform's language.

Source: HCL native syntax, "Quoted Templates": ``${`` and ``%{`` begin a template, doubled they are
themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from broker.setup.render.draft import escaped, pieces
from broker.setup.resource import Placeholder

Fills = Mapping[Placeholder, str]
"""The expression for each placeholder."""

_MARK_BEFORE_TEMPLATE = re.compile(r"[$%](?=\{)")
_MARK_BEFORE_MARK = re.compile(r"[$%](?=[$%]|\Z)")


class Expression(str):
    """A text that goes into the file as it is."""

    __slots__ = ()


def text(value: str, fills: Fills) -> str:
    """Return a quoted template that is read as *value*, its placeholders filled."""
    parts = [
        f"${{{fills[piece]}}}" if isinstance(piece, Placeholder) else _literal(piece)
        for piece in pieces(value, frozenset(fills))
    ]
    return '"' + "".join(parts) + '"'


def _literal(value: str) -> str:
    # A mark before another, or at the end where a template may follow, would join with that.
    literal = "".join(map(escaped, value))
    literal = _MARK_BEFORE_MARK.sub(lambda mark: f"\\u{ord(mark[0]):04x}", literal)
    return _MARK_BEFORE_TEMPLATE.sub(lambda mark: mark[0] * 2, literal)


def expression(value: object, fills: Fills, *, indent: int = 0) -> str:
    """Return *value*, as JSON has it, as an expression; its further lines are indented."""
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, str):
        return text(value, fills)
    if isinstance(value, Mapping):
        members = {text(str(key), {}): one for key, one in value.items()}
        return f"{{\n{_members(members, fills, indent=indent + 2)}{outer}}}" if members else "{}"
    if isinstance(value, (list, tuple)):
        items = [expression(one, fills, indent=indent + 2) for one in value]
        if all(isinstance(one, (str, int)) for one in value):
            return f"[{', '.join(items)}]"
        return f"[\n{''.join(f'{inner}{item},{chr(10)}' for item in items)}{outer}]"
    return json.dumps(value)


def document(value: Mapping[str, object], fills: Fills, *, indent: int = 2) -> Expression:
    """Return a JSON document as Terraform writes one."""
    return Expression(f"jsonencode({expression(value, fills, indent=indent)})")


def block(words: Sequence[str], arguments: Mapping[str, object], fills: Fills) -> str:
    """Return a block: *words* before its brace, the first bare.

    Arguments that are None are left out.
    """
    head = " ".join([words[0], *(text(word, {}) for word in words[1:])])
    present = {name: value for name, value in arguments.items() if value is not None}
    return f"{head} {{\n{_members(present, fills, indent=2)}}}\n"


def _members(members: Mapping[str, object], fills: Fills, *, indent: int) -> str:
    """Return one line or more for each, laid out as `terraform fmt` does.

    The equals signs of neighbouring single lines are aligned.
    """
    written = [(name, expression(one, fills, indent=indent)) for name, one in members.items()]
    lines = []
    for takes_more, neighbours in groupby(written, key=lambda member: "\n" in member[1]):
        group = list(neighbours)
        width = 0 if takes_more else max(len(name) for name, _ in group)
        lines += [f"{' ' * indent}{name.ljust(width)} = {value}\n" for name, value in group]
    return "".join(lines)
