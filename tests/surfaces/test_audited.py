"""What each surface's answers report to the audit log."""

from datetime import timedelta

import pytest

from broker.access.caller import Caller
from broker.http.message import Answer, Exchange
from broker.telemetry.audit.lines import Entry, entry_of
from tests.support.fakes import START
from tests.support.surfaces import (
    ALICE,
    BOB,
    ONLY_ALICE,
    ROLE_LIST,
    a_container,
    an_imds,
    container_get,
    nothing_held,
    request,
    v2_get,
)


def entry_for(answer: Answer, *, caller: Caller = ALICE, method: str = "GET") -> Entry | None:
    return entry_of(
        Exchange(
            surface="imds",
            request=request(method, "/"),
            caller=caller,
            answer=answer,
            at=START,
            took_s=0,
        )
    )


def test_imds_credentials_are_reported_with_role_rule_end_and_last_four_characters() -> None:
    entry = entry_for(v2_get(an_imds(), f"{ROLE_LIST}deploy"))

    assert entry is not None
    assert (entry.outcome, entry.kind, entry.role) == ("served", "aws", "deploy")
    assert (entry.rule, entry.key_id_last4) == ("rules[1]", "0001")
    assert entry.expires_at == START + timedelta(hours=1)
    assert entry.caller_token is None


def test_container_credentials_are_reported_with_the_tokens_name() -> None:
    entry = entry_for(container_get(a_container(), "/role/audit"))

    assert entry is not None
    assert (entry.outcome, entry.kind, entry.role) == ("served", "aws", "audit")
    assert (entry.rule, entry.key_id_last4, entry.caller_token) == ("rules[1]", "0001", "default")


@pytest.mark.parametrize("path", [ROLE_LIST, f"{ROLE_LIST}deploy", f"{ROLE_LIST}nonesuch"])
def test_a_caller_without_a_grant_on_imds_is_reported_as_refused(path: str) -> None:
    entry = entry_for(v2_get(an_imds(rules=ONLY_ALICE), path, caller=BOB), caller=BOB)

    assert entry is not None
    assert (entry.outcome, entry.kind, entry.reason) == ("refused", "aws", "not-granted")


def test_a_role_that_is_not_granted_is_reported_as_refused_by_the_deciding_rule() -> None:
    answers = [
        v2_get(an_imds(), f"{ROLE_LIST}vault"),
        container_get(a_container(), "/role/vault"),
    ]

    for entry in map(entry_for, answers):
        assert entry is not None
        assert (entry.outcome, entry.role, entry.rule) == ("refused", "vault", "rules[1]")


def test_a_bad_container_token_is_reported_as_refused_before_any_rule() -> None:
    answer = a_container().answer(
        request("GET", "/creds", ("authorization", "guess")), ALICE, now=START
    )

    entry = entry_for(answer)

    assert entry is not None
    assert (entry.outcome, entry.kind, entry.reason) == ("refused", "aws", "token-bad")
    assert entry.rule is None


def test_a_granted_role_without_a_lease_is_not_reported() -> None:
    answers = [
        v2_get(an_imds(nothing_held()), f"{ROLE_LIST}deploy"),
        v2_get(an_imds(nothing_held()), ROLE_LIST),
        container_get(a_container(nothing_held()), "/creds"),
    ]

    assert [entry_for(answer) for answer in answers] == [None, None, None]


def test_the_role_list_and_the_metadata_hand_out_nothing() -> None:
    answers = [v2_get(an_imds(), path) for path in (ROLE_LIST, "/latest/meta-data/")]

    assert [answer.status for answer in answers] == [200, 200]
    assert [entry_for(answer) for answer in answers] == [None, None]
