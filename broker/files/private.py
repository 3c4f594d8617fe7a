"""Private files and directories: checked before use, replaced atomically.

The commands that run at every SDK start import this, so: ``os``, and no ``pathlib``.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# O_PATH: checking a step of the path needs no right to list it. It opens a link as itself.
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, or a pipe in the file's place would hold us for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

DRAFT_DIGITS = 16
MAX_LINKS = 40
MOUNTED = "a mount of its own, which cannot be replaced; mount its directory instead"
MAX_KEPT_BYTES = 1 << 20


def read_private(
    path: str | Path, *, max_mode: int, max_bytes: int, dir_fd: int | None = None
) -> bytes:
    """Return the content of *path*, which must be a regular file of root's or ours, and no link.

    *max_mode* holds the permission bits that it may have. *dir_fd* is the path's directory where
    that is open already: then only the name is looked up, in there.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It fails a check; the message says what to do.
        OSError: It cannot be read.
    """
    try:
        descriptor = os.open(_entry(path, dir_fd), _READ, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a link; name the file itself") from error
        raise
    try:
        if objection := _file_objection(os.fstat(descriptor), max_mode=max_mode):
            raise ValueError(f"{path} {objection}")
        content = os.read(descriptor, max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise ValueError(f"{path} is larger than {max_bytes} bytes; name another file")
    return content


def read_mounted_secret(path: str | Path, *, max_bytes: int) -> bytes | None:
    """Return a secret that a container engine mounts, None where *path* is something else.

    Kubernetes makes a link through ``..data``, Docker a file that nobody may write; both are
    root's, in a directory of root's.

    Raises:
        ValueError: It is too large.
        OSError: It cannot be read.
    """
    place = os.fspath(path)
    name = os.path.basename(place)
    try:
        with open_trusted_directory(os.path.dirname(place)) as directory:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if found.st_uid != 0 or os.fstat(directory).st_uid != 0:
                return None
            if stat.S_ISLNK(found.st_mode):
                target = os.readlink(name, dir_fd=directory)
                if not target.startswith("..data/"):
                    return None
                place = os.path.join(os.path.dirname(place), target)
            elif found.st_mode & 0o222:
                return None
        with open_trusted_directory(os.path.dirname(place)) as directory:
            return read_private(place, max_mode=0o755, max_bytes=max_bytes, dir_fd=directory)
    except ValueError:
        return None


def write_private(
    path: str | Path,
    content: bytes | str,
    *,
    mode: int = 0o600,
    gid: int | None = None,
    dir_fd: int | None = None,
    durable: bool = True,
) -> None:
    """Replace *path* atomically, in *mode* and, when given, for the group *gid*.

    A reader sees the old file or the new one, whole; when *durable*, also after a crash.
    *dir_fd* is as for `read_private`.

    Raises:
        OSError: It cannot be written, and is unchanged; ``filename`` is *path*.
    """
    data = content.encode() if isinstance(content, str) else content
    target = _entry(path, dir_fd)
    draft = os.path.join(os.path.dirname(target), _draft_name(os.path.basename(target)))
    try:
        # Exclusive, so that nobody's link or file in that place is written through.
        descriptor = os.open(draft, _CREATE, 0o600, dir_fd=dir_fd)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if gid is not None:
                    os.fchown(descriptor, -1, gid)
                os.fchmod(descriptor, mode)
                if durable:
                    os.fsync(descriptor)
            os.replace(draft, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=dir_fd)
            raise
    except OSError as error:
        reason = MOUNTED if error.errno == errno.EBUSY else error.strerror
        raise OSError(error.errno, reason, str(path)) from error


def write_output(path: str | Path, content: bytes | str, *, durable: bool = True) -> None:
    """Replace *path* atomically, 0600, where nobody else could lead us to another place.

    This is for a path that somebody chose. No link is followed at its end; a pipe, a device or a
    directory is refused.

    Raises:
        ValueError: The place may not be used; the message names it and says what to do.
        OSError: It cannot be written, and is unchanged; ``filename`` is the place.
    """
    place = os.fspath(path)
    with open_trusted_directory(os.path.dirname(place)) as directory:
        require_replaceable(place, dir_fd=directory)
        write_private(place, content, dir_fd=directory, durable=durable)


def require_replaceable(path: str | Path, *, dir_fd: int | None = None) -> None:
    """Require *path* to be a regular file or absent; *dir_fd* is as for `read_private`.

    Raises:
        ValueError: It is a link, a directory, a pipe or a device.
        OSError: It cannot be looked at.
    """
    try:
        mode = os.stat(_entry(path, dir_fd), dir_fd=dir_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise ValueError(f"{path} is a link; name the file itself")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is not a regular file; name a file")


@contextmanager
def open_trusted_directory(path: str | Path, *, make: bool = False) -> Iterator[int]:
    """Open a directory that only directories and links of root's or ours lead to.

    A directory that everybody may write to must be sticky, as ``/tmp`` is. With *make*, what is
    missing is made 0700.

    Raises:
        ValueError: Somebody else could replace a step of the path; the message says which.
        OSError: It cannot be opened; ``filename`` is the step.
    """
    names = _names_of(os.path.join(os.getcwd(), path))
    links_left = MAX_LINKS
    place, directory = "/", os.open("/", _LOOK)
    try:
        _require_trusted(place, directory, ours=os.geteuid())
        while names:
            name = names.pop()
            step = os.path.normpath(os.path.join(place, name))
            may_make = make and name != ".."
            entered = _enter(step, directory) if may_make else _look(step, name, directory)
            if stat.S_ISLNK(os.fstat(entered).st_mode) and links_left:
                links_left -= 1
                target = _target_of(step, entered)
                names += _names_of(target)
                if not target.startswith("/"):
                    continue
                step, entered = "/", os.open("/", _LOOK)
            os.close(directory)
            place, directory = step, entered
            _require_trusted(place, directory, ours=os.geteuid())
        yield directory
    finally:
        os.close(directory)


def open_private_directory(
    path: str | Path, *, gid: int | None = None, uid: int | None = None
) -> int:
    """Return a descriptor of a directory that only we can write to; the caller closes it.

    The directory, and what is missing above it, is made 0700, or 0750 for the group *gid*. Each
    step from the root is checked through its descriptor before the next is taken in it, so what
    was checked is what is opened. *uid* is who we are, by default the process.

    Raises:
        ValueError: Somebody else could replace the directory or write in it, or the group could
            not read it; the message names the place and says what to do.
        OSError: It cannot be made or opened; ``filename`` is the place.
    """
    place = os.fspath(path)
    ours = os.geteuid() if uid is None else uid
    if not place.startswith("/") or ".." in place.split("/"):
        raise ValueError(f"{place} is no plain absolute path; write it from the root, without ..")
    step, descriptor = "/", os.open("/", _LOOK)
    try:
        _require_trusted(step, descriptor, ours=ours)
        for name in filter(None, place.split("/")):
            step, above = os.path.join(step, name), descriptor
            descriptor = _enter(step, above, gid=gid)
            os.close(above)
            _require_trusted(step, descriptor, ours=ours)
        if objection := _directory_objection(os.fstat(descriptor), ours=ours, gid=gid):
            raise ValueError(f"{place} {objection}")
        return os.open(".", _ENTER, dir_fd=descriptor)
    finally:
        os.close(descriptor)


class PrivateFile:
    """A file in a private directory that is opened once, 0600, or 0640 for a group.

    Every look and every change goes through that descriptor, so nobody can lead us elsewhere
    meanwhile. Calls block as disks do.
    """

    def __init__(self, path: Path, *, gid: int | None = None) -> None:
        """Open the directory, remove drafts of a killed process, and test that we may write.

        Raises:
            ValueError: The place may not be used; the message names it.
            OSError: It cannot be written; ``filename`` is the place.
        """
        if _is_mount_point(path):
            raise ValueError(f"{path} is {MOUNTED}")
        self.path = path
        self._gid = gid
        self._directory = open_private_directory(path.parent, gid=gid)
        try:
            self._remove_drafts()
            self._test_write()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the directory; a second call does nothing."""
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
        self._require_same_directory()
        try:
            return read_private(
                self.path, max_mode=0o7777, max_bytes=MAX_KEPT_BYTES, dir_fd=self._directory
            )
        except FileNotFoundError:
            return None

    def replace(self, content: bytes, *, outdated: str | None = None) -> None:
        """Replace the content durably, then remove the file *outdated* beside it.

        Raises:
            OSError: Not all of it could be done; a reader sees what was there or *content*.
        """
        mode = 0o600 if self._gid is None else 0o640
        write_private(self.path, content, mode=mode, gid=self._gid, dir_fd=self._directory)
        if outdated is not None:
            self._unlink(outdated)
        os.fsync(self._directory)

    def remove(self) -> None:
        """Remove the file, where it exists.

        Raises:
            OSError: It cannot be removed.
        """
        self._unlink(self.path.name)
        os.fsync(self._directory)

    def is_in_place(self) -> bool:
        """Return whether the directory is still the one that readers look into."""
        try:
            return os.path.samestat(self.path.parent.lstat(), os.fstat(self._directory))
        except OSError:
            return False

    def _require_same_directory(self) -> None:
        if not self.is_in_place():
            parent = self.path.parent
            raise ValueError(f"{parent} is not the directory it was at start; reload the broker")

    def _test_write(self) -> None:
        """Write a file beside ours and remove it, so that what cannot work is said at start."""
        trial = self.path.with_name(f".{self.path.name}.{'0' * DRAFT_DIGITS}")
        try:
            write_private(trial, b"", gid=self._gid, dir_fd=self._directory)
        except OSError as error:
            if error.errno == errno.EPERM and self._gid is not None:
                raise _not_a_member(str(self.path), self._gid) from error
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._unlink(trial.name)

    def _remove_drafts(self) -> None:
        with os.scandir(self._directory) as entries:
            left = [entry.name for entry in entries if _is_draft(entry.name, of=self.path.name)]
        for name in left:
            self._unlink(name)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)


