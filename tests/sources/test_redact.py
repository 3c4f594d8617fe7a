"""Upstream's words, with secrets removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.sources.redact import redacted
from tests.support.sources import jwt_of

JWT = jwt_of({"sub": "ws_1/i-abc"})


@pytest.mark.parametrize(
    "token",
    [
        JWT,
        f"nsct_{JWT}",
        f"nscw_{JWT}",
        f"st_{JWT}",
        "nsrt_opaque",
        f"cognito_{JWT}",
        f"oidc_{JWT}",
    ],
)
def test_tokens_are_hidden_wherever_they_stand(token: str) -> None:
    told = redacted(f"bad token '{token}': try another")

    assert told == "bad token '[hidden]': try another"


def test_a_token_that_upstream_cut_short_is_hidden_too() -> None:
    assert redacted(f"bad token {JWT[:30]}") == "bad token [hidden]"


def test_what_was_sent_is_hidden_whatever_it_looks_like() -> None:
    assert redacted("no user tok-1", hiding=["tok-1", ""]) == "no user [hidden]"


def test_words_that_only_resemble_a_prefix_stay() -> None:
    assert redacted("the oidc_token of test_1 is missing") == "the oidc_token of test_1 is missing"


def test_control_characters_and_line_ends_become_blanks() -> None:
    assert redacted("a\nb\r\n\x1b[31mc\u202ed\x00") == "a b [31mc d"


@given(some.text(max_size=2000))
def test_any_text_is_short_and_printable(text: str) -> None:
    told = redacted(text)

    assert len(told) <= 300
    assert told.isprintable()
