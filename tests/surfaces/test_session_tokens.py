"""Session tokens: what is issued is good, for its time and its caller, and nothing else is."""

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.surfaces.session_tokens import OVERLAP, SessionKeys, SessionTokens
from tests.support.fakes import START

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
KEYS = SessionKeys.in_memory(now=START)
TOKENS = SessionTokens(KEYS)

lives = st.integers(min_value=1, max_value=21600)
bindings = st.text(max_size=40).filter(lambda text: text.isprintable())
fractions = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=20000))


@given(lives, bindings, fractions)
def test_any_life_is_granted_exactly(ttl_s: int, binding: str, later: timedelta) -> None:
    now = START + later
    token = TOKENS.issue(ttl_s, binding, now)

    end = now + timedelta(seconds=ttl_s)
    assert TOKENS.seconds_left(token, binding, now) == ttl_s
    assert TOKENS.seconds_left(token, binding, end - timedelta(milliseconds=1)) == 0
    assert TOKENS.seconds_left(token, binding, end) is None


@given(lives, st.integers(0, 55), st.sampled_from(ALPHABET + "=+/ \n\u00e9"))
def test_any_flipped_character_is_refused(ttl_s: int, at: int, character: str) -> None:
    token = TOKENS.issue(ttl_s, "uid=1000", START)
    flipped = token[:at] + character + token[at + 1 :]

    left_s = TOKENS.seconds_left(flipped, "uid=1000", START)

    assert left_s == (ttl_s if flipped == token else None)


@given(bindings, bindings)
def test_any_other_binding_is_refused(issued_to: str, presented_by: str) -> None:
    token = TOKENS.issue(60, issued_to, START)

    left_s = TOKENS.seconds_left(token, presented_by, START)

    assert left_s == (60 if issued_to == presented_by else None)


@given(st.text(max_size=80))
def test_no_text_of_others_is_a_token(text: str) -> None:
    assert TOKENS.seconds_left(text, "uid=1000", START) is None


@given(lives)
def test_a_token_is_56_characters_that_need_no_escape(ttl_s: int) -> None:
    token = TOKENS.issue(ttl_s, "uid=1000", START)

    assert len(token) == 56
    assert set(token) <= set(ALPHABET)


def test_what_surrounds_a_token_makes_it_no_token() -> None:
    token = TOKENS.issue(60, "uid=1000", START)

    for changed in (token + "\n", token + "=", " " + token, token[:-1], token + "A"):
        assert TOKENS.seconds_left(changed, "uid=1000", START) is None


