"""Alert rules and dashboard in deploy/, and which metrics they use."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.manifests import DEPLOY, yaml

RULES = DEPLOY / "prometheus/alerts.yaml"
DASHBOARD = DEPLOY / "grafana/dashboard.json"
# Prometheus makes this one itself, for each target.
OF_PROMETHEUS = {"up"}
METRIC = re.compile(r"\b((?:namespace_broker|process|python)_\w+|up)\b(?=\{| |\[|\)|$|,|\n)")


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def dashboard_queries() -> Iterator[str]:
    """Yield every query of the dashboard, variables filled in."""
    for panel in panels():
        for target in panel["targets"]:
            query: str = target["expr"]
            for variable, value in (
                ("$__rate_interval", "5m"),
                ("$job", "namespace-broker"),
                ("$instance", ".*"),
            ):
                query = query.replace(variable, value)
            yield query


def used(query: str) -> set[str]:
    return set(METRIC.findall(query)) - OF_PROMETHEUS


def served(exposition: str) -> set[str]:
    """Return the names that a scrape has, those of families without a sample yet included."""
    names = {
        line.split("{")[0].split(" ")[0] for line in exposition.splitlines() if line[:1] != "#"
    }
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE):
        names |= {f"{name}_bucket", f"{name}_count"} if kind == "histogram" else {name}
    return names
