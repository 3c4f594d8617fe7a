"""The first rule that matches decides, and nobody is admitted beside the rules."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.caller import NO_GRANT, Caller, Grant
from broker.access.match import Account, Mismatch, Who
from broker.access.rules import FirstMatch, OwnerOnly, Rule, RuleResult, limited
from tests.support.access import (
    ALICE,
    BOB,
    CONTAINER,
    FACTS,
    INNER,
    KEYS,
    KNOWN,
    NEIGHBOUR,
    ORPHAN,
    OTHER_CONTAINER,
    ROOT,
    SHARED,
    SUBORDINATE,
    Known,
    callers,
    forgetting,
    rules_of,
    several_whos,
    whos,
)

CI = Account("ci", 1000)
DOCKER = Account("docker", 27)


@pytest.mark.parametrize(
    ("who", "meant", "not_meant"),
    [
        pytest.param(Who(uid=1000), [ALICE, INNER], [BOB, ROOT, NEIGHBOUR, ORPHAN], id="uid"),
        pytest.param(Who(uid=SUBORDINATE), [INNER], [ALICE, BOB, ROOT], id="a subordinate uid"),
        pytest.param(Who(uid=0), [ROOT], [ALICE, NEIGHBOUR, ORPHAN], id="root"),
        pytest.param(Who(user=CI), [ALICE, INNER], [BOB, ROOT, NEIGHBOUR, ORPHAN], id="user"),
        pytest.param(Who(group=DOCKER), [ALICE], [BOB, ROOT, NEIGHBOUR], id="group"),
        pytest.param(Who(unit="backup.service"), [ROOT], [ALICE, NEIGHBOUR], id="unit"),
        pytest.param(
            Who(any_local=True),
            [ALICE, BOB, ROOT],
            [NEIGHBOUR, ORPHAN, INNER, Caller()],
            id="any_local",
        ),
        pytest.param(
            Who(cidr=ip_network("172.17.0.0/16")),
            [NEIGHBOUR],
            [
                Caller(address="172.18.0.2", is_remote=True),
                replace(NEIGHBOUR, uid=1000),
                replace(NEIGHBOUR, is_remote=False),
            ],
            id="cidr",
        ),
        pytest.param(
            Who(uid=1000, exe="/usr/bin/aws"), [ALICE], [BOB, replace(ALICE, inode=8)], id="exe"
        ),
        pytest.param(
            Who(user_unit="backup.service", uid=1000),
            [replace(ALICE, user_unit="backup.service")],
            [
                ALICE,
                replace(BOB, user_unit="backup.service"),
                replace(ALICE, unit="backup.service"),
            ],
            id="user_unit",
        ),
        pytest.param(
            Who(container=CONTAINER[:62]),
            [replace(ROOT, container=CONTAINER)],
            [replace(ROOT, container=OTHER_CONTAINER), ROOT],
            id="container",
        ),
        pytest.param(
            Who(token="ci"),
            [replace(NEIGHBOUR, token="ci"), replace(ALICE, token="ci")],
            [ALICE, replace(ALICE, token="web")],
            id="token",
        ),
    ],
)
def test_a_key_matches_some_callers_and_no_others(
    who: Who, meant: list[Caller], not_meant: list[Caller]
) -> None:
    assert [who.holds_for(caller, KNOWN) for caller in meant] == [True] * len(meant)
    assert [who.holds_for(caller, KNOWN) for caller in not_meant] == [False] * len(not_meant)


def test_root_gets_nothing_that_no_rule_grants() -> None:
    assert rules_of(Who(uid=1000)).grant_for(ROOT) == NO_GRANT


def test_a_caller_on_this_host_is_never_known_by_address() -> None:
    everywhere = rules_of(Who(cidr=ip_network("0.0.0.0/0")), Who(cidr=ip_network("::/0")))

    assert everywhere.grant_for(ALICE) == NO_GRANT
    assert everywhere.grant_for(ORPHAN) == NO_GRANT
    assert everywhere.grant_for(NEIGHBOUR).rule == "rules[1]"


def test_the_plain_token_names_nobody() -> None:
    rules = rules_of(Who(token="default"), Who(uid=1000))

    assert rules.grant_for(replace(NEIGHBOUR, token="default")) == NO_GRANT
    assert rules.grant_for(replace(ALICE, token="default")).rule == "rules[2]"


def test_a_condition_without_keys_matches_nobody() -> None:
    assert rules_of(Who()).grant_for(ROOT) == NO_GRANT


def test_a_rule_that_grants_nothing_keeps_its_callers_out() -> None:
    keep_out = Rule(number=1, who=Who(uid=1001))
    rules = FirstMatch(
        [keep_out, Rule(number=2, who=Who(any_local=True), roles=("deploy",))], facts=KNOWN
    )

    assert not rules.grant_for(BOB).any
    assert rules.grant_for(ALICE).roles == {"deploy"}


def test_the_first_role_is_the_default_unless_another_is_named() -> None:
    rule = Rule(number=2, who=Who(uid=1000), roles=("deploy", "audit"))

    assert rule.grant == Grant(
        roles=frozenset({"deploy", "audit"}), default_role="deploy", rule="rules[2]"
    )
    assert replace(rule, default_role="audit").grant.default_role == "audit"


def test_namespace_and_id_tokens_are_granted_only_when_named() -> None:
    rule = Rule(number=1, who=Who(uid=1000), roles=("deploy",))
    naming = replace(
        rule,
        namespace_tokens=frozenset({"default"}),
        id_token_audiences=frozenset({"sts.amazonaws.com"}),
    )

    assert (rule.grant.namespace_tokens, rule.grant.id_token_audiences) == (frozenset(),) * 2
    assert naming.grant.namespace_tokens == {"default"}
    assert naming.grant.id_token_audiences == {"sts.amazonaws.com"}


def test_a_rule_with_a_policy_or_tags_has_leases_of_its_own() -> None:
    plain = Rule(number=1, who=Who(uid=1000), roles=("deploy",))
    with_policy = replace(plain, number=2, policy="{}")
    with_tags = replace(plain, number=3, tags=(("team", "ci"),))

    names = {rule.grant.lease_key("deploy") for rule in (plain, with_policy, with_tags)}

    assert names == {"deploy", "deploy rules[2]", "deploy rules[3]"}


def test_facts_that_need_a_lookup_are_looked_up_only_when_all_else_holds() -> None:
    known = Known(names=KNOWN.names, groups=KNOWN.groups, programs=KNOWN.programs)
    rules = rules_of(
        Who(uid=1001, exe="/usr/bin/aws", group=DOCKER),
        Who(uid=1000, group=Account("wheel", 10), exe="/usr/bin/aws"),
        Who(uid=1000, exe="/usr/bin/aws"),
        known=known,
    )

    grant = rules.grant_for(ALICE)

    assert grant.rule == "rules[3]"
    assert known.asked == ["groups", "exe"]


def test_an_explanation_lists_the_keys_that_did_not_hold() -> None:
    rules = rules_of(
        Who(user=Account("bob", 1001), unit="ci.service"),
        Who(group=Account("wheel", 10)),
        Who(container=CONTAINER),
        Who(uid=1000),
        Who(any_local=True),
    )

    explained = rules.explain(ALICE)

    assert explained.rule == "rules[4]"
    assert explained.grant == rules.grant_for(ALICE)
    assert explained.results == (
        RuleResult(
            "rules[1]",
            "missed",
            (Mismatch("user", "bob", "1000"), Mismatch("unit", "ci.service", "session-3.scope")),
        ),
        RuleResult("rules[2]", "missed", (Mismatch("group", "wheel", "27 1000"),)),
        RuleResult("rules[3]", "missed", (Mismatch("container", CONTAINER, None),)),
        RuleResult("rules[4]", "matched"),
        RuleResult("rules[5]", "not reached"),
    )


def test_without_rules_the_explanation_names_the_owner() -> None:
    rules = OwnerOnly(owner_uid=1000, roles=["deploy"], default_role="deploy")

    assert rules.explain(ALICE).rule == "owner"
    assert rules.explain(BOB).results == (
        RuleResult("owner", "missed", (Mismatch("uid", "0 or 1000", "1001"),)),
    )


@given(several_whos, callers)
def test_the_first_rule_that_matches_or_is_undecided_decides(
    several: list[Who], caller: Caller
) -> None:
    meant = [who.matches(caller, KNOWN) for who in several]
    deciding = next((n for n, is_meant in enumerate(meant, 1) if is_meant is not False), None)

    grant = rules_of(*several).grant_for(caller)

    # What cannot be told refuses: a wider rule below must not be got at that way.
    admits = deciding is not None and meant[deciding - 1]
    assert grant.rule == (f"rules[{deciding}]" if admits else "none")


@given(several_whos, callers)
def test_an_explanation_and_the_decision_are_one(several: list[Who], caller: Caller) -> None:
    rules = rules_of(*several)

    explained = rules.explain(caller)

    assert explained.grant == rules.grant_for(caller)
    assert (explained.rule or "none") == explained.grant.rule
    assert all(each.mismatches for each in explained.results if each.outcome == "missed")


@given(whos, st.data(), callers)
def test_an_additional_key_never_admits_more(who: Who, data: st.DataObject, caller: Caller) -> None:
    free = sorted(set(KEYS) - set(who.keys))
    key = data.draw(st.sampled_from(free)) if free else None
    more: dict[str, Any] = {key: data.draw(KEYS[key])} if key else {}

    narrower = replace(who, **more)

    assert who.holds_for(caller, KNOWN) or not narrower.holds_for(caller, KNOWN)


@given(whos, callers, st.sampled_from(FACTS))
def test_an_unknown_fact_never_admits(who: Who, caller: Caller, fact: str) -> None:
    unknown = forgetting(caller, fact)

    assert who.holds_for(caller, KNOWN) or not who.holds_for(unknown, KNOWN)


@given(whos, callers)
def test_a_host_without_further_facts_never_admits_more(who: Who, caller: Caller) -> None:
    assert who.holds_for(caller, KNOWN) or not who.holds_for(caller, Known())


@given(whos)
def test_a_caller_without_any_fact_matches_nothing(who: Who) -> None:
    assert not who.holds_for(Caller(), KNOWN)


@given(several_whos, callers, st.randoms(use_true_random=False))
def test_only_the_order_of_rules_that_may_match_matters(
    several: list[Who], caller: Caller, random: Any
) -> None:
    rules = list(rules_of(*several).rules)
    # A rule that cannot be decided stops the caller, so its place matters as a match's does.
    deciding = [rule for rule in rules if rule.who.matches(caller, KNOWN) is not False]
    others = [rule for rule in rules if rule not in deciding]
    mixed = list(deciding)
    for rule in others:
        mixed.insert(random.randint(0, len(mixed)), rule)

    grant = FirstMatch(mixed, facts=KNOWN).grant_for(caller)

    assert grant == FirstMatch(rules, facts=KNOWN).grant_for(caller)


@given(several_whos, callers)
def test_the_connection_by_which_a_caller_comes_decides_nothing(
    several: list[Who], caller: Caller
) -> None:
    """C-73: pid and gid are known on the control socket only."""
    by_another_way = replace(caller, pid=4711, gid=1000, cgroup_id=99)

    rules = rules_of(*several)

    assert rules.grant_for(caller) == rules.grant_for(by_another_way)


def test_nobody_slips_past_a_rule_by_hiding_where_it_runs() -> None:
    rules = rules_of(Who(unit="sandbox.service"), Who(any_local=True))
    hidden = replace(ALICE, unit=None, user_unit=None, container=None, is_located=False)
    in_no_unit = replace(hidden, is_located=True)

    assert rules.grant_for(hidden).rule == "none"
    assert rules.grant_for(in_no_unit).rule == "rules[2]"
    assert [each.outcome for each in rules.explain(hidden).results] == ["not known", "not reached"]


def test_nobody_slips_past_a_rule_while_the_user_database_hangs() -> None:
    silent = Known(names=KNOWN.names, groups={}, programs=KNOWN.programs)
    rules = rules_of(Who(group=DOCKER), Who(any_local=True), known=silent)

    assert rules.grant_for(ALICE).rule == "none"


def test_nobody_slips_past_a_refusal_of_all_users_while_the_database_hangs() -> None:
    silent = Known(programs=KNOWN.programs)
    rules = rules_of(Who(any_local=True), Who(unit="session-3.scope"), known=silent)

    assert rules.grant_for(ALICE).rule == "none"


def test_a_refused_user_gets_nothing_by_a_subordinate_uid() -> None:
    rules = rules_of(Who(uid=1000), Who(any_local=True), Who(uid=SUBORDINATE))

    assert rules.grant_for(INNER).rule == "rules[1]"


def test_a_uid_that_two_users_may_take_on_is_neither_for_certain() -> None:
    shared = replace(INNER, uid=SHARED, delegated_by=(1000, 1001))
    rules = rules_of(Who(uid=1000), Who(uid=SHARED))

    assert rules.grant_for(shared).rule == "none"
    assert rules_of(Who(uid=1002), Who(uid=SHARED)).grant_for(shared).rule == "rules[2]"


def test_a_rule_that_certainly_matches_somebody_else_stops_nobody() -> None:
    rules = rules_of(Who(uid=4711, unit="sandbox.service"), Who(any_local=True))
    hidden = replace(ALICE, unit=None, is_located=False)

    assert rules.grant_for(hidden).rule == "rules[2]"


@given(several_whos, callers, st.sampled_from([None, "ci", "web"]))
def test_a_caller_that_may_not_be_granted_anything_is_granted_nothing_with_any_token(
    several: list[Who], caller: Caller, token: str | None
) -> None:
    rules = rules_of(*several)

    if not rules.may_grant(caller):
        assert rules.grant_for(caller.with_token(token)) == NO_GRANT


def test_all_callers_without_a_grant_share_one_limit() -> None:
    rules = rules_of(Who(uid=1000), Who(token="ci", cidr=ip_network("172.17.0.0/16")))

    keys = [limited(each, rules).limit_key for each in (BOB, ROOT, ORPHAN, ALICE, NEIGHBOUR)]

    assert keys == ["ungranted"] * 3 + ["uid=1000", "address=172.17.0.2"]


def test_without_rules_nobody_shares_a_limit_for_anybody_may_hold_the_token() -> None:
    rules = OwnerOnly(owner_uid=1000, roles=["deploy"], default_role="deploy")

    assert limited(BOB, rules) == BOB
