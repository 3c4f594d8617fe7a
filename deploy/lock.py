"""Write the lock files: what the image and the Debian package are made of, wheel by wheel.

``python3 deploy/lock.py``. Asks pip what it would install of pyproject.toml's dependencies, at
constraints.txt's versions, on each Python and platform that we support; nothing is installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ARCHITECTURES = ("x86_64", "aarch64")

GLIBC_MINORS = (36, 35, 34, 31, 28, 27, 26, 24, 17)
"""Debian 12 has glibc 2.36. pip takes older ones only where they are named."""
MUSL_MINORS = (2, 1)

HEAD = """\
# Made by deploy/lock.py (make lock) from pyproject.toml and constraints.txt; do not edit.
# Wheels of Python {pythons} on {architectures}, glibc and musl.
# Install with: pip install --require-hashes --only-binary :all: --no-deps -r {name}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of machine to install on."""

    python: str
    architecture: str
    libc: str

    @property
    def platforms(self) -> tuple[str, ...]:
        """Return pip's names for what it runs, the newest first."""
        if self.libc == "musl":
            return tuple(f"musllinux_1_{minor}_{self.architecture}" for minor in MUSL_MINORS)
        manylinux = (f"manylinux_2_{minor}_{self.architecture}" for minor in GLIBC_MINORS)
        return (*manylinux, f"manylinux2014_{self.architecture}")

    def __str__(self) -> str:
        return f"Python {self.python} on {self.architecture} with {self.libc}"


@dataclass(slots=True)
class Locked:
    """One distribution: its version, and the SHA-256 of each wheel that some target takes."""

    version: str
    hashes: set[str] = field(default_factory=set)


class LockError(Exception):
    """The lock cannot be made; says why, and what to do."""


TARGETS = tuple(
    Target(python=python, architecture=architecture, libc=libc)
    for python in PYTHONS
    for architecture in ARCHITECTURES
    for libc in ("glibc", "musl")
)


def what_pip_would_install(
    requirements: Iterable[str], target: Target, *, constraints: Path
) -> list[Mapping[str, object]]:
    """Return the entries of pip's installation report.

    Raises:
        LockError: pip finds no such set of wheels.
    """
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    command += ["--dry-run", "--ignore-installed", "--report", "-", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--target", "nowhere", "--implementation", "cp"]
    command += ["--python-version", target.python]
    command += [f"--platform={platform}" for platform in target.platforms]
    command += ["--constraint", str(constraints), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LockError(f"{target}: {done.stderr.strip().splitlines()[-1]}")
    installed: list[Mapping[str, object]] = json.loads(done.stdout)["install"]
    return installed


def sha256_of(entry: Mapping[str, object]) -> str:
    match entry:
        case {"download_info": {"archive_info": {"hashes": {"sha256": str(digest)}}}}:
            return digest
        case {"download_info": {"archive_info": {"hash": str(digest)}}}:
            return digest.removeprefix("sha256=")
    raise LockError("pip's report has no sha256; the index must give one with each file")


def lock(requirements: Iterable[str], *, constraints: Path) -> dict[str, Locked]:
    """Return what *requirements* need on every target, by name.

    Raises:
        LockError: A target lacks wheels, or two targets would get different versions.
    """
    wanted, locked = list(requirements), dict[str, Locked]()
    for target in TARGETS:
        print(f"lock: {target} ...", file=sys.stderr)
        for entry in what_pip_would_install(wanted, target, constraints=constraints):
            match entry:
                case {"metadata": {"name": str(name), "version": str(version)}}:
                    known = locked.setdefault(name.lower().replace("_", "-"), Locked(version))
                    if known.version != version:
                        raise LockError(
                            f"{target} gets {name} {version}, others {known.version}; "
                            "pin it in constraints.txt"
                        )
                    known.hashes.add(sha256_of(entry))
    return locked


def written(locked: Mapping[str, Locked], *, name: str) -> str:
    """Return the lock file's text, the same for the same content."""
    lines = [
        HEAD.format(pythons=" ".join(PYTHONS), architectures=" and ".join(ARCHITECTURES), name=name)
    ]
    for distribution in sorted(locked):
        one = locked[distribution]
        hashes = (f"    --hash=sha256:{digest}" for digest in sorted(one.hashes))
        lines.append(" \\\n".join((f"{distribution}=={one.version}", *hashes)) + "\n")
    return "".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    into: Path = parser.parse_args().into
    top = Path(__file__).resolve().parent.parent
    project = tomllib.loads((top / "pyproject.toml").read_text())
    wanted = {
        "requirements.lock": project["project"]["dependencies"],
        "build.lock": [
            *project["build-system"]["requires"],
            *project["dependency-groups"]["package"],
        ],
    }
    try:
        texts = {
            name: written(lock(requirements, constraints=top / "constraints.txt"), name=name)
            for name, requirements in wanted.items()
        }
    except LockError as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    for name, text in texts.items():
        (into / name).write_text(text)
        print(f"lock: wrote {into / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
