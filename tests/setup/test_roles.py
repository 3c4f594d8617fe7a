"""How a desired role compares with what exists, and what of it is removed."""

from dataclasses import replace

import pytest

from broker.setup.resource import Outputs, ResourceState, resolve
from broker.setup.resources import AttachedPolicy, InlinePolicy
from broker.setup.resources.policies import ActualInlinePolicy
from broker.setup.to_aws import ToAwsRequest
from tests.support.setup import FOREIGN, READ_ONLY, actual_role, desired_role, statement

OURS = statement()


def test_a_role_that_is_not_there_is_made() -> None:
    step = desired_role().diff(None)

    assert (step.kind, step.title) == ("create", "role deploy")
    assert any("ws_1/*" in line for line in step.diff)


def test_the_trust_statement_is_the_guides_word_for_word() -> None:
    assert desired_role().trust_statement == OURS


@pytest.mark.parametrize("effective", [OURS, statement(Sid="ByHand"), statement(sub=["ws_1/*"])])
def test_a_role_made_by_hand_by_the_guide_is_kept(effective: object) -> None:
    step = desired_role().diff(actual_role(FOREIGN, effective))

    assert (step.kind, step.diff) == ("keep", ())


def test_a_role_that_lacks_our_statement_gets_it_after_its_own() -> None:
    wanted, found = desired_role(), actual_role(FOREIGN, statement(sub="ws_2/*"))

    step = wanted.diff(found)

    assert step.kind == "change"
    assert not [line for line in step.diff if line.startswith("-")]
    assert wanted.desired_trust(found) == {
        "Version": "2012-10-17",
        "Statement": [FOREIGN, statement(sub="ws_2/*"), OURS],
    }


def test_what_stands_and_admits_more_is_kept_and_told() -> None:
    step = desired_role(ToAwsRequest(role_name="deploy", subject="ws_1/i-abc")).diff(
        actual_role(OURS)
    )

    assert step.kind == "keep"
    assert "its trust policy admits more: ws_1/*" in step.note


def test_a_denial_that_stands_against_it_is_told() -> None:
    step = desired_role().diff(actual_role(statement(effect="Deny", sub="ws_1/*"), is_ours=True))

    assert step.kind == "change"
    assert "even so, access will be refused: statement 1 denies it" in step.note


def test_the_session_duration_of_a_role_of_ours_is_set() -> None:
    wanted = desired_role(ToAwsRequest(role_name="deploy", max_session_duration_s=7200))

    step = wanted.diff(actual_role(OURS, is_ours=True))

    assert step.kind == "change"
    assert step.diff == (
        "- maximum session duration 3600 s",
        "+ maximum session duration 7200 s",
    )


def test_a_role_that_is_not_ours_is_changed_in_nothing_but_its_trust() -> None:
    wanted = desired_role(ToAwsRequest(role_name="deploy", max_session_duration_s=7200))

    kept = wanted.diff(actual_role(OURS))
    changed = wanted.diff(actual_role(FOREIGN))

    assert kept.kind == "keep"
    assert "aws iam update-role --role-name deploy --max-session-duration 7200" in kept.note
    assert not any("duration" in line for line in changed.diff)


# Removal.


def test_a_role_of_ours_goes_whole() -> None:
    found = actual_role(OURS, is_ours=True, attached=(), inline=())

    assert desired_role().removal(found, ()).kind == "remove"


def test_a_role_of_ours_goes_with_the_policies_that_are_removed_with_it() -> None:
    found = actual_role(OURS, is_ours=True, attached=(READ_ONLY,), inline=("mine",))
    document = {"Statement": [FOREIGN]}
    inline = InlinePolicy(role="deploy", name="mine", document=document)
    beside = (
        ResourceState(desired=AttachedPolicy(role="deploy", arn=READ_ONLY), actual=None),
        ResourceState(desired=inline, actual=ActualInlinePolicy(document=document)),
    )

    assert desired_role().removal(found, beside).kind == "remove"
    assert desired_role().removal(found, beside[1:]).kind == "keep"
    assert READ_ONLY in desired_role().removal(found, beside[1:]).note


def test_an_inline_policy_that_somebody_changed_keeps_its_role() -> None:
    found = actual_role(OURS, is_ours=True, attached=(), inline=("mine",))
    inline = InlinePolicy(role="deploy", name="mine", document={"Statement": [FOREIGN]})
    beside = (ResourceState(desired=inline, actual=ActualInlinePolicy(document={"Statement": []})),)

    assert desired_role().removal(found, beside).kind == "keep"


@pytest.mark.parametrize("is_ours", [True, False])
def test_of_a_role_that_others_use_only_our_statement_goes(is_ours: bool) -> None:
    wanted = desired_role()
    found = actual_role(FOREIGN, OURS, statement(sub="ws_2/*"), is_ours=is_ours)

    step = wanted.removal(found, ())

    assert step.kind == "change"
    assert wanted.trust_without_us(found)["Statement"] == [FOREIGN, statement(sub="ws_2/*")]


def test_the_only_statement_of_a_role_that_is_not_ours_stays_and_is_explained() -> None:
    step = desired_role().removal(actual_role(OURS), ())

    assert step.kind == "keep"
    assert "aws iam delete-role --role-name deploy" in step.note


def test_a_statement_in_another_form_is_not_ours_to_take() -> None:
    step = desired_role().removal(actual_role(FOREIGN, statement(Sid="ByHand")), ())

    assert step.kind == "keep"


def test_what_is_not_there_needs_no_removal() -> None:
    step = desired_role().removal(None, ())

    assert (step.kind, step.note) == ("keep", "does not exist")


# What only AWS can say.


def test_what_is_known_later_is_filled_in_everywhere() -> None:
    wanted = replace(
        desired_role(), description="<issuer of the account>, <id of the pool>, <guid of the pool>"
    )

    told = resolve(wanted, Outputs(issuer="https://issuer", pool_id="eu-central-1:guid"))

    assert told.description == "https://issuer, eu-central-1:guid, guid"
    assert resolve(wanted, Outputs()) == wanted
