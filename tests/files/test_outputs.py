"""Files at a path that somebody chose: nobody else can lead us elsewhere."""

import os
from pathlib import Path

import pytest

from broker.files.private import write_output

NOT_US = 54321


def test_a_file_is_replaced_at_once_for_us_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("what was there")
    file.chmod(0o644)

    write_output(file, "new")

    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_relative_path_is_taken_from_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")

    write_output("one", "1")
    write_output("../two", "2")

    assert (tmp_path / "below" / "one").read_text() == "1"
    assert (tmp_path / "two").read_text() == "2"


def test_our_own_links_on_the_way_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("absolute/below/..")

    write_output(tmp_path / "absolute" / "one", "1")
    write_output(tmp_path / "relative" / "below" / "two", "2")

    assert (tmp_path / "real" / "one").read_text() == "1"
    assert (tmp_path / "real" / "below" / "two").read_text() == "2"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(ValueError, match="is a link"):
        write_output(tmp_path / "a" / "file", "x")


@pytest.mark.as_root
def test_a_strangers_link_on_the_way_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    os.chown(link, NOT_US, -1, follow_symlinks=False)

    with pytest.raises(ValueError, match=f"{link} is a link of uid {NOT_US}"):
        write_output(link / "file", "x")


@pytest.mark.as_root
def test_a_strangers_directory_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOT_US, -1)

    with pytest.raises(ValueError, match=f"{theirs} belongs to uid {NOT_US}"):
        write_output(theirs / "file", "x")


@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_a_directory_that_everybody_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(ValueError, match=f"{tmp_path} is writable by everybody"):
        write_output(tmp_path / "file", "x")


def test_a_sticky_directory_keeps_our_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    write_output(tmp_path / "file", "x")

    assert (tmp_path / "file").read_text() == "x"


def test_a_link_a_pipe_or_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()

    for name, what in [("link", "a link"), ("pipe", "not a reg"), ("folder", "not a reg")]:
        with pytest.raises(ValueError, match=f"{name} is {what}"):
            write_output(tmp_path / name, "x")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_what_the_system_says_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write_output(tmp_path / "none" / "file", "x")

    assert raised.value.filename == str(tmp_path / "none")
