"""The index of rules finds the same rule as reading them all, at a cost that does not grow."""

from dataclasses import replace

from hypothesis import given

from broker.access.caller import NO_GRANT, Caller, Grant
from broker.access.match import Account, Who
from broker.access.rules import FirstMatch, Rule
from tests.support.access import (
    ALICE,
    CONTAINER,
    KNOWN,
    Known,
    callers,
    rules_of,
    several_whos,
)


def read_all(rules: FirstMatch, caller: Caller, known: Known) -> Grant:
    """Return the grant of the first rule that matches, after reading every rule before it."""
    for rule in rules.rules:
        matches = rule.who.matches(caller, known)
        if matches is not False:
            return rule.grant if matches else NO_GRANT
    return NO_GRANT


@given(several_whos, callers)
def test_the_index_and_reading_all_rules_agree(several: list[Who], caller: Caller) -> None:
    rules = rules_of(*several)

    assert rules.grant_for(caller) == read_all(rules, caller, KNOWN)


@given(several_whos, callers)
def test_they_agree_for_callers_of_unknown_cgroup(several: list[Who], caller: Caller) -> None:
    hidden = replace(caller, unit=None, user_unit=None, container=None, is_located=False)
    rules = rules_of(*several)

    assert rules.grant_for(hidden) == read_all(rules, hidden, KNOWN)


@given(several_whos, callers)
def test_they_agree_while_the_user_database_is_silent(several: list[Who], caller: Caller) -> None:
    silent = Known(programs=KNOWN.programs)
    rules = rules_of(*several, known=silent)

    assert rules.grant_for(caller) == read_all(rules, caller, silent)


def test_a_container_is_found_by_any_number_of_its_digits() -> None:
    rules = rules_of(*(Who(container=CONTAINER[:digits]) for digits in (64, 20, 12)))

    assert rules.grant_for(replace(ALICE, container=CONTAINER)).rule == "rules[1]"
    assert rules.grant_for(replace(ALICE, container=CONTAINER[:30] + "0" * 34)).rule == "rules[2]"


class Counted(Who):
    """A condition that counts how often it is evaluated."""

    evaluated = 0

    def matches(self, caller: Caller, facts: object) -> bool | None:
        type(self).evaluated += 1
        return super().matches(caller, facts)  # type: ignore[arg-type]


def test_a_thousand_rules_for_others_are_not_read() -> None:
    others = [
        *(Counted(uid=uid) for uid in range(5000, 5400)),
        *(Counted(token=f"token-{number}") for number in range(200)),
        *(Counted(unit=f"unit-{number}.service") for number in range(200)),
        *(Counted(group=Account(f"group-{gid}", gid)) for gid in range(7000, 7200)),
    ]
    rules = FirstMatch(
        [Rule(number=number, who=who) for number, who in enumerate([*others, Counted(uid=1000)])],
        facts=KNOWN,
    )

    grant = rules.grant_for(ALICE)

    assert grant.rule == f"rules[{len(others)}]"
    assert Counted.evaluated == 1
