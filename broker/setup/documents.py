"""IAM policy documents: their statements, how two differ, and which admits as much as another."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence

Document = Mapping[str, object]
"""A JSON object, such as an IAM policy."""

VERSION = "2012-10-17"

_OPERATOR = re.compile(
    r"(?:(?:ForAllValues|ForAnyValue):)?(?P<base>StringEquals|StringLike)(?:IfExists)?",
    re.IGNORECASE,
)
"""The operators that a desired condition is compared with."""


def policy_of(*statements: Document) -> Document:
    return {"Version": VERSION, "Statement": list(statements)}


def statements_of(policy: Document) -> list[object]:
    listed = policy.get("Statement")
    if listed is None:
        return []
    return list(listed) if isinstance(listed, (list, tuple)) else [listed]


def with_statement(policy: Document, statement: Document) -> Document:
    """Return *policy* with *statement* after its own, which stay as they are and in order."""
    return {**policy, "Statement": [*statements_of(policy), statement]}


def without_statement(policy: Document, statement: Document) -> Document:
    """Return *policy* without the statements that are equal to *statement* as JSON."""
    return {**policy, "Statement": [one for one in statements_of(policy) if one != statement]}


def difference(before: Document | None, after: Document | None) -> tuple[str, ...]:
    """Return the lines that differ, as a plan shows them; all of one that is new or goes."""
    old, new = _lines(before), _lines(after)
    if not old or not new:
        return tuple([f"- {line}" for line in old] + [f"+ {line}" for line in new])
    shown = difflib.unified_diff(old, new, lineterm="", n=2)
    lines = [line for line in shown if not line.startswith(("---", "+++"))]
    return tuple("  ..." if line.startswith("@@") else f"{line[0]} {line[1:]}" for line in lines)


def _lines(document: Document | None) -> list[str]:
    return [] if document is None else json.dumps(document, indent=2).splitlines()


# Whether one statement admits all that another does.


def admits_as_much(statement: object, desired: Document) -> bool:
    """Return whether *statement* allows everything that *desired* does.

    One that is not understood does not: then *desired* is added, which does no harm.
    """
    if not isinstance(statement, Mapping) or statement.get("Effect") != "Allow":
        return False
    return (
        _covers_action(statement, desired)
        and _covers_principal(statement, desired)
        and _asks_no_more(statement.get("Condition"), desired.get("Condition"))
    )


def wider_patterns(statement: object, desired: Document) -> tuple[str, ...]:
    """Return the values of *statement*'s conditions that admit more than *desired* asks for."""
    if not isinstance(statement, Mapping):
        return ()
    narrow = {value for _, _, value in _tests(desired.get("Condition"))}
    actual = [value for _, _, value in _tests(statement.get("Condition"))]
    return tuple(dict.fromkeys(value for value in actual if value not in narrow))


def _covers_action(statement: Mapping[str, object], desired: Document) -> bool:
    patterns = [pattern.lower() for pattern in texts(statement.get("Action"))]
    return all(
        any(contains(pattern, action.lower()) for pattern in patterns)
        for action in texts(desired.get("Action"))
    )


def _covers_principal(statement: Mapping[str, object], desired: Document) -> bool:
    actual, principal = statement.get("Principal"), desired.get("Principal")
    if not isinstance(actual, Mapping) or not isinstance(principal, Mapping):
        return False
    return all(set(texts(principal[kind])) <= set(texts(actual.get(kind))) for kind in principal)


def _asks_no_more(actual: object, desired: object) -> bool:
    """Return whether each condition of *actual* holds for whatever fulfils *desired*'s."""
    if actual is None:
        return True
    if not isinstance(actual, Mapping):
        return False
    promised: dict[str, list[str]] = {}
    for _, key, value in _tests(desired):
        promised.setdefault(key, []).append(value)
    for name, tests in actual.items():
        operator = _OPERATOR.fullmatch(str(name))
        if operator is None or not isinstance(tests, Mapping):
            return False
        literal = operator["base"].lower() == "stringequals"
        for key, values in tests.items():
            promised_values = promised.get(str(key).lower(), [])
            if not promised_values or not all(
                _taken(one, texts(values), literal=literal) for one in promised_values
            ):
                return False
    return True


def _taken(pattern: str, values: Sequence[str], *, literal: bool) -> bool:
    if literal:
        return not set("*?") & set(pattern) and pattern in values
    return any(contains(value, pattern) for value in values)


def _tests(conditions: object) -> Iterator[tuple[str, str, str]]:
    """Yield each operator, key (lower case) and value."""
    for name, tests in (conditions if isinstance(conditions, Mapping) else {}).items():
        for key, values in (tests if isinstance(tests, Mapping) else {}).items():
            for value in texts(values):
                yield str(name), str(key).lower(), value


def texts(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, (list, tuple)) else [value]
    return tuple(one for one in listed if isinstance(one, str))


def contains(wide: str, narrow: str) -> bool:
    """Return whether the pattern *wide* matches every text that *narrow* does.

    Says no where it is unsure, as of ``a?*`` and ``a*?``. Takes the product of their lengths.
    """
    if "${" in wide or "${" in narrow:
        return wide == narrow
    at, star, resume = 0, -1, 0
    place = 0
    while place < len(narrow):
        if at < len(wide) and wide[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(wide) and _one_matches(wide[at], narrow[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return all(character == "*" for character in wide[at:])


def _one_matches(wide: str, narrow: str) -> bool:
    if wide == "?":
        return narrow != "*"
    return wide == narrow and narrow not in "*?"
