"""Where our own files are when nobody says, and directories that are ours alone.

The commands that run at every SDK start read this, so: ``os``, and no ``pathlib``.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_RUNTIME_DIR = "/run/namespace-broker"
ENDPOINTS_FILE = "endpoints.json"


class NotOurs(Exception):
    """A directory that somebody else could write to; the text says which and why."""


def user_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return this user's own directory: below ``XDG_RUNTIME_DIR``, else one by uid in the temporary
    directory. Source: interface, ``--runtime-dir``."""
    if base := environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(base, "namespace-broker")
    return by_uid_dir(environ, uid)


def by_uid_dir(environ: Mapping[str, str], uid: int) -> str:
    return os.path.join(environ.get("TMPDIR") or "/tmp", f"namespace-broker-{uid}")  # noqa: S108


def runtime_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return RUNTIME for a broker that was not told: systemd's directory, else the user's own."""
    first = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return first or user_dir(environ, uid)


def make_runtime_dir(path: str, environ: Mapping[str, str], uid: int) -> None:
    """Make RUNTIME 0700 when absent; take it as it is when present.

    Only the one in the temporary directory, where anybody could have made it, must be ours.

    Raises:
        NotOurs: The one by uid is a link, another user's, or open to others.
        OSError: It cannot be made.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    if path == by_uid_dir(environ, uid):
        must_be_ours(path, uid, forbidden=0o077)


def make_own_dir(path: str, uid: int) -> None:
    """Make *path* 0700 when absent; when present it must be ours and writable by us alone.

    Raises:
        NotOurs, OSError: As `make_runtime_dir`.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    must_be_ours(path, uid, forbidden=0o022)


def must_be_ours(path: str, uid: int, *, forbidden: int) -> None:
    """Raise `NotOurs` unless *path* is a directory of *uid*, no link, without *forbidden* bits."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise NotOurs(f"{path} is a link")
    if not stat.S_ISDIR(found.st_mode):
        raise NotOurs(f"{path} is no directory")
    if found.st_uid != uid:
        raise NotOurs(f"{path} belongs to uid {found.st_uid}, not to uid {uid}")
    if found.st_mode & forbidden:
        raise NotOurs(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})")


def write_atomically(path: str, text: str, *, durable: bool = False) -> None:
    """Put *text* at *path*, 0600, whole or not at all; a reader never sees half of it. *durable*:
    nor does one after a crash.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    directory, name = os.path.split(path)
    draft = os.path.join(directory, f".{name}.{os.urandom(6).hex()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
