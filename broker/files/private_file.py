"""Small files that not everybody may write, or read: read with suspicion, replaced at once. Knows
nothing of what is in them."""

import errno
import os
import re
import stat
from contextlib import suppress
from pathlib import Path


def read_private(
    path: Path, *, not_wider_than: int, at_most: int, dir_fd: int | None = None
) -> bytes:
    """Return what is in *path*: a regular file and no link, root's or ours, of mode
    *not_wider_than* or narrower, of *at_most* that many bytes. *dir_fd* is the path's directory
    where that is open already: then only the name is looked up, in there.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is there and not as wanted; the sentence says what to do.
        OSError: It cannot be read.
    """
    # Non-blocking, or a pipe in its place would hold us for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(_in(dir_fd, path), flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a link; name the file itself") from error
        raise
    try:
        if wrong := _objection(os.fstat(descriptor), not_wider_than=not_wider_than):
            raise ValueError(f"{path} {wrong}")
        content = os.read(descriptor, at_most + 1)
    finally:
        os.close(descriptor)
    if len(content) > at_most:
        raise ValueError(f"{path} is larger than {at_most} bytes; it cannot be what it should be")
    return content


def _objection(found: os.stat_result, *, not_wider_than: int) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file; move it away"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {found.st_uid}; it must be root's or ours"
    if mode & ~not_wider_than:
        return f"has mode {mode:04o}; chmod {not_wider_than:04o} it"
    return None


def write_private(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    gid: int | None = None,
    dir_fd: int | None = None,
) -> None:
    """Put *content* in the place of *path* at once, in *mode* and, when given, for the group *gid*.

    A reader sees the old file or the new one, whole. *dir_fd* is as for `read_private`.

    Raises:
        OSError: It cannot be written; what was there is still there.
    """
    place = _in(dir_fd, path)
    beside = place.with_name(f".{path.name}.{os.urandom(8).hex()}")
    # Not O_TMPFILE: a file without a name cannot be linked over one that is there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o600, dir_fd=dir_fd)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if gid is not None:
                os.fchown(descriptor, -1, gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(beside, place, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=dir_fd)
        raise


def draft_of(name: str) -> re.Pattern[str]:
    """Return what the names look like that `write_private` writes to first, beside *name*: a
    process that was killed may have left one."""
    return re.compile(re.escape(f".{name}.") + r"[0-9a-f]{16}")


def _in(dir_fd: int | None, path: Path) -> Path:
    return path if dir_fd is None else Path(path.name)
