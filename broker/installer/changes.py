"""Write and remove files so that all of it can be undone."""

import os
from contextlib import suppress
from pathlib import Path

from broker.files.private import write_private


class Changes:
    """The changes made to files below *root*, for `undo`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before: dict[Path, tuple[bytes, int] | None] = {}
        self._made: list[Path] = []
        self.written: list[Path] = []
        """The files that were written, as the host names them."""
        self.removed: list[Path] = []

    def content(self, path: Path) -> str | None:
        """Return the text of a file of the host, None where it does not exist.

        Raises:
            OSError: It cannot be read.
        """
        try:
            return self.on_disk(path).read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return None

    def write(self, path: Path, text: str) -> None:
        """Write *text* to *path* atomically, 0644, unless the file already has it.

        Raises:
            OSError: It cannot be written.
        """
        if self.content(path) == text:
            return
        place = self.on_disk(path)
        self._remember(place)
        self._make(place.parent)
        write_private(place, text.encode(), mode=0o644)
        self.written.append(path)

    def remove(self, path: Path) -> None:
        """Remove a file where it exists, and its drop-in directory when that is then empty.

        Raises:
            OSError: It cannot be removed.
        """
        place = self.on_disk(path)
        if not os.path.lexists(place):
            return
        self._remember(place)
        place.unlink()
        self.removed.append(path)
        if place.parent.name.endswith(".d"):
            with suppress(OSError):
                place.parent.rmdir()

    def undo(self) -> None:
        """Restore every file."""
        for place, before in reversed(self._before.items()):
            if before is None:
                place.unlink(missing_ok=True)
            else:
                content, mode = before
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_private(place, content, mode=mode)
        for folder in reversed(self._made):
            with suppress(OSError):  # somebody else has put something there since
                folder.rmdir()
        self._before, self._made, self.written, self.removed = {}, [], [], []

    def on_disk(self, path: Path) -> Path:
        return self._root / path.relative_to("/")

    def _remember(self, place: Path) -> None:
        if place in self._before:
            return
        try:
            self._before[place] = (place.read_bytes(), place.stat().st_mode & 0o7777)
        except FileNotFoundError:
            self._before[place] = None

    def _make(self, folder: Path) -> None:
        for each in reversed([folder, *folder.parents]):
            if not each.exists():
                each.mkdir(mode=0o755)
                # As the mode says, whatever the umask.
                each.chmod(0o755)
                self._made.append(each)
