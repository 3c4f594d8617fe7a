"""Container tokens: who is admitted, and what the token file may look like."""

import grp
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.users import gid_of
from broker.surfaces.container_tokens import (
    ContainerTokens,
    container_token,
    new_container_token,
)

GOOD = "a-container-token-of-32-characters"


@given(st.text())
def test_only_the_very_token_admits(presented: str) -> None:
    name = ContainerTokens({"default": (GOOD,)}).caller_name(presented)

    assert name == ("default" if presented.rstrip("\r\n\t ") == GOOD else None)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " ", "\t"])
def test_what_a_shell_leaves_at_the_end_is_ignored(end: str) -> None:
    assert ContainerTokens({"default": (GOOD,)}).caller_name(GOOD + end) == "default"


@pytest.mark.parametrize("presented", ["", "Bearer " + GOOD, GOOD.upper(), " " + GOOD, GOOD[:-1]])
def test_the_value_is_compared_as_it_is_without_a_scheme(presented: str) -> None:
    assert ContainerTokens({"default": (GOOD,)}).caller_name(presented) is None


def test_each_token_names_its_caller_and_the_one_before_stays_good() -> None:
    tokens = ContainerTokens({"default": (GOOD,), "ci": ("the-new-one", "the-old-one")})

    assert tokens.caller_name("the-new-one") == "ci"
    assert tokens.caller_name("the-old-one") == "ci"
    assert tokens.caller_name(GOOD) == "default"
    assert GOOD not in repr(tokens)


def test_a_token_is_made_where_there_is_none_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "container-token"

    made = container_token(path)

    assert container_token(path) == made
    assert path.read_bytes() == made.encode("ascii")
    assert len(made) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["container-token"]


def test_a_token_for_a_group_is_0640_and_the_groups(tmp_path: Path) -> None:
    path = tmp_path / "container-token"

    container_token(path, str(os.getegid()))

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_gid == os.getegid()


def test_a_group_is_also_known_by_its_name() -> None:
    group = grp.getgrall()[0]

    assert gid_of(group.gr_name) == group.gr_gid


def test_an_unknown_group_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "container-token"

    with pytest.raises(ValueError, match="there is no group 'no-such-group'"):
        container_token(path, "no-such-group")

    assert not list(tmp_path.iterdir())


def test_two_tokens_are_never_the_same(tmp_path: Path) -> None:
    path = tmp_path / "container-token"

    assert new_container_token(path) != new_container_token(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_token_that_is_there_is_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "container-token"
    path.write_text(GOOD)
    path.chmod(mode)

    assert container_token(path) == GOOD


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o700, 0o777])
def test_a_token_file_wider_than_0640_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "container-token"
    path.write_text(GOOD)
    path.chmod(mode)

    with pytest.raises(ValueError, match=f"has mode 0{mode:o}; chmod 0640"):
        container_token(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (GOOD + "\n", "ends in a newline"),
        (GOOD + "\r\n", "ends in a newline"),
        ("", "visible ASCII"),
        ("a token with spaces of 32 characters", "visible ASCII"),
        ("a\ntoken-with-a-newline-of-32-characters", "visible ASCII"),
        ("a-t\u00f6ken-that-is-not-ascii-of-32-characters", "visible ASCII"),
        ("a-token-of-31-characters-0123456"[:31], "holds 31 characters; write 32"),
        ("x" * 5000, "larger than 4096 bytes"),
    ],
)
def test_a_token_that_clients_could_not_send_is_refused_and_not_shown(
    tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "container-token"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(ValueError, match=complaint) as refused:
        container_token(path)

    assert str(path) in str(refused.value)
    assert not content.strip() or content.strip() not in str(refused.value)


def test_a_link_is_refused_even_to_a_good_token(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    container_token(elsewhere)
    path = tmp_path / "container-token"
    path.symlink_to(elsewhere)

    with pytest.raises(ValueError, match="is a link"):
        container_token(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    directory = tmp_path / "directory"
    directory.mkdir()

    for path in (pipe, directory):
        with pytest.raises(ValueError, match="not a regular file"):
            container_token(path)


def test_a_directory_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        container_token(tmp_path / "nowhere" / "container-token")
