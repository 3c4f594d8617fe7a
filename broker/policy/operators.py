"""Compare a request's values with a policy's by IAM's condition operators.

A comparison is None where its result is unknown: the policy's value has a variable, or is not of
the operator's type.

Source: IAM reference, "IAM JSON policy elements: Condition operators"; for the sets,
"Multivalued context keys".
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.policy.texts import like

Compares = Callable[[str, str], bool | None]

_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?", re.ASCII)
_EPOCH = re.compile(r"\d{1,11}", re.ASCII)
_ARN_PARTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator: how values compare, and what an absent key means.

    Without a set prefix an absent key fails a positive test and passes a negated one; with
    ``IfExists`` it always passes. ``ForAllValues`` passes when there is no value at all,
    ``ForAnyValue`` does not. ``Null`` has no comparison: "true" requires the key to be absent.
    """

    name: str
    compares: Compares | None
    negated: bool = False
    if_exists: bool = False
    quantifier: str = ""

    @property
    def is_literal(self) -> bool:
        """Return whether wildcards are plain characters to it."""
        return self.compares in (_equal, _equal_ignoring_case)

    def holds(self, expected: tuple[str, ...], presented: tuple[str, ...]) -> bool | None:
        if self.compares is None:
            return ("true" if not presented else "false") in {each.lower() for each in expected}
        if not presented:
            return self._holds_when_absent()
        compares = self.compares
        found = [_any(compares(each, value) for each in expected) for value in presented]
        passed = [_not(one) if self.negated else one for one in found]
        every = self.quantifier == "ForAllValues" or (self.negated and not self.quantifier)
        return _all(passed) if every else _any(passed)

    def _holds_when_absent(self) -> bool:
        if self.if_exists or self.quantifier == "ForAllValues":
            return True
        return self.negated and not self.quantifier


def parse_operator(name: str) -> Operator | None:
    """Return the operator of that name; None for one that is not evaluated here.

    AWS takes ``IfExists`` on every operator except ``Null``.
    """
    parts = _NAME.fullmatch(name)
    if name.lower() == "null":
        return Operator(name="Null", compares=None)
    if parts is None or parts["base"].lower() not in _COMPARISONS:
        return None
    compares, negated = _COMPARISONS[parts["base"].lower()]
    return Operator(
        name=name,
        compares=compares,
        negated=negated,
        if_exists=parts["if_exists"] is not None,
        quantifier=_QUANTIFIERS.get((parts["quantifier"] or "").lower(), ""),
    )


def is_operator(name: str) -> bool:
    """Return whether AWS has an operator of that name, evaluated here or not."""
    parts = _NAME.fullmatch(name)
    binary = parts is not None and parts["base"].lower() == "binaryequals"
    return binary or parse_operator(name) is not None


# Three-valued logic: True, False, and None for unknown.


def _any(answers: Iterable[bool | None]) -> bool | None:
    seen = set(answers)
    return True if True in seen else (None if None in seen else False)


def _all(answers: Iterable[bool | None]) -> bool | None:
    seen = set(answers)
    return False if False in seen else (None if None in seen else True)


def _not(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


# Comparisons of the policy's value with the request's.


def _equal(expected: str, value: str) -> bool:
    return expected == value


def _equal_ignoring_case(expected: str, value: str) -> bool:
    return expected.lower() == value.lower()


def _matches(expected: str, value: str) -> bool:
    return like(expected, value)


def _arn_matches(expected: str, value: str) -> bool | None:
    """Compare part by part: a wildcard matches no colon, except in the last part."""
    pattern, parts = expected.split(":", _ARN_PARTS - 1), value.split(":", _ARN_PARTS - 1)
    if len(pattern) != _ARN_PARTS:
        return None
    return len(parts) == _ARN_PARTS and all(map(like, pattern, parts))


def _same_truth(expected: str, value: str) -> bool | None:
    if expected.lower() not in ("true", "false"):
        return None
    return expected.lower() == value.lower()


def _in_network(expected: str, value: str) -> bool | None:
    try:
        network = ipaddress.ip_network(expected, strict=False)
    except ValueError:
        return None
    try:
        return ipaddress.ip_address(value) in network
    except ValueError:
        return False


def _numbers(compares: Callable[[float, float], bool]) -> Compares:
    def compared(expected: str, value: str) -> bool | None:
        if not _NUMBER.fullmatch(expected):
            return None
        return _NUMBER.fullmatch(value) is not None and compares(float(value), float(expected))

    return compared


def _dates(compares: Callable[[datetime, datetime], bool]) -> Compares:
    def compared(expected: str, value: str) -> bool | None:
        expected_at, at = _date(expected), _date(value)
        if expected_at is None:
            return None
        return at is not None and compares(at, expected_at)

    return compared


def _date(text: str) -> datetime | None:
    """Read ISO 8601, or seconds since 1970."""
    try:
        if _EPOCH.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


_COMPARISONS: Mapping[str, tuple[Compares, bool]] = {
    "stringequals": (_equal, False),
    "stringnotequals": (_equal, True),
    "stringequalsignorecase": (_equal_ignoring_case, False),
    "stringnotequalsignorecase": (_equal_ignoring_case, True),
    "stringlike": (_matches, False),
    "stringnotlike": (_matches, True),
    "arnequals": (_arn_matches, False),
    "arnlike": (_arn_matches, False),
    "arnnotequals": (_arn_matches, True),
    "arnnotlike": (_arn_matches, True),
    "bool": (_same_truth, False),
    "ipaddress": (_in_network, False),
    "notipaddress": (_in_network, True),
    "numericequals": (_numbers(operator.eq), False),
    "numericnotequals": (_numbers(operator.eq), True),
    "numericlessthan": (_numbers(operator.lt), False),
    "numericlessthanequals": (_numbers(operator.le), False),
    "numericgreaterthan": (_numbers(operator.gt), False),
    "numericgreaterthanequals": (_numbers(operator.ge), False),
    "dateequals": (_dates(operator.eq), False),
    "datenotequals": (_dates(operator.eq), True),
    "datelessthan": (_dates(operator.lt), False),
    "datelessthanequals": (_dates(operator.le), False),
    "dategreaterthan": (_dates(operator.gt), False),
    "dategreaterthanequals": (_dates(operator.ge), False),
}

_NAME = re.compile(
    r"(?:(?P<quantifier>ForAllValues|ForAnyValue):)?(?P<base>[A-Za-z]+?)(?P<if_exists>IfExists)?",
    re.IGNORECASE,
)
_QUANTIFIERS = {"forallvalues": "ForAllValues", "foranyvalue": "ForAnyValue"}
