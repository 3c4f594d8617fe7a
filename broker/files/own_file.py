"""One file in a directory of our own: read, replaced at once, removed; nothing is left beside it.
Knows nothing of what is in it, and blocks as disks do."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from broker.files.own_directory import not_a_member, open_own_directory
from broker.files.private_file import draft_of, read_private, write_private

LARGEST_BYTES = 1 << 20


class OwnFile:
    """The file at *path*, 0600, or 0640 for the group *gid*. Its directory is opened once; every
    look and every change is by that descriptor, so nobody can lead us elsewhere meanwhile."""

    def __init__(self, path: Path, *, gid: int | None = None) -> None:
        """Open the directory, clear away what a killed process left, and try whether we may write.

        Raises:
            ValueError: The place may not be used; the sentence names it.
            OSError: It cannot be written; ``filename`` is the place.
        """
        self.path = path
        self._gid = gid
        self._directory = open_own_directory(path.parent, gid=gid)
        try:
            self._remove_drafts()
            self._try_out()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the directory; once is enough, twice does no harm."""
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def content(self) -> bytes | None:
        """Return what is there, None where nothing is.

        Raises:
            ValueError: It is a link or no regular file, another user's, or over 1 MiB; also when
                the directory is no longer the one that readers look into.
            OSError: It cannot be read.
        """
        self._require_our_directory()
        try:
            return read_private(
                self.path, not_wider_than=0o7777, at_most=LARGEST_BYTES, dir_fd=self._directory
            )
        except FileNotFoundError:
            return None

    def replace(self, content: bytes, *, outdated: str | None = None) -> None:
        """Put *content* in its place at once, for good; then remove the file *outdated* beside it.

        Raises:
            OSError: Not all of it could be done; a reader sees what was there or *content*.
        """
        mode = 0o600 if self._gid is None else 0o640
        write_private(self.path, content, mode=mode, gid=self._gid, dir_fd=self._directory)
        if outdated is not None:
            self._unlink(outdated)
        os.fsync(self._directory)

    def remove(self) -> None:
        """Remove it, where it is there.

        Raises:
            OSError: It cannot be.
        """
        self._unlink(self.path.name)
        os.fsync(self._directory)

    def _require_our_directory(self) -> None:
        parent = self.path.parent
        try:
            same = os.path.samestat(parent.lstat(), os.fstat(self._directory))
        except FileNotFoundError:
            same = False
        if not same:
            raise ValueError(f"{parent} is not the directory it was at start; restart the broker")

    def _try_out(self) -> None:
        """Write beside the file and take it away: what cannot work is told at start."""
        trial = self.path.with_name(f".{self.path.name}.{'0' * 16}")
        try:
            write_private(trial, b"", gid=self._gid, dir_fd=self._directory)
        except OSError as error:
            if error.errno == errno.EPERM and self._gid is not None:
                raise not_a_member(self.path, self._gid) from error
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._unlink(trial.name)

    def _remove_drafts(self) -> None:
        draft = draft_of(self.path.name)
        with os.scandir(self._directory) as entries:
            left = [entry.name for entry in entries if draft.fullmatch(entry.name)]
        for name in left:
            self._unlink(name)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)
