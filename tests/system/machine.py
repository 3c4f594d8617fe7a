"""A Debian machine that boots its own systemd, in a network of its own.

The tree is made once and kept beside the system's temporary files; each machine writes to a layer
of its own above it, which ends with it.
"""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tests.root.stage import cgroup_root

T = TypeVar("T")

RELEASE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "python3", "python3-venv", "curl"),
    "ca-certificates",
)
CACHE = Path("/var/tmp/namespace-broker-machines")
BOOT_LIMIT_S = 60.0
LIMIT_S = 120.0
NUMBERS = itertools.count()
"""One for each machine: two may run at a time."""

Done = subprocess.CompletedProcess[str]


def debian() -> Path:
    """Return the tree of a bare Debian with systemd and Python, made where there is none yet."""
    key = hashlib.sha256(repr((RELEASE, PACKAGES)).encode()).hexdigest()[:12]
    return kept(f"debian-{key}", lambda place: make_debian(place))


def make_debian(place: Path) -> None:
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *(RELEASE, str(place)),
        limit_s=600,
    )
    # The first boot of a machine that is nobody's yet asks who it is.
    (place / "etc/machine-id").write_text("")
    (place / "etc/hostname").write_text("machine\n")
    for unit in ("systemd-firstboot.service", "systemd-networkd-wait-online.service"):
        (place / "etc/systemd/system" / unit).symlink_to("/dev/null")


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the tree of that name; made, whole or not at all, where there is none."""
    place = CACHE / name
    if not place.exists():
        CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
        try:
            draft.chmod(0o755)
            make(draft)
            draft.rename(place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return place


def kept_above(
    name: str, below: tuple[Path, ...], make: Callable[[Path], None]
) -> tuple[Path, ...]:
    """Return the trees *below* under a tree of that name, made by *make* where it is missing.

    It is made whole or not at all.
    """

    def made(draft: Path) -> None:
        for old in CACHE.glob(f"{name.partition('-')[0]}-*"):
            shutil.rmtree(old)
        with layered(*below, into=draft) as top:
            make(top)

    return kept(name, made), *below


@contextmanager
def layered(*trees: Path, into: Path | None = None) -> Iterator[Path]:
    """Yield a copy of *trees*, the first of them above the others, for the block.

    Changes go *into* a folder, or are gone after the block.
    """
    with tempfile.TemporaryDirectory(prefix="namespace-broker-", dir=CACHE) as folder:
        upper, work, top = (Path(folder) / name for name in ("upper", "work", "top"))
        for each in (upper, work, top):
            each.mkdir(mode=0o755)
        lower = ":".join(map(str, trees))
        options = f"lowerdir={lower},upperdir={into or upper},workdir={work}"
        run("mount", "-t", "overlay", "-o", options, "machine", str(top))
        try:
            yield top
        finally:
            run("umount", "--lazy", str(top))


class Machine:
    """A machine that has booted. *root* is its tree, as seen from outside."""

    def __init__(self, root: Path, *, leader: int) -> None:
        self.root = root
        self.leader = leader

    def run(self, *argv: str, check: bool = True, limit_s: float = LIMIT_S) -> Done:
        """Run a program in the machine, as root, outside of its units."""
        return run(*self._inside(), *argv, check=check, limit_s=limit_s)

    def run_as(
        self,
        user: str,
        *argv: str,
        environ: Mapping[str, str] | None = None,
        check: bool = True,
        limit_s: float = LIMIT_S,
    ) -> Done:
        """Run a program as a user of the machine, in a unit of its own.

        Its environment is a home and *environ* only.
        """
        return self.run(*as_user(user, environ or {}), *argv, check=check, limit_s=limit_s)

    def start_as(
        self, user: str, *argv: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start such a program; whoever asked is to end it."""
        return subprocess.Popen(
            [*self._inside(), *as_user(user, environ or {}), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", *words, check=check).stdout.strip()

    def shows(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", unit, "--value", f"--property={name}")

    def journal(self, *units: str) -> str:
        words = [f"--unit={unit}" for unit in units]
        return self.run("journalctl", "--no-pager", "--output=short-precise", *words).stdout

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Put a file there at once, root's."""
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.draft")
        draft.write_text(text)
        draft.chmod(mode)
        draft.replace(place)

    def path(self, path: str) -> Path:
        """Return where a file of the running machine is for us, also one on its own mounts."""
        return Path(f"/proc/{self.leader}/root{path}")

    def until(self, look: Callable[[], T | None], *, what: str, limit_s: float = 30.0) -> T:
        """Look again and again until there is something; fail, naming *what*, after a while."""
        return until(look, what=what, limit_s=limit_s)

    def into_network(self) -> list[str]:
        return ["nsenter", f"--target={self.leader}", "--net"]

    def _inside(self) -> list[str]:
        return [
            *("nsenter", f"--target={self.leader}"),
            *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"),
            *("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]


def as_user(user: str, environ: Mapping[str, str]) -> list[str]:
    said = {"HOME": f"/home/{user}"} | dict(environ)
    return [
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={user}"),
        *(f"--setenv={name}={value}" for name, value in said.items()),
    ]


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot the machine in *root* for the block."""
    with ExitStack() as stack:
        name = f"namespace-broker-{os.getpid()}-{next(NUMBERS)}"
        groups = stack.enter_context(own_cgroups(name))
        entering = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        process = subprocess.Popen(
            [
                *("sh", "-c", f'{entering} && exec "$@"', "-"),
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
                *("--private-network", "--console=pipe", "--machine=machine"),
                *("--link-journal=no", f"--directory={root}"),
            ],
            env={
                "PATH": os.environ["PATH"],
                # All on cgroup v2, whatever this host has.
                "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Killed, it takes the machine along; asked to end, it waits for one that may not hear yet.
        stack.callback(process.wait)
        stack.callback(process.kill)
        leader = until(lambda: child_of(process), what="the machine's init", limit_s=BOOT_LIMIT_S)
        stack.callback(end, leader, process)
        machine = Machine(root, leader=leader)

        def has_booted() -> bool:
            said = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
            return said in ("running", "degraded")

        until(has_booted, what="the machine to boot", limit_s=BOOT_LIMIT_S)
        yield machine


def child_of(process: subprocess.Popen[bytes]) -> int | None:
    """Return the machine's init, as soon as that is what runs there."""
    if process.poll() is not None:
        raise AssertionError(f"systemd-nspawn ended: {process.returncode}")
    with suppress(OSError):  # it was on its way to become another
        for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
            for pid in task.read_text().split():
                if "systemd" in Path(f"/proc/{pid}/comm").read_text():
                    inside = Path(f"/proc/{pid}/root/run/systemd/system")
                    return int(pid) if inside.exists() else None
    return None


def end(leader: int, process: subprocess.Popen[bytes]) -> None:
    """End a machine at once: with its init everything in it ends, and then what started it."""
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)


@contextmanager
def own_cgroups(name: str) -> Iterator[list[Path]]:
    """Make a cgroup of that name in every hierarchy that systemd uses, for the block."""
    tops = [cgroup_root(), Path("/sys/fs/cgroup/systemd")]
    groups = [top / name for top in tops if (top / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir(exist_ok=True)
    try:
        yield groups
    finally:
        for group in groups:
            remove_cgroups(group)


def remove_cgroups(top: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    for place in [Path(place) for place, _, _ in os.walk(top, topdown=False)]:
        while place.exists():
            try:
                place.rmdir()
            except OSError:
                assert time.monotonic() < deadline, f"somebody is still in {place}"
                time.sleep(0.01)


def until(look: Callable[[], T | None], *, what: str, limit_s: float) -> T:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s:g} s for {what}")


def run(*argv: str, check: bool = True, limit_s: float = LIMIT_S) -> Done:
    """Run a program to its end; unless *check* is off, it must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_s, check=False)
    if check:
        assert done.returncode == 0, f"{done.stdout}{done.stderr} ({' '.join(argv[-5:])})"
    return done
