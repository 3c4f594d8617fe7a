"""A workspace's trust relationships with ours in them, and without: nobody else's is touched."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import policy
from broker.setup.resources import TrustRelationship
from broker.setup.resources.trust_relationship import (
    FULL_ACCESS,
    ActualRelationship,
    in_our_spelling,
)

ISSUER = "https://3d1b.tokens.sts.global.api.aws"
ROLE = "arn:aws:iam::123456789012:role/builder"
ANY_ROLE = "arn:aws:iam::123456789012:role/*"
AUDIENCE = "https://federation.namespaceapis.com"
GRANT = {"resource_type": "instance", "resource_id": "*", "actions": ["create", "get"]}


def wanted(**members: Any) -> TrustRelationship:
    usual: dict[str, Any] = {
        "workspace": "ws_1",
        "issuer": ISSUER,
        "subject_match": ROLE,
        "audience": AUDIENCE,
    }
    return TrustRelationship(**(usual | members))


def by_hand(**members: object) -> dict[str, object]:
    """Return an entry as the guide's command makes it and the server lists it."""
    return {
        "id": "tr_1",
        "creator_json": '{"actor":"user_1"}',
        "created_at": "2026-03-01T10:00:00.123456Z",
        "issuer": ISSUER,
        "subject_match": ROLE,
        **members,
    }


def foreign() -> dict[str, object]:
    return by_hand(id="tr_9", issuer="https://token.actions.example", odd={"a": [1, 2.5, None]})


# What exists already.


def test_an_empty_list_gets_the_entry_and_nothing_that_the_server_sets() -> None:
    (made,) = wanted().added_to(())

    assert made == {"issuer": ISSUER, "subject_match": ROLE, "audience": AUDIENCE}


def test_what_was_made_by_hand_by_the_guide_is_kept() -> None:
    entries = (foreign(), by_hand())

    assert wanted().added_to(entries) == entries
    assert wanted().diff(wanted().found_in(entries)).kind == "keep"


def test_one_for_any_role_of_the_account_is_kept_for_one_of_them() -> None:
    entries = (by_hand(subject_match=ANY_ROLE),)

    planned = wanted().diff(wanted().found_in(entries))

    assert planned.kind == "keep"
    assert ANY_ROLE in planned.note


def test_a_pattern_that_is_wanted_is_not_there_because_one_role_is() -> None:
    entries = (by_hand(),)

    planned = wanted(subject_match=ANY_ROLE).diff(wanted(subject_match=ANY_ROLE).found_in(entries))

    assert planned.kind == "create"


def test_one_for_another_audience_is_no_reason_not_to_add_ours() -> None:
    entries = (by_hand(audience="https://example.com"),)

    assert len(wanted().added_to(entries)) == 2


def test_grants_that_were_not_said_stay_as_they_are() -> None:
    entries = (by_hand(default_permissions=[GRANT], default_token_duration="900s"),)

    assert wanted().added_to(entries) == entries


def test_only_what_differs_of_an_entry_is_changed() -> None:
    entry = by_hand(audience=AUDIENCE, default_token_duration="900s", newer={"kept": True})

    (changed,) = wanted(token_duration_s=1800).added_to((entry,))

    assert changed == entry | {"default_token_duration": "1800s"}
    planned = wanted(token_duration_s=1800).diff(wanted().found_in((entry,)))
    assert planned.kind == "change"
    assert "- default_token_duration: 900s" in planned.diff
    assert "+ default_token_duration: 1800s" in planned.diff


def test_an_entry_in_the_other_spelling_is_read_and_changed_in_that() -> None:
    entry = {"issuer": ISSUER, "subjectMatch": ROLE, "defaultTokenDuration": "900s"}

    (changed,) = wanted(token_duration_s=1800).added_to((entry,))

    assert changed == entry | {"defaultTokenDuration": "1800s"}


@pytest.mark.parametrize(
    "told",
    [
        {"resource_type": "instance", "actions": ["get", "create"]},
        {"resourceType": "instance", "resourceId": "*", "actions": ["create", "get"]},
    ],
)
def test_grants_are_compared_by_what_they_grant(told: Mapping[str, object]) -> None:
    entries = (by_hand(default_permissions=[told]),)

    assert wanted(grants=(GRANT,)).added_to(entries) == entries


@pytest.mark.parametrize("told", ["1800.000s", "1800s"])
def test_durations_are_compared_as_lengths_of_time(told: str) -> None:
    entries = (by_hand(default_token_duration=told),)

    assert wanted(token_duration_s=1800).added_to(entries) == entries


def test_a_duration_that_nobody_can_read_is_replaced() -> None:
    (changed,) = wanted(token_duration_s=1800).added_to((by_hand(default_token_duration="soon"),))

    assert changed["default_token_duration"] == "1800s"


# The plan.


def test_a_plan_without_grants_says_that_this_is_full_access() -> None:
    assert FULL_ACCESS in wanted().diff(ActualRelationship()).note
    assert FULL_ACCESS not in wanted(grants=(GRANT,)).diff(ActualRelationship()).note
    assert "grant: " in " ".join(wanted(grants=(GRANT,)).diff(ActualRelationship()).diff)


