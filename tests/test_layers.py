"""Imports point one way, and a heavy library is imported only by the module that owns it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "broker"

# Who may import whom, by the first name below broker/ (a package is one layer). Everything may
# import itself and what is in COMMON.
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"daemon", "config", "setup", "sandbox", "telemetry", "places", "installing", "systemd"},
    "installing": {"config", "surfaces"},
    "pipelines": {
        *("access", "config", "sources", "keeper", "telemetry", "watch"),
        *("fingerprints", "upkeep", "systemd", "host"),
    },
    "fingerprints": {"config"},
    "upkeep": set(),
    "daemon": {
        *("reload", "running", "pipelines", "config", "access"),
        *("starting", "secrecy", "telemetry", "systemd", "threads"),
    },
    "threads": set(),
    "reload": {"differences", "running", "config", "starting", "telemetry"},
    "differences": {"generation", "config"},
    "running": {
        *("differences", "generation", "doors", "pipelines", "sockets", "gate", "ways_out"),
        *("config", "access", "surfaces", "telemetry", "keeper"),
        *("upkeep", "watch", "exposed", "clones", "supervised"),
    },
    "generation": {
        *("circles", "pipelines", "sockets", "gate", "ways_out"),
        *("config", "surfaces", "telemetry"),
    },
    "circles": {"fingerprints", "starting", "config", "sources", "surfaces"},
    "doors": {"starting", "access", "surfaces"},
    "clones": {"keeper", "surfaces"},
    "ways_out": {
        *("gate", "starting", "pipelines", "config", "access"),
        *("surfaces", "keeper", "telemetry", "host"),
    },
    "gate": {
        *("sockets", "starting", "pipelines", "config"),
        *("access", "audit", "surfaces", "telemetry"),
    },
    "sockets": {
        *("starting", "pipelines", "config", "systemd"),
        *("access", "surfaces", "telemetry", "places"),
    },
    "starting": {"surfaces"},
    "supervised": {"pipelines", "keeper", "kept_leases", "systemd"},
    "kept_leases": {"keeper"},
    "systemd": set(),
    "config": {"places", "access"},
    "telemetry": {"audit", "keeper", "surfaces"},
    "surfaces": {"access", "keeper"},
    "setup": {"sources", "trust", "config"},
    "sources": {"trust"},
    "access": set(),
    "keeper": set(),
    "watch": set(),
    "audit": {"access", "surfaces"},
    "secrecy": set(),
    "host": set(),
    "exposed": set(),
    "places": set(),
    "sandbox": {"trust"},
    "trust": set(),
}
COMMON = {"lease", "credentials", "clock", ""}

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


def layer_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py") if path.parts != ("__init__.py",) else ""


def layer_named(module: str) -> str:
    names = module.split(".")[1:2]
    return names[0] if names and not names[0].startswith("__version") else ""


def test_imports_between_layers_point_down() -> None:
    wrong = []
    for path, names in modules():
        layer = layer_of(path)
        allowed = set() if layer in COMMON else MAY_IMPORT[layer]
        if layer not in COMMON | {"sandbox", "trust"}:
            allowed = allowed | COMMON
        for name in names:
            if name.split(".")[0] == "broker" and layer_named(name) not in allowed | {layer}:
                wrong.append(f"{path} imports {name}")

    assert wrong == []


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
