"""An identity's file that others can read is reported at start."""

from pathlib import Path

import pytest

from broker.daemon.process import readable_by_others


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that everybody may pass: pytest's own are for its user alone."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    return tmp_path


@pytest.mark.parametrize(
    ("mode", "told"), [(0o600, None), (0o640, "its group"), (0o644, "every user")]
)
def test_it_is_told_by_whom_the_token_can_be_read(
    open_folder: Path, mode: int, told: str | None
) -> None:
    file = open_folder / "token.json"
    file.touch()
    file.chmod(mode)

    sentences = list(readable_by_others([file, open_folder / "absent"]))

    if told is None:
        assert sentences == []
    else:
        assert told in sentences[0]
        assert str(file) in sentences[0]


def test_a_folder_that_nobody_else_may_pass_protects_what_is_in_it(open_folder: Path) -> None:
    folder = open_folder / "private"
    folder.mkdir(mode=0o700)
    file = folder / "token.json"
    file.touch()
    file.chmod(0o604)

    assert list(readable_by_others([file])) == []
