"""Our own directories: where they are, and which are refused."""

import os
from pathlib import Path

import pytest

from broker.files import locations

UID = os.getuid()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/x"}, "/run/a"),
        ({"XDG_RUNTIME_DIR": "/x", "TMPDIR": "/t"}, "/x/namespace-broker"),
        ({"TMPDIR": "/t"}, "/t/namespace-broker-7"),
        ({}, "/tmp/namespace-broker-7"),
    ],
)
def test_the_runtime_directory_is_systemds_or_the_users_or_one_by_uid(
    environ: dict[str, str], expected: str
) -> None:
    assert locations.runtime_dir(environ, 7) == expected


def test_roots_is_the_systems_where_it_has_none_of_its_own() -> None:
    assert locations.runtime_dir({"TMPDIR": "/t"}, 0) == "/run/namespace-broker"


@pytest.mark.as_root
def test_another_users_directory_is_not_taken_for_ours(tmp_path: Path) -> None:
    os.chown(tmp_path, 4242, 4242)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": "/t"}

    assert locations.runtime_dir(environ, 0) == "/run/namespace-broker"
    assert locations.runtime_dir(environ, 1001) == "/t/namespace-broker-1001"
    assert locations.runtime_dir(environ, 4242) == f"{tmp_path}/namespace-broker"


def test_a_runtime_directory_is_made_private_and_taken_as_it_is_when_there(tmp_path: Path) -> None:
    absent, present = tmp_path / "absent", tmp_path / "present"
    present.mkdir()
    present.chmod(0o755)

    for path in (absent, present):
        locations.make_runtime_dir(str(path), {}, UID)

    assert absent.stat().st_mode & 0o777 == 0o700
    assert present.stat().st_mode & 0o777 == 0o755


def test_the_one_by_uid_must_be_ours_alone(tmp_path: Path) -> None:
    environ = {"TMPDIR": str(tmp_path)}
    path = Path(locations.temporary_dir(environ, UID))

    locations.make_runtime_dir(str(path), environ, UID)
    assert path.stat().st_mode & 0o777 == 0o700

    path.chmod(0o750)
    with pytest.raises(locations.UntrustedDirectory, match="is open to others"):
        locations.make_runtime_dir(str(path), environ, UID)


def test_a_link_a_file_and_a_strangers_directory_are_not_ours(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(tmp_path)
    file.touch()

    with pytest.raises(locations.UntrustedDirectory, match="is a link"):
        locations.require_owned(str(link), UID, forbidden=0)
    with pytest.raises(locations.UntrustedDirectory, match="is no directory"):
        locations.require_owned(str(file), UID, forbidden=0)
    other = UID + 1
    with pytest.raises(locations.UntrustedDirectory, match=f"uid {UID}, not to uid {other}"):
        locations.require_owned(str(tmp_path), other, forbidden=0)
