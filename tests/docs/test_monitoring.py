"""Alerts and dashboard use metrics that the broker has, and each alert has its section."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import sandbox_in_thread
from tests.support.broker_process import broker_process
from tests.support.manifests import DEPLOY, yaml
from tests.support.monitoring import alerts, dashboard_queries, panels, served, used

OPERATIONS = (Path(__file__).parents[2] / "docs/operations.md").read_text()


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The names of the metrics of a broker that runs."""
    folder = tmp_path_factory.mktemp("broker")
    with sandbox_in_thread() as sandbox, broker_process(sandbox, folder) as broker:
        broker.wait_for("daemon.ready")
        with urllib.request.urlopen(broker.endpoints["ops"][0] + "/metrics") as answer:
            yield served(answer.read().decode())


def test_every_metric_of_an_alert_is_one_that_the_broker_has(metrics: set[str]) -> None:
    wanted = set().union(*(used(alert["expr"]) for alert in alerts()))

    assert wanted
    assert wanted - metrics == set()


def test_every_metric_of_the_dashboard_is_one_that_the_broker_has(metrics: set[str]) -> None:
    wanted = {query: used(query) for query in dashboard_queries()}

    assert all(wanted.values())
    assert set().union(*wanted.values()) - metrics == set()


def test_a_metric_that_the_broker_lacks_would_be_noticed(metrics: set[str]) -> None:
    assert used("rate(namespace_broker_nosuch_total[5m])") - metrics


def test_every_metric_of_the_page_is_one_that_the_broker_has(metrics: set[str]) -> None:
    section = OPERATIONS.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    named = re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", section)

    assert len(named) > 10
    missing = [
        name
        for name in named
        if name != "namespace_broker_"
        and not {f"namespace_broker_{name}", f"namespace_broker_{name}_bucket"} & metrics
    ]
    assert missing == []


def test_every_metric_of_the_broker_is_on_the_page(metrics: set[str]) -> None:
    section = OPERATIONS.partition("\n## Metrics\n")[2]
    own = {name.removeprefix("namespace_broker_") for name in metrics if name[:10] == "namespace_"}
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in own}

    assert [name for name in sorted(families) if f"`{name}" not in section] == []


@pytest.mark.parametrize("alert", [alert["alert"] for alert in alerts()])
def test_an_alert_links_to_its_own_section(alert: str) -> None:
    (rule,) = (each for each in alerts() if each["alert"] == alert)

    section = OPERATIONS.partition(f"\n### {alert}\n")[2].partition("\n### ")[0]

    assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert len(section.split()) > 20


def test_every_alert_is_tested_and_tested_to_stay_quiet() -> None:
    document = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yaml").read_text())

    checks = [check for test in document["tests"] for check in test["alert_rule_test"]]

    names = {alert["alert"] for alert in alerts()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


def test_every_panel_says_what_it_shows() -> None:
    assert [panel["title"] for panel in panels() if not panel["description"]] == []
