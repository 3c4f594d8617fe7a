"""A rule that can never decide is found, and no other is taken for one."""

from ipaddress import ip_network

import pytest
from hypothesis import given

from broker.access.caller import Caller
from broker.access.match import Account, Who
from broker.access.rules import FirstMatch, Rule, evadable, unreachable
from tests.support.access import CONTAINER, KNOWN, callers, rules_of, several_whos

CI = Account("ci", 1000)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(Who(user=CI), Who(user=CI), id="the same"),
        pytest.param(Who(user=CI), Who(uid=1000), id="the same by number"),
        pytest.param(Who(uid=1000), Who(user=CI, unit="ci.service"), id="with one more key"),
        pytest.param(Who(any_local=True), Who(uid=0), id="a user with a name"),
        pytest.param(Who(any_local=True), Who(user=CI, unit="ci.service"), id="a user's unit"),
        pytest.param(Who(any_local=True), Who(group=Account("docker", 27)), id="any local group"),
        pytest.param(
            Who(cidr=ip_network("10.0.0.0/8")), Who(cidr=ip_network("10.7.0.0/16")), id="network"
        ),
        pytest.param(
            Who(container=CONTAINER[:12]), Who(container=CONTAINER), id="a longer container id"
        ),
        pytest.param(Who(token="ci"), Who(token="ci", any_local=True), id="token"),
    ],
)
def test_a_rule_after_one_that_covers_it_is_never_reached(earlier: Who, later: Who) -> None:
    (found,) = unreachable(rules_of(Who(uid=5), earlier, later).rules)

    assert found.rule == "rules[3]"
    assert "rules[2] already matches everybody it matches" in found.reason
    assert unreachable(rules_of(Who(uid=5), later).rules) == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        pytest.param(Who(user=CI, unit="ci.service"), Who(user=CI), id="the narrower first"),
        pytest.param(Who(uid=1000), Who(uid=1001), id="another user"),
        pytest.param(Who(group=Account("docker", 27)), Who(user=CI), id="who may leave the group"),
        pytest.param(Who(any_local=True), Who(token="ci"), id="a token from elsewhere"),
        pytest.param(Who(any_local=True), Who(uid=4_000_000_001), id="a uid without a name"),
        pytest.param(Who(any_local=True), Who(unit="ci.service"), id="without names in a unit"),
        pytest.param(Who(any_local=True), Who(container=CONTAINER), id="mapped for a container"),
        pytest.param(Who(any_local=True), Who(cidr=ip_network("10.0.0.0/8")), id="elsewhere"),
        pytest.param(Who(cidr=ip_network("0.0.0.0/0")), Who(cidr=ip_network("::/0")), id="IPv6"),
        pytest.param(Who(), Who(uid=1000), id="after one that means nobody"),
    ],
)
def test_a_rule_that_somebody_can_reach_is_left_alone(earlier: Who, later: Who) -> None:
    assert unreachable(rules_of(earlier, later).rules) == ()


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        pytest.param(
            Who(cidr=ip_network("10.0.0.0/8"), unit="ci.service"),
            "cidr is for remote callers, which have no unit; split it into two rules",
            id="address and unit",
        ),
        pytest.param(
            Who(user=CI, uid=1001), "ci is uid 1000; leave out uid or user", id="two users"
        ),
        pytest.param(
            Who(token="default"), 'token "default" names nobody', id="the token of everybody"
        ),
    ],
)
def test_a_rule_that_contradicts_itself_is_found(who: Who, reason: str) -> None:
    (found,) = unreachable(rules_of(who).rules)

    assert found.rule == "rules[1]"
    assert reason in found.reason


@given(several_whos, callers)
def test_removing_unreachable_rules_changes_no_grant(several: list[Who], caller: Caller) -> None:
    rules = rules_of(*several)
    found = {each.rule for each in unreachable(rules.rules, is_user=KNOWN.has_name)}

    left = FirstMatch([rule for rule in rules.rules if rule.name not in found], facts=KNOWN)

    assert left.grant_for(caller) == rules.grant_for(caller)


@pytest.mark.parametrize(
    "wider",
    [
        Who(any_local=True),
        Who(unit="ci.service"),
        Who(container=CONTAINER),
        Who(any_local=True, exe="/usr/bin/aws"),
    ],
)
def test_a_refusal_by_uid_before_a_rule_that_ignores_uids_is_found(wider: Who) -> None:
    rules = [
        Rule(number=1, who=Who(user=CI)),
        Rule(number=2, who=Who(group=Account("docker", 27)), roles=("deploy",)),
        Rule(number=3, who=wider, roles=("deploy",)),
    ]

    (found,) = evadable(rules)

    assert found.rule == "rules[1]"
    assert "refuses ci, but rules[3] admits programs that ci can start" in found.reason


@pytest.mark.parametrize(
    "later", [Who(uid=1001), Who(group=Account("docker", 27)), Who(cidr=ip_network("10.0.0.0/8"))]
)
def test_a_refusal_before_rules_that_name_others_is_left_alone(later: Who) -> None:
    rules = [Rule(number=1, who=Who(uid=0)), Rule(number=2, who=later, roles=("deploy",))]

    assert list(evadable(rules)) == []
    assert list(evadable(reversed(rules))) == []