def test_a_thousand_tokens_are_all_different_and_all_good() -> None:
    tokens = {TOKENS.issue(60, "uid=1000", START) for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(TOKENS.seconds_left(token, "uid=1000", START) == 60 for token in tokens)


def test_a_token_outlives_the_process_where_there_is_a_state_file(tmp_path: Path) -> None:
    path = tmp_path / "imds-keys.json"
    token = SessionTokens(SessionKeys.kept(path, now=START)).issue(21600, "uid=1000", START)

    later = START + timedelta(hours=5)
    restarted = SessionTokens(SessionKeys.kept(path, now=later))

    assert restarted.seconds_left(token, "uid=1000", later) == 3600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["imds-keys.json"]


def test_without_a_state_file_a_restart_voids_tokens() -> None:
    token = SessionTokens(SessionKeys.in_memory(now=START)).issue(60, "uid=1000", START)

    restarted = SessionTokens(SessionKeys.in_memory(now=START))

    assert restarted.seconds_left(token, "uid=1000", START) is None


def test_a_new_key_leaves_the_tokens_of_the_old_ones_good_for_all_their_life(
    tmp_path: Path,
) -> None:
    path = tmp_path / "imds-keys.json"
    keys = SessionKeys.kept(path, now=START)
    tokens = SessionTokens(keys)
    just_before = START + timedelta(days=9)
    token = tokens.issue(21600, "uid=1000", just_before)

    keys.add_key(just_before)
    keys.add_key(just_before + timedelta(hours=3))
    keys.add_key(just_before + timedelta(hours=5))

    end = just_before + timedelta(hours=6)
    restarted = SessionTokens(SessionKeys.kept(path, now=end))
    assert tokens.seconds_left(token, "uid=1000", end - timedelta(seconds=1)) == 1
    assert restarted.seconds_left(token, "uid=1000", end - timedelta(seconds=1)) == 1
    assert len(keys.all) == 4


def test_another_machine_or_boot_has_a_key_of_its_own_beside_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "imds-keys.json"
    twin = SessionKeys.kept(path, now=START, on="here")
    token = SessionTokens(twin).issue(21600, "uid=1000", START)

    again = SessionKeys.kept(path, now=START, on="here")
    clone = SessionKeys.kept(path, now=START, on="there")
    once_more = SessionKeys.kept(path, now=START, on="there")

    assert again.all == twin.all
    assert clone.all[1:] == twin.all
    assert once_more.all == clone.all
    assert SessionTokens(clone).seconds_left(token, "uid=1000", START) == 21600


def test_new_tokens_are_signed_by_the_newest_key() -> None:
    keys = SessionKeys.in_memory(now=START)
    keys.add_key(START)

    token = SessionTokens(keys).issue(60, "uid=1000", START)

    only_newest = SessionTokens(SessionKeys(keys.all[:1]))
    assert only_newest.seconds_left(token, "uid=1000", START) == 60


def test_keys_that_no_living_token_can_need_are_dropped() -> None:
    keys = SessionKeys.in_memory(now=START)
    first = keys.all[0]

    keys.add_key(START + timedelta(days=1))
    assert first in keys.all

    keys.add_key(START + timedelta(days=1) + OVERLAP)
    assert first not in keys.all


def test_a_clock_that_keeps_jumping_does_not_pile_up_keys_without_end() -> None:
    keys = SessionKeys.in_memory(now=START)

    for _ in range(1100):
        keys.add_key(START)

    assert len(keys.all) == 1024


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"keys": 7}',
        b'{"keys": [7]}',
        b'{"keys": [{"id": "00"}]}',
        b'{"keys": [{"id": "zz", "secret": "", "made_at": ""}]}',
        b'{"keys": [{"id": "00000000", "secret": "00", "made_at": "2030-01-01T00:00:00Z"}]}',
        b'{"keys": [{"id": 7, "secret": 7, "made_at": 7}]}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"x" * (2 << 20),
    ],
)
def test_a_damaged_state_file_is_set_aside_with_a_warning(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "imds-keys.json"
    path.write_bytes(content)
    path.chmod(0o600)
    warnings: list[str] = []

    keys = SessionKeys.kept(path, now=START, warn=warnings.append)

    assert len(keys.all) == 1
    assert len(json.loads(path.read_text())["keys"]) == 1
    assert path.with_name("imds-keys.json.damaged").read_bytes() == content
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_keys_that_others_could_read_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "imds-keys.json"
    read_by_others = SessionKeys.kept(path, now=START).all[0]
    path.chmod(0o644)
    warnings: list[str] = []

    keys = SessionKeys.kept(path, now=START, warn=warnings.append)

    assert read_by_others not in keys.all
    assert len(warnings) == 1


def test_a_state_directory_that_cannot_be_written_is_a_warning_and_tokens_work(
    tmp_path: Path,
) -> None:
    in_the_way = tmp_path / "a-file"
    in_the_way.touch()
    warnings: list[str] = []

    keys = SessionKeys.kept(in_the_way / "imds-keys.json", now=START, warn=warnings.append)

    tokens = SessionTokens(keys)
    assert tokens.seconds_left(tokens.issue(60, "uid=1000", START), "uid=1000", START) == 60
    assert warnings
    assert "a-file" in warnings[-1]


def test_a_key_does_not_show_its_secret() -> None:
    key = KEYS.all[0]

    assert key.secret.hex() not in repr(key)
    assert repr(key.secret) not in repr(key)