def test_without_the_right_at_namespace_the_plan_says_so_with_the_line_to_run() -> None:
    planned = wanted().diff(ActualRelationship(unreadable="there is no Namespace identity"))

    assert planned.kind == "create"
    assert "there is no Namespace identity" in planned.note
    assert f"  by hand: {wanted().nsc_line}" in planned.diff


def test_what_was_proven_needs_no_list() -> None:
    planned = wanted().diff(ActualRelationship(unreadable="not yours to read", proven=True))

    assert planned.kind == "keep"
    assert "not yours to read" in planned.note


def test_the_line_of_nscs_has_every_flag_quoted_for_a_shell() -> None:
    line = wanted(subject_match=ANY_ROLE, grants=(GRANT,), token_duration_s=1800).nsc_line

    assert line.startswith("nsc auth trust-relationships add --issuer https://3d1b.")
    assert f"--subject-match '{ANY_ROLE}'" in line
    assert '--grant \'{"resource_type":"instance"' in line
    assert line.endswith("--default_token_duration 1800s")


# Removal.


def test_only_what_equals_ours_is_removed() -> None:
    ours = {**wanted().added_to(())[0], "id": "tr_5", "created_at": "2026-03-01T10:00:00Z"}
    entries = (foreign(), ours, by_hand())

    assert wanted().removed_from(entries) == (foreign(), by_hand())
    planned = wanted().removal(wanted().found_in(entries), ())
    assert (planned.kind, planned.note) == ("remove", "tr_5")


def test_what_is_not_for_us_to_read_is_left_with_the_line_to_run() -> None:
    planned = wanted().removal(ActualRelationship(unreadable="there is no Namespace identity"), ())

    assert planned.kind == "keep"
    assert "nsc auth trust-relationships remove" in planned.note


@pytest.mark.parametrize(
    "entry", [by_hand(), by_hand(audience=AUDIENCE, default_permissions=[GRANT])]
)
def test_what_only_resembles_ours_stays_and_is_named(entry: dict[str, object]) -> None:
    planned = wanted().removal(wanted().found_in((entry,)), ())

    assert wanted().removed_from((entry,)) == (entry,)
    assert planned.kind == "keep"
    assert "remove --id tr_1" in planned.note


# Any list.

ISSUERS = st.sampled_from([ISSUER, f"{ISSUER}/", "https://other.example"])
SUBJECTS = st.sampled_from([ROLE, ANY_ROLE, "*", "arn:aws:iam::123456789012:role/other"])
AUDIENCES = st.sampled_from([AUDIENCE, "https://example.com", ""])
GRANTS = st.lists(
    st.sampled_from([GRANT, {"resource_type": "tenant", "actions": ["get"]}]), max_size=2
)
DURATIONS = st.sampled_from(["900s", "1800s", "1800.0s", "soon", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@st.composite
def entry(draw: st.DrawFn) -> dict[str, object]:
    """Any entry, in either spelling, with members that nobody here knows."""
    camel = draw(st.booleans())
    said: dict[str, object] = {
        "issuer": draw(ISSUERS),
        "subjectMatch" if camel else "subject_match": draw(SUBJECTS),
        "audience": draw(AUDIENCES),
        "defaultPermissions" if camel else "default_permissions": draw(GRANTS),
        "defaultTokenDuration" if camel else "default_token_duration": draw(DURATIONS),
    }
    unknown = draw(st.dictionaries(st.sampled_from(["odd", "new", "x"]), JSON, max_size=2))
    empty_ones = draw(st.booleans())
    return {**unknown, **{name: value for name, value in said.items() if value or empty_ones}}


LISTS = st.lists(entry(), max_size=5).map(tuple)
WANTED = st.builds(
    TrustRelationship,
    workspace=st.just("ws_1"),
    issuer=st.just(ISSUER),
    subject_match=st.sampled_from([ROLE, ANY_ROLE]),
    audience=st.sampled_from([AUDIENCE, None]),
    grants=GRANTS.map(tuple),
    token_duration_s=st.sampled_from([None, 900, 1800]),
)


@given(LISTS, WANTED)
def test_any_list_comes_to_have_what_is_wanted_and_planned_again_it_is_kept(
    entries: tuple[dict[str, object], ...], asked: TrustRelationship
) -> None:
    written = asked.added_to(entries)

    found = asked.matching(written)
    claims = {"iss": ISSUER, "sub": ROLE, "aud": asked.audience or "any"}
    assert found is not None
    assert policy.relationship_admits(in_our_spelling(found), claims=claims)
    assert asked.diff(asked.found_in(written)).kind == "keep"
    assert asked.added_to(written) == written


@given(LISTS, WANTED)
def test_every_other_entry_of_any_list_comes_back_as_it_was_in_its_place(
    entries: tuple[dict[str, object], ...], asked: TrustRelationship
) -> None:
    before = [json.dumps(one) for one in entries]

    after = [json.dumps(one) for one in asked.added_to(entries)]

    planned = asked.diff(asked.found_in(entries)).kind
    differing = [one for one, new in zip(before, after, strict=False) if one != new]
    assert len(after) - len(before) == (planned == "create")
    assert len(differing) == (planned == "change")


@given(LISTS, WANTED)
def test_an_entry_that_was_added_to_any_list_is_removed_without_a_trace(
    entries: tuple[dict[str, object], ...], asked: TrustRelationship
) -> None:
    if asked.matching(entries) is None:
        assert asked.removed_from(asked.added_to(entries)) == entries
