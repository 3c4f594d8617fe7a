"""Which trust statement admits as much as the desired one, and what a difference looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy import role_admits_web_identity
from broker.setup.documents import (
    admits_as_much,
    contains,
    difference,
    with_statement,
    without_statement,
)
from tests.support.setup import FOREIGN, HOST, PROVIDER, statement

WANTED = statement()


@pytest.mark.parametrize(
    "stands",
    [
        statement(),
        statement(Sid="ByHand"),
        statement(aud=["sts.amazonaws.com"]),
        statement(aud=["other", "sts.amazonaws.com"], sub=["ws_2/*", "ws_1/*"]),
        statement(sub="ws_*"),
        statement(sub="*"),
        statement(Action=["sts:TagSession", "sts:AssumeRoleWithWebIdentity"]),
        statement(Action="sts:*"),
        statement(Principal={"Federated": ["other", PROVIDER]}),
        statement(operator="StringLikeIfExists"),
        statement(operator="ForAnyValue:StringLike"),
        statement(
            Condition={
                "StringEquals": {f"{HOST}:AUD": "sts.amazonaws.com"},
                "StringLike": {f"{HOST}:sub": "ws_1/*"},
            }
        ),
        statement(Condition={"StringEquals": {f"{HOST}:aud": "sts.amazonaws.com"}}),
        {key: value for key, value in WANTED.items() if key != "Condition"},
    ],
)
def test_a_statement_that_admits_at_least_as_much_does_as_well(stands: object) -> None:
    assert admits_as_much(stands, WANTED)


@pytest.mark.parametrize(
    "stands",
    [
        FOREIGN,
        statement(effect="Deny"),
        statement(sub="ws_2/*"),
        statement(sub="ws_1/i-abc"),
        statement(sub="ws_1/?"),
        statement(aud="other"),
        statement(operator="StringEquals"),
        statement(operator="StringNotLike"),
        statement(operator="StringEqualsIgnoreCase"),
        statement(sub="${aws:username}/*"),
        statement(Action="sts:AssumeRole"),
        statement(Principal={"Federated": "other"}),
        statement(Principal="*"),
        statement(NotAction="sts:AssumeRole", Action=[]),
        statement(
            Condition={
                "StringLike": {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:sub": "ws_1/*"},
                "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
            }
        ),
        statement(Condition={"StringLike": {f"{HOST}:amr": "x"}}),
        statement(Condition="none"),
        "no statement",
        None,
    ],
)
def test_a_statement_that_admits_less_or_is_not_understood_does_not(stands: object) -> None:
    assert not admits_as_much(stands, WANTED)


def test_of_one_identity_alone_equality_is_enough() -> None:
    one = statement(sub="ws_1/i-abc")

    assert admits_as_much(statement(operator="StringEquals", sub="ws_1/i-abc"), one)


patterns = st.text(alphabet="ab/*?", max_size=8)


@given(wide=patterns, narrow=patterns, text=st.text(alphabet="ab/", max_size=8))
def test_what_contains_a_pattern_matches_whatever_that_matches(
    wide: str, narrow: str, text: str
) -> None:
    def matches(pattern: str) -> bool:
        policy = {"Statement": statement(sub=pattern)}
        claims = {"iss": f"https://{HOST}", "aud": "sts.amazonaws.com", "sub": text}
        return bool(role_admits_web_identity(policy, provider_arn=PROVIDER, claims=claims))

    if contains(wide, narrow) and matches(narrow):
        assert matches(wide)


@given(pattern=patterns)
def test_every_pattern_is_contained_by_itself_and_by_a_star(pattern: str) -> None:
    assert contains("*", pattern)
    assert contains(pattern, pattern)


def test_a_pattern_of_stars_takes_no_longer_than_any_other() -> None:
    assert not contains("*a" * 100 + "b", "a" * 2000)


def test_a_statement_is_added_after_those_that_stand_and_taken_out_from_between_them() -> None:
    stands = {"Version": "2008-10-17", "Id": "theirs", "Statement": FOREIGN}

    merged = with_statement(stands, WANTED)

    assert merged == {"Version": "2008-10-17", "Id": "theirs", "Statement": [FOREIGN, WANTED]}
    assert without_statement(with_statement(merged, FOREIGN), WANTED)["Statement"] == [
        FOREIGN,
        FOREIGN,
    ]


def test_a_difference_shows_what_comes_and_what_goes_with_what_stands_around_it() -> None:
    before = {"Version": "1", "Statement": [{"Sid": "A"}]}

    lines = difference(before, {"Version": "1", "Statement": [{"Sid": "B"}]})

    assert '-       "Sid": "A"' in lines
    assert '+       "Sid": "B"' in lines
    assert not any("Version" in line for line in lines if line[0] in "+-")


def test_of_what_is_new_or_goes_every_line_is_shown() -> None:
    assert difference(None, {"a": 1}) == ("+ {", '+   "a": 1', "+ }")
    assert difference({"a": 1}, None) == ("- {", '-   "a": 1', "- }")
    assert difference({"a": 1}, {"a": 1}) == ()
