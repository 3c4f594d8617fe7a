"""A directory that nobody but us can write to: walked to with suspicion, opened once. Knows nothing
of what is in it."""

import os
import stat
from contextlib import suppress
from pathlib import Path

# O_PATH: looking at a step of the way needs no right to list it. It opens a link as itself.
LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_own_directory(path: Path, *, gid: int | None = None, uid: int | None = None) -> int:
    """Return a descriptor of the directory *path*, which is to be closed by whoever asked.

    It and what is missing above it is made 0700, or 0750 for the group *gid*. Every step from the
    root is looked at before the next is taken in it, so what was looked at is what is opened.
    *uid* is who we are, by default the process.

    Raises:
        ValueError: Somebody else could put another directory in its place, or write in it, or the
            group could not read it; the sentence names the place and says what to do.
        OSError: It cannot be made or opened; ``filename`` is the place.
    """
    ours = os.geteuid() if uid is None else uid
    steps = [*reversed(path.parents), path]
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{path} is not a plain absolute path; write it from the root, without ..")
    descriptor = os.open("/", LOOK)
    try:
        _require(steps[0], descriptor, ours=ours)
        for step in steps[1:]:
            above, descriptor = descriptor, _step(step, descriptor, gid=gid)
            os.close(above)
            _require(step, descriptor, ours=ours)
        if wrong := _not_our_own(os.fstat(descriptor), ours=ours, gid=gid):
            raise ValueError(f"{path} {wrong}")
        return os.open(".", ENTER, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _step(place: Path, above: int, *, gid: int | None) -> int:
    try:
        with suppress(FileNotFoundError):
            return os.open(place.name, LOOK, dir_fd=above)
        with suppress(FileExistsError):
            os.mkdir(place.name, 0o700, dir_fd=above)
            if gid is not None:
                _give(place, above, gid=gid)
        return os.open(place.name, LOOK, dir_fd=above)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error


def _give(place: Path, above: int, *, gid: int) -> None:
    made = os.open(place.name, ENTER, dir_fd=above)
    try:
        os.fchown(made, -1, gid)
        os.fchmod(made, 0o750)
    except PermissionError as error:
        os.rmdir(place.name, dir_fd=above)
        raise not_a_member(place, gid) from error
    finally:
        os.close(made)


def not_a_member(place: Path, gid: int) -> ValueError:
    """Return the error of who may not give *place* to that group."""
    return ValueError(
        f"{place} cannot be given to the group {gid}; make uid {os.geteuid()} a member of it"
    )


def _require(place: Path, descriptor: int, *, ours: int) -> None:
    if wrong := _not_to_be_trusted(os.fstat(descriptor), ours=ours):
        raise ValueError(f"{place} {wrong}")


def _not_to_be_trusted(found: os.stat_result, *, ours: int) -> str | None:
    """Return why a step of the way may lead elsewhere tomorrow, or None.

    In a directory that everybody may write to, the sticky bit keeps what is root's or ours in its
    place, and the next step must be that too (``/tmp``). One that a group may write to is let
    pass: where every user has a group of his own, home directories are.
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


def _not_our_own(found: os.stat_result, *, ours: int, gid: int | None) -> str | None:
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
