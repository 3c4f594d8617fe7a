"""Lay out the root of the image from Debian's packages.

Python, an init, certificates, and the libraries that these and the broker load: no shell, no
package manager.

``python3 deploy/image_root.py ROOT ENVIRONMENT``, run by the Dockerfile. *ENVIRONMENT* is the
virtual environment, which is left where it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("tini", f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib")

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ETC = {
    "passwd": "nonroot:x:65532:65532::/nonexistent:/nonexistent\n",
    "group": "nonroot:x:65532:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
LINKS = {
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "var/run": "/run",
    "usr/bin/python3": PYTHON,
    # Where OpenSSL looks by itself.
    "usr/lib/ssl/cert.pem": str(CERTIFICATES),
}

UNREAD = re.compile(
    r"/(pydoc_data|test|lib2to3|tkinter|idlelib|turtledemo|sqlite3|curses)/"
    r"|/lib-dynload/(_sqlite3|_curses|_curses_panel|_dbm|_gdbm|_tkinter|nis|readline)\."
    r"|/lib-dynload/(_test\w*|_ctypes_test|_?xx\w*)\."
    r"|/__pycache__/|/tini-static$"
)
"""What no service needs, and what would bring a database, terminals and Kerberos with it."""

COPYRIGHT = "/usr/share/doc/{}/copyright"


def said_by(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def of_packages() -> Iterator[Path]:
    """Yield the files of those packages that are read."""
    for line in said_by("dpkg-query", "--listfiles", *PACKAGES).splitlines():
        path = Path(line)
        if path.is_file() and not path.is_relative_to("/usr/share") and not UNREAD.search(line):
            yield path


def loaded_by(files: Iterable[Path]) -> set[Path]:
    """Return the shared objects of the system that *files* load, and the loader itself."""
    objects = [file for file in files if file.parent.name == "bin" or ".so" in file.suffixes]
    found = re.findall(r"(/\S+) \(0x", said_by("ldd", *map(str, objects)))
    return {Path(path) for path in found if path.startswith(("/lib", "/usr/lib"))}


def package_of(path: Path) -> str:
    """Return the Debian package of a file, by its name of today or from before /usr was merged.

    Raises:
        LookupError: No package has it.
    """
    real = path.resolve()
    for name in (path, real, Path("/", *real.parts[2:])):
        found = subprocess.run(
            ["dpkg-query", "--search", str(name)], capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    raise LookupError(f"image_root: no Debian package has {path}")


def put(path: Path, root: Path) -> None:
    """Copy a file, by all of its names, links among them."""
    directory = path.parent.resolve()
    place = root / directory.relative_to("/") / path.name
    if place.exists() or place.is_symlink():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(directory / path.name, place, follow_symlinks=False)
    if place.is_symlink():
        put(directory / place.readlink(), root)


def register(packages: Iterable[str], root: Path) -> None:
    """Say which packages these files are of, for scanners, and under which terms."""
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for name in sorted(packages):
        (status / name).write_text(said_by("dpkg-query", "--status", name))
        put(Path(COPYRIGHT.format(name)), root)


def lay_out(root: Path, environment: Path) -> None:
    """Fill *root*.

    Raises:
        LookupError: What the broker loads is of no Debian package.
        subprocess.CalledProcessError: dpkg or ldd failed.
    """
    for name, target in LINKS.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    files = list(of_packages())
    libraries = loaded_by([*files, *environment.rglob("*.so*")])
    for path in [*files, *libraries, CERTIFICATES]:
        put(path, root)
    register({*PACKAGES, "ca-certificates", *map(package_of, libraries)}, root)
    for name, text in ETC.items():
        (root / "etc" / name).write_text(text)
    put(Path("/etc/os-release"), root)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "run").mkdir()


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))
