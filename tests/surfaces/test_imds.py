"""IMDS as a function: who gets what, and in which order a request is checked."""

from datetime import timedelta

import pytest

from broker.access.caller import Caller, Grant
from broker.surfaces.imds import TOKEN_HEADER, TTL_HEADER
from tests.support.fakes import START, some_credentials
from tests.support.surfaces import (
    ALICE,
    BOB,
    DOCUMENT,
    NOBODY,
    ONLY_ALICE,
    ROLE_LIST,
    TOKEN_PATH,
    Holding,
    Rule,
    all_roles_held,
    an_imds,
    lease_for,
    nothing_held,
    request,
    session_token,
    v2_get,
)

BROWSER = ("origin", "https://example.com")
PROXY = ("x-forwarded-for", "10.1.2.3")


def test_a_caller_with_a_grant_gets_its_default_role_and_no_other_name() -> None:
    answer = v2_get(an_imds(), ROLE_LIST)

    assert (answer.status, answer.body) == (200, b"deploy")
    assert (answer.route, answer.role, answer.refusal) == ("role-list", "deploy", None)


def test_the_other_roles_of_a_caller_answer_by_name() -> None:
    answer = v2_get(an_imds(), ROLE_LIST + "audit")

    assert answer.status == 200
    assert some_credentials("audit").session_token.encode() in answer.body
    assert (answer.route, answer.role) == ("credentials", "audit")


def test_what_a_caller_may_not_have_answers_as_what_does_not_exist() -> None:
    imds = an_imds()

    not_granted = v2_get(imds, ROLE_LIST + "vault")
    not_there = v2_get(imds, ROLE_LIST + "no-such-role")

    assert not_granted.status == 404
    assert (not_granted.status, not_granted.body, dict(not_granted.headers)) == (
        not_there.status,
        not_there.body,
        dict(not_there.headers),
    )
    assert (not_granted.role, not_granted.refusal) == ("vault", "not-granted")
    assert (not_there.role, not_there.refusal) == ("none", None)


def test_a_caller_without_a_grant_gets_a_session_token_but_no_role() -> None:
    imds = an_imds(rules=ONLY_ALICE)

    assert len(session_token(imds, caller=BOB)) == 56
    assert v2_get(imds, ROLE_LIST, caller=BOB).status == 404
    assert v2_get(imds, "/latest/meta-data/iam/info", caller=BOB).status == 404
    assert v2_get(imds, ROLE_LIST, caller=BOB).refusal == "not-granted"


@pytest.mark.parametrize("name", ["deploy", "vault", "no-such-role"])
def test_a_caller_without_a_grant_gets_401_for_every_name(name: str) -> None:
    answer = v2_get(an_imds(rules=NOBODY), ROLE_LIST + name)

    assert answer.status == 401
    assert answer.refusal == "not-granted"


def test_a_caller_without_a_grant_still_learns_where_it_is() -> None:
    imds = an_imds(rules=NOBODY)

    assert v2_get(imds, "/latest/meta-data/placement/region").body == b"eu-central-1"
    assert v2_get(imds, DOCUMENT).status == 200


def test_the_listing_shows_iam_only_to_callers_with_a_role() -> None:
    imds = an_imds(rules=ONLY_ALICE)

    assert b"iam/" in v2_get(imds, "/latest/meta-data/", caller=ALICE).body.split(b"\n")
    assert b"iam/" not in v2_get(imds, "/latest/meta-data/", caller=BOB).body.split(b"\n")
    assert v2_get(imds, "/latest/meta-data/iam/", caller=BOB).status == 404


def test_roles_without_a_default_answer_by_name_only() -> None:
    imds = an_imds(rules=Rule(Grant(roles=frozenset({"audit"}))))

    assert v2_get(imds, ROLE_LIST).status == 404
    assert v2_get(imds, ROLE_LIST + "audit").status == 200


def test_a_granted_role_that_is_not_configured_is_not_there() -> None:
    gone = Grant(roles=frozenset({"gone"}), default_role="gone")

    imds = an_imds(rules=Rule(gone))

    assert v2_get(imds, ROLE_LIST).status == 404
    assert v2_get(imds, ROLE_LIST + "gone").status == 404


def test_a_live_role_is_served_while_another_has_nothing() -> None:
    imds = an_imds({**nothing_held(), "audit": Holding(lease_for("audit"))})

    assert v2_get(imds, ROLE_LIST).status == 404
    assert v2_get(imds, ROLE_LIST + "deploy").status == 401
    assert v2_get(imds, ROLE_LIST + "audit").status == 200


def test_a_lease_in_its_last_fraction_of_a_second_is_served_no_more() -> None:
    lease = lease_for(life=timedelta(hours=1, milliseconds=900))
    imds = an_imds({"deploy": Holding(lease)})

    just_before = START + timedelta(minutes=59, seconds=59, milliseconds=999)
    assert v2_get(imds, ROLE_LIST + "deploy", now=just_before).status == 200
    assert v2_get(imds, ROLE_LIST + "deploy", now=START + timedelta(hours=1)).status == 401


