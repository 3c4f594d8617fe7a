"""The lock files name what is installed, at the versions that were tested, and from nowhere."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "deploy" / name for name in ("requirements.lock", "build.lock")]
ENTRY = re.compile(r"([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def locked(path: Path) -> dict[str, str]:
    """Return version by name."""
    return {
        canonicalize_name(name): version for name, version, _ in ENTRY.findall(path.read_text())
    }


def constrained() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pinned}


def needed(requirements: list[str]) -> set[str]:
    """Return the names of *requirements* and of all that they need, as it is installed here."""
    names, wanted = set[str](), [Requirement(one) for one in requirements]
    while wanted:
        one = wanted.pop()
        names.add(canonicalize_name(one.name))
        extras = [{"extra": extra} for extra in (*one.extras, "")]
        for line in requires(one.name) or []:
            inner = Requirement(line)
            applies = inner.marker is None or any(map(inner.marker.evaluate, extras))
            if applies and canonicalize_name(inner.name) not in names:
                wanted.append(inner)
    return names


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_line_is_a_version_with_hashes_and_no_place_to_get_it_from(path: Path) -> None:
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)

    assert ENTRY.sub("", text) == ""
    assert "://" not in path.read_text()


def test_what_runs_is_locked_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert set(locked(LOCKS[0])) == needed(project["dependencies"])


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_the_versions_are_the_tested_ones(path: Path) -> None:
    tested = constrained()

    different = {
        name: (version, tested[name])
        for name, version in locked(path).items()
        if tested.get(name, version) != version
    }

    assert different == {}


def test_what_is_compiled_is_there_for_both_architectures_and_every_python() -> None:
    hashes = {name: text.count("sha256") for name, _, text in ENTRY.findall(LOCKS[0].read_text())}

    # Four Pythons, two architectures, two C libraries.
    assert hashes["aiohttp"] == 16
