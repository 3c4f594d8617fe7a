"""Rules that no caller can ever reach. Pure; says it only where it is certain."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from broker.access.caller import PLAIN_TOKEN
from broker.access.match import Who
from broker.access.rules import Rule

LOCAL_KEYS = frozenset(
    {"any_local", "uid", "user", "unit", "user_unit", "container", "group", "exe"}
)
"""Keys that hold only for a caller with a uid: ``cidr`` holds only for one without."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A rule that decides for nobody, as a sentence that says why and what to do."""

    rule: str
    reason: str


def unreachable(rules: Iterable[Rule]) -> tuple[Unreachable, ...]:
    """Return the rules that match nobody, or only callers for whom an earlier one has decided."""
    found = []
    earlier: list[Rule] = []
    for rule in rules:
        first = next((each for each in earlier if covers(each.who, rule.who)), None)
        if reason := contradiction(rule.who):
            found.append(Unreachable(rule.name, reason))
        elif first is not None:
            reason = (
                f"never reached: {first.name} already decides for everybody it means; "
                f"put it before {first.name} or remove it"
            )
            found.append(Unreachable(rule.name, reason))
        else:
            earlier.append(rule)
    return tuple(found)


def contradiction(who: Who) -> str | None:
    """Return why nobody can be meant by *who*; None where somebody could."""
    local = [key for key in who.keys if key in LOCAL_KEYS]
    if who.cidr is not None and local:
        return (
            f"matches nobody: cidr is for callers from elsewhere, who have no {local[0]}; "
            "make two rules of it"
        )
    if who.user is not None and who.uid not in (None, who.user.number):
        return f"matches nobody: {who.user} is uid {who.user.number}; leave out uid or user"
    if who.token == PLAIN_TOKEN:
        return f'matches nobody: token "{PLAIN_TOKEN}" names nobody; add one to container.tokens'
    return None


def covers(wide: Who, narrow: Who) -> bool:
    """Say whether *wide* certainly holds wherever *narrow* does."""
    return bool(wide.keys) and all(ASSURED[key](getattr(wide, key), narrow) for key in wide.keys)


def _uid_of(who: Who) -> int | None:
    return who.user.number if who.user is not None else who.uid


def _same(key: str) -> Callable[[Any, Who], bool]:
    return lambda wanted, narrow: bool(getattr(narrow, key) == wanted)


def _same_group(wanted: Any, narrow: Who) -> bool:
    return narrow.group is not None and bool(narrow.group.number == wanted.number)


def _longer_id(wanted: Any, narrow: Who) -> bool:
    return narrow.container is not None and narrow.container.startswith(wanted)


def _inner_network(wanted: Any, narrow: Who) -> bool:
    inner = narrow.cidr
    return inner is not None and inner.version == wanted.version and inner.subnet_of(wanted)


ASSURED: dict[str, Callable[[Any, Who], bool]] = {
    "any_local": lambda _, narrow: not LOCAL_KEYS.isdisjoint(narrow.keys),
    "uid": lambda uid, narrow: _uid_of(narrow) == uid,
    "user": lambda user, narrow: _uid_of(narrow) == user.number,
    "token": _same("token"),
    "unit": _same("unit"),
    "user_unit": _same("user_unit"),
    "container": _longer_id,
    "cidr": _inner_network,
    "group": _same_group,
    "exe": _same("exe"),
}
"""For each key, whether what the wide rule wants of it follows from the narrow rule."""
