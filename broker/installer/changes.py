"""Files that are written and removed, and put back as they were when the whole thing fails."""

import os
from contextlib import suppress
from pathlib import Path

from broker.files.private import write_private


class Changes:
    """What was done to files below *root*, so that it can be undone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before: dict[Path, tuple[bytes, int] | None] = {}
        self._made: list[Path] = []
        self.written: list[Path] = []
        """The files that were written, as the host names them."""
        self.removed: list[Path] = []

    def content(self, path: Path) -> str | None:
        """Return the text of a file of the host, None where there is none.

        Raises:
            OSError: It cannot be read.
        """
        try:
            return self.on_disk(path).read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return None

    def write(self, path: Path, text: str) -> None:
        """Put *text* at *path* at once, 0644, unless it is there already.

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
        """Remove a file, where it is there, and its directory when that was the last in it.

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
        """Put every file back as it was."""
        for place, before in reversed(self._before.items()):
            if before is None:
                place.unlink(missing_ok=True)
            else:
                content, mode = before
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_private(place, content, mode=mode)
        for folder in reversed(self._made):
            with suppress(OSError):  # somebody put something else there meanwhile
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
