"""Default places of our own files, and the checks on their directories.

The commands that run at every SDK start read this, so: ``os``, and no ``pathlib``.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from tempfile import TemporaryDirectory

SYSTEM_RUNTIME_DIR = "/run/namespace-broker"
ENDPOINTS_FILE = "endpoints.json"
TEMPORARY_PATH_MAX = 60
"""The path of a socket has at most 107 characters, and ours are below a directory of our own."""


class UntrustedDirectory(Exception):
    """Somebody else could write to the directory; the message says which and why."""


def user_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return this user's directory: below ``XDG_RUNTIME_DIR``, else by uid in the temporary one.

    Another user's ``XDG_RUNTIME_DIR``, as ``sudo -E`` and ``su`` leave it, counts as none: what we
    make in there would lock its owner out. Root's other place is the system's, because anybody
    could make the one in the temporary directory first.

    Source: interface, ``--runtime-dir``.
    """
    base = environ.get("XDG_RUNTIME_DIR")
    if base and not _is_foreign(base, uid):
        return os.path.join(base, "namespace-broker")
    return SYSTEM_RUNTIME_DIR if uid == 0 else temporary_dir(environ, uid)


def commands_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return the directory for what our own commands write for programs of *uid*.

    Root's is not the system's runtime directory, which is the service's.
    """
    directory = user_dir(environ, uid)
    return f"{SYSTEM_RUNTIME_DIR}-root" if directory == SYSTEM_RUNTIME_DIR else directory


def _is_foreign(path: str, uid: int) -> bool:
    try:
        return os.stat(path).st_uid not in (0, uid)
    except OSError:
        return False


def temporary_dir(environ: Mapping[str, str], uid: int) -> str:
    return os.path.join(environ.get("TMPDIR") or "/tmp", f"namespace-broker-{uid}")  # noqa: S108


def short_temporary_directory(prefix: str) -> TemporaryDirectory[str]:
    """Return a new temporary directory, with a path short enough for a socket in it."""
    import tempfile

    is_short = len(tempfile.gettempdir()) <= TEMPORARY_PATH_MAX
    return tempfile.TemporaryDirectory(prefix=prefix, dir=None if is_short else "/tmp")  # noqa: S108


def runtime_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return the default of RUNTIME: systemd's directory, else the user's own."""
    first = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return first or user_dir(environ, uid)


def make_runtime_dir(path: str, environ: Mapping[str, str], uid: int) -> None:
    """Make RUNTIME 0700 when absent; accept it as it is when present.

    Only the one in the temporary directory, where anybody could have made it, must be ours.

    Raises:
        UntrustedDirectory: The one by uid is a link, another user's, or open to others.
        OSError: It cannot be made.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    if path == temporary_dir(environ, uid):
        require_owned(path, uid, forbidden=0o077)


def make_private_dir(path: str, uid: int) -> None:
    """Make *path* 0700 when absent; when present it must be ours and writable by us alone.

    Raises:
        UntrustedDirectory, OSError: As `make_runtime_dir`.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    require_owned(path, uid, forbidden=0o022)


def require_owned(path: str, uid: int, *, forbidden: int) -> None:
    """Require *path* to be a directory of *uid*, no link, without the *forbidden* mode bits.

    Raises:
        UntrustedDirectory: It is not.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise UntrustedDirectory(f"{path} is a link")
    if not stat.S_ISDIR(found.st_mode):
        raise UntrustedDirectory(f"{path} is no directory")
    if found.st_uid != uid:
        raise UntrustedDirectory(f"{path} belongs to uid {found.st_uid}, not to uid {uid}")
    if found.st_mode & forbidden:
        raise UntrustedDirectory(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
        )