@pytest.mark.parametrize("text", ["", 'a"b', "a\\b", "a b", "a\nb", "caf\u00e9"])
def test_credentials_that_would_need_an_escape_are_nothing_to_serve(text: str) -> None:
    lease = lease_for()
    value = type(lease.value)(
        access_key_id=lease.value.access_key_id,
        secret_access_key=lease.value.secret_access_key,
        session_token=text,
        role_arn=lease.value.role_arn,
    )
    odd = type(lease)(value=value, issued_at=lease.issued_at, expires_at=lease.expires_at)

    imds = an_imds({"deploy": Holding(odd)})

    assert v2_get(imds, ROLE_LIST).status == 404
    assert v2_get(imds, ROLE_LIST + "deploy").status == 401


@pytest.mark.parametrize("header", [BROWSER, PROXY, ("referer", "x"), ("sec-fetch-site", "none")])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", TOKEN_PATH, 403),
        ("PUT", "/", 403),
        ("POST", ROLE_LIST + "deploy", 403),
        ("OPTIONS", TOKEN_PATH, 403),
        ("GET", "/", 403),
        ("GET", ROLE_LIST, 403),
        ("GET", "/latest/meta-data/placement/region", 403),
        ("GET", ROLE_LIST + "deploy", 401),
        ("HEAD", ROLE_LIST + "deploy", 401),
        ("GET", "/2021-07-15/meta-data/iam/security-credentials-extended/deploy/", 401),
    ],
)
def test_browsers_and_proxies_are_refused_whatever_they_hold(
    header: tuple[str, str], method: str, path: str, status: int
) -> None:
    imds = an_imds(v1=True)
    token = (TOKEN_HEADER, session_token(imds))

    for headers in ((header,), (header, token), (header, (TTL_HEADER, "60"))):
        answer = imds.answer(request(method, path, *headers), ALICE, now=START)

        assert answer.status == status
        assert answer.refusal in ("browser", "forwarded")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_foreign_host_is_refused_as_a_browser_is() -> None:
    imds = an_imds()
    token = session_token(imds)
    headers = (("host", "rebound.example.com"), (TOKEN_HEADER, token))
    rebound = request("GET", ROLE_LIST)

    answer = imds.answer(
        type(rebound)(method="GET", path=ROLE_LIST, headers=headers), ALICE, now=START
    )

    assert (answer.status, answer.refusal) == (403, "host")


def test_a_session_token_is_good_for_its_caller_whatever_the_process_or_address() -> None:
    imds = an_imds()
    token = session_token(imds, caller=ALICE)
    elsewhere = Caller(uid=1000, gid=5, pid=9, address="::1")

    for caller, status in ((ALICE, 200), (elsewhere, 200), (BOB, 401), (Caller(), 401)):
        answer = imds.answer(request("GET", "/", (TOKEN_HEADER, token)), caller, now=START)

        assert answer.status == status


def test_a_session_token_of_an_unknown_caller_is_bound_to_its_address() -> None:
    imds = an_imds()
    neighbour = Caller(address="10.0.0.8")
    token = session_token(imds, caller=neighbour)

    for caller, status in ((neighbour, 200), (Caller(address="10.0.0.9"), 401), (ALICE, 401)):
        answer = imds.answer(request("GET", "/", (TOKEN_HEADER, token)), caller, now=START)

        assert answer.status == status


def test_the_seconds_left_count_down() -> None:
    imds = an_imds()
    token = session_token(imds)

    answer = imds.answer(
        request("GET", "/", (TOKEN_HEADER, token)), ALICE, now=START + timedelta(hours=1)
    )

    assert answer.headers[TTL_HEADER] == "18000"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/", "metadata"),
        ("/latest/meta-data/iam/info", "metadata"),
        ("/latest/meta-data/no/such/thing", "metadata"),
        (DOCUMENT, "identity-document"),
        (ROLE_LIST, "role-list"),
        (ROLE_LIST + "deploy", "credentials"),
        ("/favicon.ico", "other"),
    ],
)
def test_every_answer_carries_a_fixed_label(path: str, label: str) -> None:
    imds = an_imds()
    without_token = imds.answer(request("GET", path), ALICE, now=START)

    assert v2_get(imds, path).route == label
    assert (without_token.status, without_token.route) == (401, label)
    assert without_token.refusal == "token-missing"


def test_the_last_resort_answer_is_safe_for_every_client() -> None:
    imds = an_imds()

    assert imds.nothing_to_serve().status == 401
    assert imds.bad_request().status == 400
    assert (
        imds.nothing_to_serve().headers["Server"] == imds.bad_request().headers["Server"] == "EC2ws"
    )


def test_nothing_of_a_lease_changes_what_another_caller_reads() -> None:
    imds = an_imds(all_roles_held(), rules=ONLY_ALICE)

    for path in ("/latest/meta-data/", ROLE_LIST, ROLE_LIST + "deploy", "/latest/meta-data/iam/"):
        with_leases = v2_get(imds, path, caller=BOB)
        without = v2_get(an_imds(nothing_held(), rules=ONLY_ALICE), path, caller=BOB)

        assert (with_leases.status, with_leases.body) == (without.status, without.body)
