"""Build the Debian package of this checkout once for all that install it, and drive dpkg."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.system.machine import Machine, kept

ROOT = Path(__file__).parents[2]
FOLDERS = ("broker", "deploy", "docs", "systemd")
FILES = (
    *("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "constraints.txt"),
    *("namespace_broker.py", "pyproject.toml"),
)
BUILD_LIMIT_S = 600
ON_THE_MACHINE = Path("/var/cache")


def package() -> Path:
    """Return the package; built where there is none of just these sources."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    (found,) = kept(f"package-{digest.hexdigest()[:12]}", make).glob("*.deb")
    return found


def make(place: Path) -> None:
    for old in place.parent.glob("package-*"):
        shutil.rmtree(old)
    checkout(place / "source")
    built(place / "source").rename(place / "namespace-broker.deb")
    shutil.rmtree(place / "source")


def sources() -> Iterator[Path]:
    """Yield every file that goes into the package or decides what does."""
    yield from (ROOT / name for name in FILES)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def checkout(into: Path) -> Path:
    """Copy the sources, and nothing that was made of them, with their times."""
    for path in sources():
        place = into / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    return into


def built(source: Path, *, uid: int | None = None) -> Path:
    """Run ``make deb`` there, as that user, and return what it made."""
    done = subprocess.run(
        ["make", "-C", str(source), "deb"],
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (source / "dist").glob("*.deb")
    return found


def changed(package: Path, into: Path, *, version: str) -> Path:
    """Return the same package as another version of itself, whose program says so too."""
    tree, made = into / "tree", into / f"{version}.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    fields = control.read_text().splitlines(keepends=True)
    others = [line for line in fields if not line.startswith("Version:")]
    control.write_text(f"Version: {version}\n" + "".join(others))
    # dpkg sums up itself what comes without sums.
    (tree / "DEBIAN/md5sums").unlink()
    say_version(tree, version)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made)],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(tree)
    return made


def say_version(tree: Path, version: str) -> None:
    """Have the program in *tree* be of that version, its byte code too, which nothing compares."""
    (module,) = tree.glob("usr/lib/namespace-broker/lib/*/site-packages/broker/__init__.py")
    text, times = re.subn(
        "(?m)^__version__ = .*$", f'__version__ = "{version}"', module.read_text()
    )
    assert times == 1
    module.write_text(text)
    python = ("/usr/bin/python3", "-m", "compileall", "-q", "-f")
    how = ("--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/")
    subprocess.run([*python, *how, str(module)], check=True)


def dpkg(machine: Machine, *words: str) -> str:
    return machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *words).stdout


def installed(machine: Machine, deb: Path) -> None:
    """Install a package there, or upgrade to it."""
    place = machine.path(str(ON_THE_MACHINE / deb.name))
    shutil.copyfile(deb, place)
    dpkg(machine, "--install", str(ON_THE_MACHINE / deb.name))
    place.unlink()