def _is_mount_point(path: Path) -> bool:
    """Say whether a file is mounted by itself, as ``docker run --volume FILE:FILE`` does."""
    # proc(5): the fifth field is the mount point, with blanks in octal.
    place = str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            return any(line.split(" ", 5)[4] == place for line in mounts)
    except OSError:
        return False


def _entry(path: str | Path, dir_fd: int | None) -> str:
    place = os.fspath(path)
    return place if dir_fd is None else os.path.basename(place)


def _draft_name(name: str) -> str:
    return f".{name}.{os.urandom(DRAFT_DIGITS // 2).hex()}"


def _is_draft(entry: str, *, of: str) -> bool:
    """Say whether `write_private` of the file *of* made that entry; a killed process leaves one."""
    digits = entry.removeprefix(f".{of}.")
    return digits != entry and len(digits) == DRAFT_DIGITS and not digits.strip("0123456789abcdef")


def _file_objection(found: os.stat_result, *, max_mode: int) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file; move it away"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {found.st_uid}; it must be root's or ours"
    if mode & ~max_mode:
        return f"has mode {mode:04o}; chmod {max_mode:04o} it"
    return None


def _names_of(path: str) -> list[str]:
    """Return the steps of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _look(step: str, name: str, above: int) -> int:
    try:
        return os.open(name, _LOOK, dir_fd=above)
    except OSError as error:
        raise OSError(error.errno, error.strerror, step) from error


def _target_of(step: str, link: int) -> str:
    """Return where a link leads, and close it."""
    try:
        owner, target = os.fstat(link).st_uid, os.readlink("", dir_fd=link)
    finally:
        os.close(link)
    if owner not in (0, os.geteuid()):
        raise ValueError(f"{step} is a link of uid {owner}; name the place it leads to")
    return target


def _enter(step: str, above: int, *, gid: int | None = None) -> int:
    """Open the directory *step* in *above*, made where it is missing."""
    name = os.path.basename(step)
    try:
        with suppress(FileNotFoundError):
            return os.open(name, _LOOK, dir_fd=above)
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above)
            if gid is not None:
                _open_to_group(step, above, gid=gid)
        return os.open(name, _LOOK, dir_fd=above)
    except OSError as error:
        raise OSError(error.errno, error.strerror, step) from error


def _open_to_group(step: str, above: int, *, gid: int) -> None:
    name = os.path.basename(step)
    made = os.open(name, _ENTER, dir_fd=above)
    try:
        os.fchown(made, -1, gid)
        os.fchmod(made, 0o750)
    except PermissionError as error:
        os.rmdir(name, dir_fd=above)
        raise _not_a_member(step, gid) from error
    finally:
        os.close(made)


def _not_a_member(place: str, gid: int) -> ValueError:
    return ValueError(
        f"{place} cannot be given to the group {gid}; make uid {os.geteuid()} a member of it"
    )


def _require_trusted(step: str, descriptor: int, *, ours: int) -> None:
    if objection := _step_objection(os.fstat(descriptor), ours=ours):
        raise ValueError(f"{step} {objection}")


def _step_objection(found: os.stat_result, *, ours: int) -> str | None:
    """Return why this step of a path may lead elsewhere tomorrow, or None.

    In a directory that everybody may write to, the sticky bit keeps what is root's or ours in its
    place, and the next step must be that too (``/tmp``). One that a group may write to passes:
    where every user has a group of his own, home directories are so.
    """
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return "is a link; name the place it leads to"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory; name another place"
    if found.st_uid not in (0, ours):
        return (
            f"belongs to uid {found.st_uid}; name a place below directories of root or uid {ours}"
        )
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return f"is writable by everybody (mode {mode:04o}); chmod o-w it, or name another place"
    return None


def _directory_objection(found: os.stat_result, *, ours: int, gid: int | None) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != ours:
        return f"belongs to uid {found.st_uid}; it must be the broker's own (uid {ours})"
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"is writable by others (mode {mode:04o}); chmod go-w it, or name one below it"
    if gid is not None and not _is_open_to(gid, found):
        return f"cannot be entered by the group; chgrp {gid} and chmod 0750 it"
    return None


def _is_open_to(gid: int, found: os.stat_result) -> bool:
    return bool(found.st_mode & (stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH))
