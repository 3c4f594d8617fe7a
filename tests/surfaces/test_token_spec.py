"""The secret segment of a token spec belongs to one user, and cannot be guessed."""

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.surfaces.namespace import TokenSpecSigner, load_token_spec_signer, token_spec
from tests.support.nsc import decoded_spec

SECRETS = TokenSpecSigner(b"m" * 32)
uids = st.integers(min_value=0, max_value=2**32 - 1)


@given(uids)
def test_a_segment_names_its_user(uid: int) -> None:
    segment = SECRETS.segment_for(uid)

    assert SECRETS.caller_uid(segment) == uid
    assert len(base64.urlsafe_b64decode(segment + "=")) == 32
    assert segment.replace("-", "").replace("_", "").isalnum()


@given(st.one_of(st.text(), st.text("ABCab01-_", min_size=43, max_size=43)))
@example("")
@example("\udcff" * 43)
@example("=" * 43)
@example(SECRETS.segment_for(1000) + "=")
@example(SECRETS.segment_for(1000) + "\n")
@example(SECRETS.segment_for(1000)[:-1])
def test_nothing_else_names_anybody(text: str) -> None:
    assert SECRETS.caller_uid(text) is None


def test_a_segment_that_was_tampered_with_names_nobody() -> None:
    segment = SECRETS.segment_for(1000)

    for at in range(len(segment)):
        other = "A" if segment[at] != "A" else "B"
        assert SECRETS.caller_uid(segment[:at] + other + segment[at + 1 :]) is None


def test_each_user_and_each_master_has_another_segment() -> None:
    other = TokenSpecSigner(b"n" * 32)

    assert SECRETS.segment_for(0) != SECRETS.segment_for(1)
    assert SECRETS.segment_for(0) != other.segment_for(0)
    assert other.caller_uid(SECRETS.segment_for(0)) is None


def test_the_master_is_made_once_and_kept_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "spec-secret"

    segment = load_token_spec_signer(path).segment_for(1000)

    assert load_token_spec_signer(path).caller_uid(segment) == 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == 32


def test_a_master_that_others_can_read_or_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec-secret"
    load_token_spec_signer(path)

    path.chmod(0o640)
    with pytest.raises(ValueError, match="has mode 0640; chmod 0600 it"):
        load_token_spec_signer(path)

    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="holds 5 bytes, not 32; remove it"):
        load_token_spec_signer(path)


@pytest.mark.parametrize("base", ["http://127.0.0.1:8170", "http://[::1]:8170/"])
def test_the_spec_is_one_that_nsc_decodes(base: str) -> None:
    segment = SECRETS.segment_for(1000)

    assert decoded_spec(token_spec(base, segment)) == {
        "version": "v1",
        "metadata_url": f"{base.rstrip('/')}/nsc/v1/{segment}",
    }


def test_a_spec_has_neither_padding_nor_newline() -> None:
    assert all(token_spec("http://h" + "x" * n, "s").isalnum() for n in range(3))
