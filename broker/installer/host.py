"""The host to install on, and the checks that must pass before anything is changed."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.installer import units
from broker.installer.addresses import ADDRESSES, LEAVE_IT, TAKEN
from broker.installer.systemctl import Systemctl

OLDEST_SYSTEMD = 247
"""The first with LoadCredential=."""
KEEPS_LEASES_OVER_A_STOP = 254
"""The first with FileDescriptorStorePreserve=."""

HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108
"""What a service with ProtectHome= and PrivateTmp= does not see."""


class Refusal(Exception):
    """The installation is refused: *place* is the flag or path at fault.

    *misuse* means that the request is wrong; otherwise the host is. *detail* is text to show first.
    """

    def __init__(
        self, place: str, what: str, next_step: str, *, misuse: bool = False, detail: str = ""
    ) -> None:
        super().__init__(f"{place}: {what}; {next_step}")
        self.detail = detail
        self.place = place
        self.what = what
        self.next_step = next_step
        self.misuse = misuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The host to install on.

    *root* is the top of its file system; *program* and *interpreter* are what a unit starts;
    *import_path* returns where Python finds what they import; *answers* says whether something
    answers at a metadata address; *why_not_ready* waits for the broker and returns what it lacks,
    None where it is ready.
    """

    uid: int
    program: Path
    interpreter: Path
    systemctl: Systemctl
    is_user: Callable[[str], bool]
    answers: Callable[[str], bool]
    why_not_ready: Callable[[], str | None]
    import_path: Callable[[], Sequence[Path]]
    root: Path = Path("/")

    def on_disk(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    @property
    def roots_uid(self) -> int:
        """Return the owner of the root directory: 0, except in a tree made for a test."""
        return self.on_disk(Path("/")).stat().st_uid

    def is_packaged(self) -> bool:
        """Return whether a distribution package installed the units."""
        return any(self.on_disk(each / units.SERVICE).exists() for each in units.UNITS_PACKAGED)


def require_powers(host: Host) -> None:
    """Raise `Refusal` unless units can be written and started here."""
    if host.uid != 0:
        raise Refusal("install", "needs root", "put sudo before the command")
    if not host.on_disk(Path("/run/systemd/system")).is_dir():
        raise Refusal(
            "systemd",
            "does not run on this host",
            "start `namespace-broker run` with what does; see docs/operations.md",
        )
    version = host.systemctl.version()
    if version is None:
        raise Refusal("systemctl", "cannot be run", "install the package systemd")
    if version < OLDEST_SYSTEMD:
        raise Refusal(
            "systemd",
            f"is version {version}; LoadCredential= needs {OLDEST_SYSTEMD}",
            "use a newer system, or run `namespace-broker run` in a unit of your own",
        )


def require_reachable(host: Host) -> None:
    """Raise `Refusal` unless a service can run the program and only root can change it."""
    if not host.on_disk(host.program).is_file():
        raise Refusal(
            str(host.program), "does not exist", "install the package, or use pip below /opt"
        )
    for path in (host.program, host.interpreter):
        if any(path.is_relative_to(hidden) for hidden in HIDDEN):
            raise Refusal(
                str(path), "is hidden from services", "install it below /opt or /usr/local"
            )
        if not re.fullmatch(r"[\w./@+-]+", str(path)):
            raise Refusal(
                str(path), "cannot be written in a unit file", "use a path without blanks"
            )
        for step in steps_to(host, path):
            require_unchangeable(host, step)
            mode = stat.S_IMODE(host.on_disk(step).stat().st_mode)
            if not mode & stat.S_IXOTH:
                raise Refusal(
                    str(step), f"is not readable by others (mode {mode:04o})", f"chmod o+rx {step}"
                )
    for place in host.import_path():
        require_unchangeable_tree(host, place)


def steps_to(host: Host, path: Path) -> Iterator[Path]:
    """Yield *path* and every directory above it, and the same of each link's target."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        path = todo.pop()
        for step in (path, *path.parents):
            if step in seen:
                continue
            seen.add(step)
            yield step
            if host.on_disk(step).is_symlink():
                target = step.parent / host.on_disk(step).readlink() / path.relative_to(step)
                todo.append(Path(os.path.normpath(target)))


def require_unchangeable(host: Host, step: Path) -> None:
    """Raise `Refusal` where others than root can change what is at *step*."""
    found = host.on_disk(step).lstat()
    mode = stat.S_IMODE(found.st_mode)
    is_writable = mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(found.st_mode)
    if found.st_uid != host.roots_uid or is_writable:
        raise Refusal(
            str(step),
            f"can be changed by others than root (uid {found.st_uid}, mode {mode:04o})",
            "install it as root: a service must not run what others can change",
        )


def require_unchangeable_tree(host: Host, place: Path) -> None:
    """Raise `Refusal` where others can change *place*, the way to it, or anything below it."""
    if not host.on_disk(place).exists():
        # Python looks for it at every start, so nobody else may make it.
        place = next(above for above in place.parents if host.on_disk(above).exists())
        for step in steps_to(host, place):
            require_unchangeable(host, step)
        return
    for step in steps_to(host, place):
        require_unchangeable(host, step)
    for directory, directories, files in os.walk(host.on_disk(place)):
        for name in (*directories, *files):
            entry = Path("/") / Path(directory, name).relative_to(host.root)
            is_link = host.on_disk(entry).is_symlink()
            for step in steps_to(host, entry) if is_link else (entry,):
                if host.on_disk(step).exists():
                    require_unchangeable(host, step)


def require_free_addresses(host: Host) -> None:
    """Raise `Refusal` where another metadata service answers."""
    if host.systemctl.is_active(units.ADDRESS):
        return  # we answer there ourselves
    for address in ADDRESSES:
        if host.answers(address.host):
            raise Refusal(address.host, TAKEN, LEAVE_IT)


def require_readable_by_root(host: Host, path: Path, *, place: str) -> None:
    """Raise `Refusal` unless root's services may read the file, or it does not exist yet."""
    try:
        found = host.on_disk(path).lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refusal(
            place, f"{path} cannot be read ({error.strerror})", "name another", misuse=True
        ) from error
    for step in path.parents:
        above = host.on_disk(step).stat()
        if above.st_uid != host.roots_uid and not above.st_mode & stat.S_IXOTH:
            raise Refusal(
                place,
                f"{path} is in {step}, which only uid {above.st_uid} can read",
                "name one in a directory of root's",
                misuse=True,
            )
    if not stat.S_ISREG(found.st_mode):
        raise Refusal(place, f"{path} is no regular file", "name the file itself", misuse=True)
    if found.st_uid != host.roots_uid:
        raise Refusal(
            place,
            f"{path} belongs to uid {found.st_uid}, not to root",
            "name one that only root can write",
            misuse=True,
        )
