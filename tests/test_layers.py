"""Imports point down, and a heavy library is imported only where it belongs: see pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")

    shown = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)

    assert shown.returncode == 0, shown.stdout


def test_what_restored_leases_are_served_without_is_imported_later() -> None:
    heavy = {"aiobotocore", "aiohttp", "botocore", "broker.sandbox", "cryptography", "jwt"}
    heavy |= {"prometheus_client", "structlog"}
    program = f"import sys, broker.daemon.main; print({heavy} & sys.modules.keys())"

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert shown.stdout == b"set()\n"
