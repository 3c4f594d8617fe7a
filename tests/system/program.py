"""Install the program on a machine of the tests by its package, as its users do.

Beside it an SDK and the two clouds, in a virtual environment without the package.
"""

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path

from tests.system.machine import debian, kept_above, run
from tests.system.package import package

ROOT = Path(__file__).parents[2]
COMMAND = "namespace-broker"

BESIDE = Path("/opt/beside")
PYTHON, AWS = str(BESIDE / "bin/python"), str(BESIDE / "bin/aws")
OTHER_COMMAND = str(BESIDE / "bin/namespace-broker")
"""The same program, as pip installs it."""
PROGRAMS = Path("/opt/programs")

REQUIREMENTS = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
CLIENTS = ("boto3", "awscli")


def machine_trees() -> tuple[Path, ...]:
    """Return the trees of a machine with the package of this checkout, made where need be."""
    deb = package()
    made_of = digest(Path(__file__), *sorted((ROOT / "tests/system/programs").glob("*.py")))
    name = f"{deb.parent.name.replace('package', 'broker')}-{made_of}"
    return kept_above(name, client_trees(), lambda place: add_program(place, deb))


def client_trees() -> tuple[Path, ...]:
    below = debian()
    name = f"clients-{digest(Path(__file__), *REQUIREMENTS)}-{below.name.partition('-')[2]}"
    return kept_above(name, (below,), add_clients)


def add_program(place: Path, deb: Path) -> None:
    with_wheels(
        place,
        *("--no-deps", str(ROOT)),
        install=f"{BESIDE}/bin/pip install --quiet --no-index --no-deps /wheels/*.whl",
    )
    shutil.copy(deb, place)
    inside(place, f"dpkg --install /{deb.name} >/dev/null")
    (place / deb.name).unlink()
    shutil.copytree(ROOT / "tests/system/programs", place / PROGRAMS.relative_to("/"))


def add_clients(place: Path) -> None:
    """Add two users, SDKs, and what the sandbox needs."""
    inside(place, "useradd --create-home alice && useradd --create-home bob")
    wanted = tomllib.loads(REQUIREMENTS[0].read_text())["project"]["dependencies"]
    with_wheels(
        place,
        *("--constraint", str(REQUIREMENTS[1]), *wanted, *CLIENTS),
        install=f"python3 -m venv {BESIDE} && "
        f"{BESIDE}/bin/pip install --quiet --no-index /wheels/*.whl",
    )


def with_wheels(place: Path, *wanted: str, install: str) -> None:
    """Have what is *wanted* in the tree's /wheels while a shell's line installs it."""
    wheels = place / "wheels"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--wheel-dir", str(wheels), *wanted, limit_s=600)
    inside(place, install)
    shutil.rmtree(wheels)


def digest(*files: Path) -> str:
    """Return a short name for the content of files."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return total.hexdigest()[:12]


def inside(place: Path, script: str) -> None:
    """Run a shell's line in a tree that no machine runs from."""
    quiet = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK=1")
    run("chroot", str(place), *quiet, "sh", "-euc", script, limit_s=300)
