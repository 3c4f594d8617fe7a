"""Imports point one way, and a heavy library is imported only by the module that owns it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "broker"

OWNERS = {
    "aiobotocore": {
        "sources/aws/assume_role.py",
        "sources/aws/call.py",
        "sources/aws/credential_chain.py",
        "sources/aws/chain_errors.py",
        "setup/aws_api.py",
    },
    "botocore": {
        "sources/aws/assume_role.py",
        "sources/aws/call.py",
        "sources/aws/credential_chain.py",
        "sources/aws/chain_errors.py",
        "setup/aws_api.py",
    },
    "aiohttp.web": {"http/server.py", "sandbox"},
    "structlog": {"telemetry/log.py"},
    "prometheus_client": {"telemetry/log.py"},
    "msgspec": {"config"},
    "click": {"cli"},
    "moto": {"sandbox"},
    "boto3": {"sandbox"},
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield each imported module, and `module.name` for what may be a submodule."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> Iterator[tuple[Path, list[str]]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT), list(imported(ast.parse(path.read_text())))


def test_a_heavy_library_is_imported_by_its_owner_alone() -> None:
    wrong = []
    for path, names in modules():
        for library, owners in OWNERS.items():
            used = any(name == library or name.startswith(f"{library}.") for name in names)
            if used and not any(str(path) == owner or owner in path.parts for owner in owners):
                wrong.append(f"{path} imports {library}")

    assert wrong == []


def test_what_can_be_served_without_botocore_is_served_before_it_is_imported() -> None:
    program = "import sys, broker.daemon.main; print('botocore' in sys.modules)"

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert shown.stdout == b"False\n"
