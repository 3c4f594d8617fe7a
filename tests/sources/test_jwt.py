"""What a token says of itself, and which texts are no token."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.credentials import json_object
from broker.sources.jwt import (
    InvalidToken,
    bearer_lease,
    duration_text,
    parse_claims,
    session_expiry,
)
from tests.support.sources import bearer_of, jwt_of

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
IN_AN_HOUR = NOW + timedelta(hours=1)


@pytest.mark.parametrize("prefix", ["nsct_", "nscw_"])
def test_a_token_is_a_lease_from_its_iat_to_its_exp(prefix: str) -> None:
    token = bearer_of(
        ends_at=IN_AN_HOUR,
        prefix=prefix,
        iat=int((NOW - timedelta(minutes=5)).timestamp()),
        instance_id="i-abc",
    )

    lease = bearer_lease(token, now=NOW)

    assert (lease.issued_at, lease.expires_at) == (NOW - timedelta(minutes=5), IN_AN_HOUR)
    assert (lease.value.tenant_id, lease.value.instance_id) == ("ws_1", "i-abc")
    assert lease.value.bearer == token


@pytest.mark.parametrize("iat", [None, "soon", (NOW + timedelta(hours=2)).timestamp(), True, []])
def test_a_token_without_a_credible_iat_was_issued_now(iat: object) -> None:
    lease = bearer_lease(bearer_of(ends_at=IN_AN_HOUR, iat=iat), now=NOW)

    assert lease.issued_at == NOW


def test_a_revocable_token_has_no_end_and_no_claims() -> None:
    lease = bearer_lease("nsrt_abc123", now=NOW)

    assert lease.expires_at is None
    assert (lease.value.tenant_id, lease.value.instance_id) == (None, None)


@pytest.mark.parametrize(
    ("exp", "ends_at"),
    [
        (1893553445, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (1893553445.5, datetime(2030, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("1893553445", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-5, datetime(1970, 1, 1, tzinfo=UTC)),
        (10**15, datetime(9000, 1, 1, tzinfo=UTC)),
        (10**200, datetime(9000, 1, 1, tzinfo=UTC)),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        ("tomorrow", None),
        ({}, None),
        (None, None),
    ],
)
def test_an_end_is_any_number_of_seconds(exp: object, ends_at: datetime | None) -> None:
    assert parse_claims(jwt_of({"exp": exp})).expires_at == ends_at


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("", "is empty"),
        ("nsct_a.b.c d", "whitespace"),
        ("nsct_ä", "other characters"),
        (jwt_of({"exp": 1}), "does not begin as Namespace's do"),
        ("oidc_" + jwt_of({"exp": 1}), "does not begin as Namespace's do"),
        ("st_" + jwt_of({"exp": 1}), "is a session token"),
        ("nsrt_", "does not begin"),
        ("nsct_abc", "three parts"),
        ("nsct_a.b", "three parts"),
        ("nsct_a.b$.c", "three parts"),
        ("nsct_a.b.c", "payload is a JSON object"),
        ("nsct_" + jwt_of([1]), "payload is a JSON object"),
        ("nsct_" + jwt_of({"tenant_id": "ws_1"}), "no exp claim"),
        ("<html>", "does not begin"),
    ],
)
def test_what_is_no_bearer_token_is_told_apart(token: str, complaint: str) -> None:
    with pytest.raises(InvalidToken, match=complaint) as error:
        bearer_lease(token, now=NOW)

    assert len(token) < 6 or token not in str(error.value)


def test_claims_of_the_wrong_type_are_absent() -> None:
    claims = parse_claims(jwt_of({"tenant_id": 5, "instance_id": "", "sub": [], "aud": [1, "a"]}))

    assert (claims.tenant_id, claims.instance_id, claims.subject) == (None, None, None)
    assert claims.audiences == ("a",)


@pytest.mark.parametrize("audience", ["sts.amazonaws.com", ["sts.amazonaws.com"]])
def test_an_audience_may_be_a_list(audience: object) -> None:
    assert parse_claims(jwt_of({"aud": audience})).audiences == ("sts.amazonaws.com",)


def test_a_session_says_when_it_ends_and_a_bearer_is_no_session() -> None:
    assert session_expiry(bearer_of(ends_at=IN_AN_HOUR, prefix="st_")) == IN_AN_HOUR

    with pytest.raises(InvalidToken, match="no session token"):
        session_expiry(bearer_of(ends_at=IN_AN_HOUR))


@pytest.mark.parametrize("text", ["[" * 100_000, "5", "[]", "", "{", '{"a": ' + "9" * 5000 + "}"])
def test_json_that_is_no_object_or_too_much_is_none(text: str) -> None:
    assert json_object(text) is None


@given(some.text(max_size=200) | some.binary(max_size=200).map(lambda raw: raw.hex()))
def test_no_text_ends_in_another_error(text: str) -> None:
    for token in (text, f"nsct_{text}", f"nsct_a.{text}.c", f"nsrt_{text}"):
        try:
            bearer_lease(token, now=NOW)
        except InvalidToken:
            continue


@given(some.recursive(some.none() | some.booleans() | some.floats() | some.text(), some.lists))
def test_no_claim_ends_in_another_error(value: object) -> None:
    names = ("exp", "iat", "tenant_id", "instance_id", "iss", "sub", "aud")
    raw = repr(value).encode()

    parse_claims(jwt_of(dict.fromkeys(names, value)))
    with pytest.raises(InvalidToken):
        parse_claims("a." + base64.urlsafe_b64encode(b"[" + raw).decode().rstrip("=") + ".c")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (40, "40 s"), (119, "119 s"), (180, "3 min"), (7300, "2 h"), (2592000, "30 days")],
)
def test_a_span_is_told_as_people_say_it(seconds: int, text: str) -> None:
    assert duration_text(timedelta(seconds=seconds)) == text
