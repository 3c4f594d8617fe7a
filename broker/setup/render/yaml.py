"""Write JSON's values as readable YAML: in blocks, with quotes only where they are needed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from broker.setup.render.draft import escaped

_PLAIN = re.compile(r"[A-Za-z][\w./-]*(?:::?[\w./-]+)*", re.ASCII)
_TAKEN_FOR_OTHER = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def block(value: object, *, indent: int = 0) -> str:
    """Return *value* as lines, each beginning with *indent* spaces."""
    return "".join(f"{' ' * indent}{line}\n" for line in _lines(value))


def _lines(value: object) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [line for key, one in value.items() for line in _member(text(str(key)), one)]
    if isinstance(value, (list, tuple)) and value:
        return [line for one in value for line in _item(one)]
    return [_scalar(value)]


def _member(key: str, value: object) -> list[str]:
    if not _is_block(value):
        return [f"{key}: {_scalar(value)}"]
    return [f"{key}:", *(f"  {line}" for line in _lines(value))]


def _item(value: object) -> list[str]:
    first, *others = _lines(value)
    return [f"- {first}", *(f"  {line}" for line in others)]


def _is_block(value: object) -> bool:
    return isinstance(value, (Mapping, list, tuple)) and bool(value)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and "." not in repr(value):
        return repr(value).replace("e", ".0e")  # without a point YAML takes it for a text
    return json.dumps(value)


def text(value: str) -> str:
    """Return a scalar that is read as the text *value* and nothing else."""
    if _PLAIN.fullmatch(value) and value.lower() not in _TAKEN_FOR_OTHER:
        return value
    return '"' + "".join(map(escaped, value)) + '"'
