"""Container tokens live in files, and are rotated by them, with overlap."""

import os
from pathlib import Path

import pytest

from broker.surfaces.container_tokens import ContainerTokenFiles
from tests.support.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def kept(folder: Path, clock: FakeClock, *names: str) -> ContainerTokenFiles:
    return ContainerTokenFiles({name: folder / name for name in names}, clock=clock)


def test_each_name_gets_a_token_of_its_own_in_a_file_of_its_own(
    tmp_path: Path, clock: FakeClock
) -> None:
    tokens = kept(tmp_path, clock, "default", "ci")

    assert tokens.caller_name((tmp_path / "ci").read_text()) == "ci"
    assert tokens.caller_name((tmp_path / "default").read_text()) == "default"
    assert (tmp_path / "ci").stat().st_mode & 0o777 == 0o600


def test_a_token_that_is_there_is_used(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "ci").write_text("x" * 40)
    (tmp_path / "ci").chmod(0o600)

    assert kept(tmp_path, clock, "ci").newest("ci") == "x" * 40


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_is_replaced_or_removed_rotates_its_token_with_overlap(
    tmp_path: Path, clock: FakeClock, how: str
) -> None:
    tokens = kept(tmp_path, clock, "ci")
    old = tokens.newest("ci")
    (tmp_path / "ci").unlink()
    if how == "replaced":
        (tmp_path / "ci").write_text("y" * 40)
        (tmp_path / "ci").chmod(0o600)

    tokens.reread()

    new = tokens.newest("ci")
    assert new != old
    assert (tokens.caller_name(new), tokens.caller_name(old)) == ("ci", "ci")
    clock.jump(minutes=61)
    assert (tokens.caller_name(new), tokens.caller_name(old)) == ("ci", None)


def test_trouble_with_a_file_leaves_its_token_in_use(tmp_path: Path, clock: FakeClock) -> None:
    warnings: list[str] = []
    tokens = ContainerTokenFiles({"ci": tmp_path / "ci"}, clock=clock, warn=warnings.append)
    token = tokens.newest("ci")
    (tmp_path / "ci").write_text("too short")

    tokens.reread()

    assert tokens.caller_name(token) == "ci"
    assert "too short" not in warnings[0]
    assert "32 or more" in warnings[0]


def test_a_file_that_moves_rotates_its_token_and_one_that_is_not_named_any_more_ends(
    tmp_path: Path, clock: FakeClock
) -> None:
    before = kept(tmp_path, clock, "default", "ci")
    rotated_out = before.newest("ci")
    (tmp_path / "ci").unlink()
    before.reread()

    after = before.with_files({"ci": tmp_path / "elsewhere"}, group=None)

    for token in (rotated_out, before.newest("ci"), after.newest("ci")):
        assert after.caller_name(token) == "ci"
    assert after.caller_name(before.newest("default")) is None
    assert before.caller_name(after.newest("ci")) is None
    clock.jump(minutes=61)
    assert after.caller_name(before.newest("ci")) is None
    assert after.caller_name(after.newest("ci")) == "ci"


def test_tokens_that_are_replaced_have_no_overlap(tmp_path: Path, clock: FakeClock) -> None:
    tokens = kept(tmp_path, clock, "default", "ci")
    rotated_out = tokens.newest("ci")
    (tmp_path / "ci").unlink()
    tokens.reread()
    seen = (rotated_out, tokens.newest("ci"), tokens.newest("default"))

    tokens.replace_all()

    assert [tokens.caller_name(token) for token in seen] == [None, None, None]
    assert tokens.caller_name((tmp_path / "ci").read_text()) == "ci"


def test_a_token_whose_file_cannot_be_written_is_replaced_all_the_same(
    tmp_path: Path, clock: FakeClock
) -> None:
    tokens = kept(tmp_path, clock, "ci")
    seen = tokens.newest("ci")
    (tmp_path / "ci").unlink()
    tmp_path.rmdir()

    tokens.replace_all()

    assert tokens.caller_name(seen) is None


@pytest.mark.as_root
@pytest.mark.parametrize(("mode", "warnings"), [(0o440, 0), (0o444, 1), (0o644, 1)])
def test_a_secret_of_kubernetes_is_a_link_that_is_followed(
    tmp_path: Path, clock: FakeClock, mode: int, warnings: int
) -> None:
    tmp_path.chmod(0o1777)
    version = tmp_path / "..2026_11_30"
    version.mkdir()
    (version / "ci").write_text("x" * 40)
    (version / "ci").chmod(mode)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "ci").symlink_to("..data/ci")
    told: list[str] = []

    tokens = ContainerTokenFiles({"ci": tmp_path / "ci"}, clock=clock, warn=told.append)

    assert tokens.newest("ci") == "x" * 40
    assert len(told) == warnings
    assert all("every user here may read" in warning for warning in told)


@pytest.mark.as_root
def test_a_secret_of_docker_may_be_read_by_everybody_with_a_warning(
    tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "ci").write_text("x" * 40)
    (tmp_path / "ci").chmod(0o444)
    told: list[str] = []

    tokens = ContainerTokenFiles({"ci": tmp_path / "ci"}, clock=clock, warn=told.append)

    assert tokens.newest("ci") == "x" * 40
    assert len(told) == 1


@pytest.mark.as_root
@pytest.mark.parametrize("whose", ["file", "directory"])
def test_what_another_user_could_have_put_there_is_no_such_secret(
    tmp_path: Path, clock: FakeClock, whose: str
) -> None:
    (tmp_path / "ci").write_text("x" * 40)
    (tmp_path / "ci").chmod(0o444)
    os.chown(tmp_path / "ci" if whose == "file" else tmp_path, 54321, -1)

    with pytest.raises(ValueError, match=r"belongs to uid 54321|has mode 0444; chmod 0640"):
        kept(tmp_path, clock, "ci")
