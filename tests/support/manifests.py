"""What is written in Dockerfile, deploy/compose.yaml and deploy/kubernetes/, as values."""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes/base"
yaml: Any = import_module("yaml")  # it ships no types


def compose_services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def in_base(name: str) -> dict[str, Any]:
    """Return the one object of a file of the Kustomize base."""
    return dict(yaml.safe_load((BASE / name).read_text()))


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = in_base("deployment.yaml")["spec"]["template"]["spec"]
    return spec


def in_dockerfile(instruction: str) -> list[str]:
    """Return what stands after an instruction of the last stage, lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").rpartition("\nFROM ")[2]
    return re.findall(rf"^{instruction}\s+(.*)$", text, re.MULTILINE)


def healthcheck() -> list[str]:
    (line,) = in_dockerfile("HEALTHCHECK")
    command: list[str] = json.loads(line.partition("CMD ")[2])
    return command
