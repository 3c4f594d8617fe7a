"""The pages about systemd name every unit, and what the units limit."""

import re

from tests.support.manifests import ROOT, pod

UNITS = ROOT / "systemd"
SYSTEMD = (ROOT / "docs/systemd.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def named(page: str) -> set[str]:
    """Return the units in the page's table, where `-x.socket` is short for a full name."""
    cells = re.findall(
        r"^\| (`[^|]*\.(?:service|socket|path|timer|target)`[^|]*) \|", page, re.MULTILINE
    )
    names: set[str] = set()
    for cell in cells:
        first, *others = re.findall(r"`([^`]+)`", cell)
        stem = first.rpartition(".")[0]
        names |= {
            first,
            *(f"{stem}{each}" if each[0] == "." else f"namespace-broker{each}" for each in others),
        }
    return names


def test_the_page_names_every_unit_and_no_other() -> None:
    assert named(SYSTEMD) == {path.name for path in UNITS.iterdir()}


def test_the_memory_limit_of_the_page_is_the_units_and_the_pods() -> None:
    service = (UNITS / "namespace-broker.service").read_text()
    (limit,) = re.findall(r"^MemoryMax=(\d+)M$", service, re.MULTILINE)
    (sidecar,) = pod()["initContainers"]

    assert f"`MemoryMax={limit}M`" in OPERATIONS
    assert sidecar["resources"]["limits"]["memory"] == f"{limit}Mi"


def test_how_to_stop_serving_is_said() -> None:
    section = SYSTEMD.partition("\n## Stop serving\n")[2].partition("\n## ")[0]

    assert "sudo systemctl stop" in section
