"""Constraints on the parameters of AWS's operations, refused in AWS's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from broker.sandbox.aws.query import ApiError, structures

Params = Mapping[str, str]

NAME = r"[\w+=,.@-]*"

_TAGS, _TAG_KEY_CHARACTERS, _TAG_VALUE_CHARACTERS = 50, 128, 256


def complaint(shown: str, name: str, constraint: str) -> str:
    """Say that the value *shown* of *name* does not "*constraint*", as every service words it."""
    member = name[:1].lower() + name[1:]
    return (
        f"1 validation error detected: Value {shown} at '{member}' failed to satisfy "
        f"constraint: Member must {constraint}"
    )


def invalid(shown: str, name: str, constraint: str) -> ApiError:
    return ApiError("ValidationError", complaint(shown, name, constraint))


def sized(params: Params, name: str, *, least: int, most: int, shown: bool = True) -> str:
    """Return the parameter, which must be there, if its length is from *least* to *most*."""
    value = params.get(name)
    if value is None:
        raise invalid("null", name, "not be null")
    check_length(value, name, least=least, most=most, shown=shown)
    return value


def check_length(value: str, name: str, *, least: int, most: int, shown: bool = True) -> None:
    quoted = f"'{value}'" if shown else "'***'"
    if len(value) < least:
        raise invalid(quoted, name, f"have length greater than or equal to {least}")
    if len(value) > most:
        raise invalid(quoted, name, f"have length less than or equal to {most}")


def named(params: Params, name: str, *, least: int, most: int, pattern: str = NAME) -> str:
    value = sized(params, name, least=least, most=most)
    if not re.fullmatch(pattern, value, re.ASCII):
        raise invalid(f"'{value}'", name, f"satisfy regular expression pattern: {pattern}")
    return value


def whole(params: Params, name: str, *, least: int, most: int, default: int) -> int:
    """Return the whole number, if it is from *least* to *most*."""
    text = params.get(name, str(default))
    if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
        raise ApiError("MalformedInput", f"{name} is not an integer")
    if int(text) < least:
        raise invalid(f"'{text}'", name, f"have value greater than or equal to {least}")
    if int(text) > most:
        raise invalid(f"'{text}'", name, f"have value less than or equal to {most}")
    return int(text)


def tags(params: Params) -> dict[str, str]:
    """Return the parameter ``Tags`` by key. Source: aws-api.md 4."""
    listed = structures(params, "Tags")
    found = {one.get("Key", ""): one.get("Value", "") for one in listed}
    if len(listed) > _TAGS:
        raise invalid("'[…]'", "Tags", f"have length less than or equal to {_TAGS}")
    if len(found) != len(listed):
        raise ApiError("InvalidParameterValue", "Duplicate tag keys found.")
    for key, value in found.items():
        fits = 1 <= len(key) <= _TAG_KEY_CHARACTERS and len(value) <= _TAG_VALUE_CHARACTERS
        if not fits or not _is_tag_text(key + value):
            raise invalid(f"'{key}'", "Tags", "satisfy the constraints of tag keys and values")
    return found


def _is_tag_text(text: str) -> bool:
    return all(c.isalpha() or c.isnumeric() or c in " _.:/=+-@" for c in text)
