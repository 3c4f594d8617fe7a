"""Token specs, strictly as namespace-api 5 has them."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.sources.namespace.token_spec import InvalidTokenSpec, TokenSpec, parse_token_spec
from tests.support.sources import spec_of

EXAMPLE = "eyJ2ZXJzaW9uIjoidjEiLCJtZXRhZGF0YV91cmwiOiJodHRwOi8vMTI3LjAuMC4xOjgxMjcvbnNjL3YxIn0"


def test_the_documented_example_decodes() -> None:
    assert str(parse_token_spec(EXAMPLE).metadata_url) == "http://127.0.0.1:8127/nsc/v1"


@pytest.mark.parametrize(
    "text", [EXAMPLE + "\n", EXAMPLE + "\r\n", EXAMPLE[:9] + "\n" + EXAMPLE[9:]]
)
def test_line_ends_are_skipped(text: str) -> None:
    assert parse_token_spec(text) == parse_token_spec(EXAMPLE)


def test_an_inline_token_stands_over_everything_and_needs_no_version() -> None:
    spec = parse_token_spec(spec_of({"inline_token": "nsct_x", "metadata_url": "ftp://nowhere"}))

    assert spec == TokenSpec(inline_token="nsct_x")


def test_neither_the_token_nor_the_address_is_printed() -> None:
    assert "nsct_x" not in repr(parse_token_spec(spec_of({"inline_token": "nsct_x"})))
    assert "8127" not in repr(parse_token_spec(EXAMPLE))


@pytest.mark.parametrize(
    "text", ["", "a", "ab cd", EXAMPLE + "=", "ab-_", "{}", "é", "ab\tcd", "abcde"]
)
def test_what_is_not_unpadded_standard_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidTokenSpec, match="is not base64"):
        parse_token_spec(text)


@pytest.mark.parametrize("members", [[], 5, "v1", None])
def test_what_holds_no_object_is_refused(members: object) -> None:
    with pytest.raises(InvalidTokenSpec, match="JSON object"):
        parse_token_spec(spec_of(members))


@pytest.mark.parametrize("version", [None, "v2", 1, ["v1"], ""])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(InvalidTokenSpec, match="version"):
        parse_token_spec(spec_of({"version": version, "metadata_url": "http://127.0.0.1/"}))


@pytest.mark.parametrize(
    "url", [None, 5, "", "nsc", "ftp://127.0.0.1/x", "http://", "/v1", "http://[::1", "http://a:b/"]
)
def test_an_address_that_cannot_be_asked_is_refused(url: object) -> None:
    with pytest.raises(InvalidTokenSpec, match="metadata_url"):
        parse_token_spec(spec_of({"version": "v1", "metadata_url": url}))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8127/nsc",
        "http://localhost/nsc",
        "http://[::1]:80/nsc",
        "http://169.254.169.254/nsc",
        "http://[fe80::1]/nsc",
        "http://[::ffff:127.0.0.1]/nsc",
        "https://metadata.example.com/nsc",
    ],
)
def test_plain_http_is_followed_on_this_link_and_https_anywhere(url: str) -> None:
    assert (
        parse_token_spec(spec_of({"version": "v1", "metadata_url": url + "/"})).metadata_url
        is not None
    )


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/nsc", "http://metadata.example.com/", "http://127.0.0.1.example.com/"]
)
def test_plain_http_beyond_this_link_is_refused(url: str) -> None:
    with pytest.raises(InvalidTokenSpec, match="must be https"):
        parse_token_spec(spec_of({"version": "v1", "metadata_url": url}))


@given(
    some.dictionaries(some.sampled_from(["version", "metadata_url", "inline_token"]), some.text())
)
def test_no_object_ends_in_another_error(members: dict[str, str]) -> None:
    text = base64.b64encode(json.dumps({"version": "v1"} | members).encode()).decode().rstrip("=")

    try:
        parse_token_spec(text)
    except InvalidTokenSpec:
        return
