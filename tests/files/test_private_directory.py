"""Which directories a token may be written to, and how they are made."""

import os
import stat
from pathlib import Path

import pytest

from broker.files.private import open_private_directory

NOT_US = 54321


def opened(path: Path, *, gid: int | None = None, uid: int | None = None) -> None:
    os.close(open_private_directory(path, gid=gid, uid=uid))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_us_alone_with_what_is_missing_above_it(tmp_path: Path) -> None:
    opened(tmp_path / "a" / "b")

    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_it_is_made_for_a_group_to_enter(tmp_path: Path) -> None:
    opened(tmp_path / "a", gid=os.getegid())

    assert mode_of(tmp_path / "a") == 0o750
    assert (tmp_path / "a").stat().st_gid == os.getegid()


def test_what_is_opened_is_that_directory(tmp_path: Path) -> None:
    descriptor = open_private_directory(tmp_path)

    assert os.path.samestat(os.fstat(descriptor), tmp_path.stat())
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_one_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    opened(tmp_path)

    assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize("steps", [("link",), ("link", "below")])
def test_a_link_on_the_way_is_refused_and_named(tmp_path: Path, steps: tuple[str, ...]) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(ValueError, match=f"{tmp_path}/link is a link; name the place"):
        opened(tmp_path.joinpath(*steps))


def test_a_link_to_nowhere_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    with pytest.raises(ValueError, match="is a link"):
        opened(tmp_path / "link")

    assert not (tmp_path / "nowhere").exists()


def test_a_parent_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "ours").mkdir(parents=True)
    shared.chmod(0o777)

    with pytest.raises(ValueError, match=f"{shared} is writable by everybody .mode 0777.; chmod"):
        opened(shared / "ours")


def test_the_sticky_bit_keeps_our_directory_in_such_a_parent(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    opened(shared / "ours")

    assert mode_of(shared / "ours") == 0o700


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o770, 0o702])
def test_the_directory_itself_must_be_writable_by_us_alone(tmp_path: Path, mode: int) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    ours.chmod(mode)

    with pytest.raises(ValueError, match=f"{ours} is writable by"):
        opened(ours)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    # Whoever runs this: seen by another user, it is not that user's own.
    with pytest.raises(ValueError, match=rf"belongs to uid {os.geteuid()}; "):
        opened(tmp_path, uid=NOT_US)


@pytest.mark.parametrize("steps", [("theirs",), ("theirs", "below")])
def test_a_parent_of_somebody_else_is_refused_and_named(
    tmp_path: Path, steps: tuple[str, ...]
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "below").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(theirs, NOT_US, -1)
        with pytest.raises(ValueError, match=f"{theirs} belongs to uid {NOT_US}"):
            opened(tmp_path.joinpath(*steps))
    else:
        with pytest.raises(ValueError, match=f"belongs to uid {os.geteuid()}"):
            opened(tmp_path.joinpath(*steps), uid=NOT_US)


def test_a_directory_that_the_group_could_not_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    with pytest.raises(ValueError, match=f"chgrp {os.getegid()} and chmod 0750 it"):
        opened(tmp_path, gid=os.getegid())


@pytest.mark.parametrize("path", ["relative/place", "/tmp/../tmp/place"])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no plain absolute path"):
        opened(Path(path))


def test_a_file_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ValueError, match=f"{tmp_path}/file is no directory"):
        opened(tmp_path / "file" / "below")


def test_what_the_system_says_names_the_place(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 300)

    with pytest.raises(OSError, match="File name too long") as raised:
        opened(place)

    assert raised.value.filename == str(place)
