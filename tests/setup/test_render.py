"""In every rendered form, no text breaks out of its place, and nothing is lost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.setup.render import FORMS, rendered
from broker.setup.render.draft import comment
from broker.setup.to_namespace import StsRequest
from tests.support.setup_drafts import DRAFTS, sts_draft, to_aws_draft

EVERY_FORM = pytest.mark.parametrize("form", sorted(FORMS))
IN_COMMENTS = pytest.mark.parametrize("form", ["aws-cli", "cloudformation", "terraform"])


@EVERY_FORM
@pytest.mark.parametrize("name", DRAFTS)
def test_a_form_says_by_which_command_it_was_made_and_which_is_next(form: str, name: str) -> None:
    text = rendered(replace(DRAFTS[name], command=("namespace-broker", "setup", "it")), form)

    assert "namespace-broker setup it" in text
    assert "namespace-broker run" in text.splitlines()[-2 if form == "json" else -1]
    assert text.endswith("\n")
    assert text.isascii()


@given(st.text())
def test_nothing_breaks_out_of_a_comment(text: str) -> None:
    lines = comment([text]).splitlines()

    assert all(line.startswith("#") and line.isprintable() for line in lines)


@IN_COMMENTS
def test_what_a_form_cannot_make_stands_in_it_as_a_command(form: str) -> None:
    text = rendered(sts_draft(), form)

    assert "aws iam enable-outbound-web-identity-federation" in text
    assert "nsc auth trust-relationships add --issuer" in text
    assert "--subject-match arn:aws:iam::123456789012:role/builder" in text
    assert "full access to the workspace" in text


@EVERY_FORM
def test_an_issuer_that_was_said_is_in_the_line_of_nscs(form: str) -> None:
    asked = StsRequest(role_name="builder", issuer="https://issuer.example")

    text = rendered(sts_draft(asked), form)

    assert "nsc auth trust-relationships add --issuer https://issuer.example" in text
    assert "<issuer of the account>" not in text


@pytest.mark.parametrize("form", ["cloudformation", "terraform"])
def test_a_form_that_cannot_look_says_that_it_keeps_nothing(form: str) -> None:
    text = rendered(to_aws_draft(), form)

    assert "can neither keep the provider nor add" in text
