"""A file that is mounted by itself cannot be replaced, and the error says so."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.as_root

WRITE = """
import sys
from pathlib import Path
from broker.files.private import PrivateFile, write_output

for attempt in (lambda path: write_output(path, "new"), PrivateFile):
    try:
        attempt(Path(sys.argv[1]))
    except (OSError, ValueError) as error:
        print(error)
"""


def test_it_is_said_with_what_to_do(tmp_path: Path) -> None:
    file, other = tmp_path / "to ken.json", tmp_path / "other"
    file.write_text("old")
    other.write_text("mounted")
    mounted = 'mount --bind "$1" "$2" && exec "$0" -c "$3" "$2"'

    shown = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, sys.executable, other, file, WRITE],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.splitlines()

    assert shown == [
        "[Errno 16] a mount of its own, which cannot be replaced; mount its directory instead:"
        f" '{file}'",
        f"{file} is a mount of its own, which cannot be replaced; mount its directory instead",
    ]
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "to ken.json"]
