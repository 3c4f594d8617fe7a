"""Debian's Prometheus scrapes a running broker and loads its alerts; promtool tests them."""

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox import sandbox_in_thread
from tests.support.broker_process import BrokerProcess, broker_process, until
from tests.support.manifests import DEPLOY, yaml
from tests.support.monitoring import RULES, alerts, dashboard_queries

PROMETHEUS = DEPLOY / "prometheus"
LIMIT_S = 30


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ("promtool", *map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    broker: BrokerProcess
    url: str

    def ask(self, path: str, **query: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float | None:
        result = self.ask("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """A broker whose one role is refused, and a Prometheus that scrapes it each second."""
    folder = tmp_path_factory.mktemp("monitored")
    refused = ("--role-arn", "refused=arn:aws:iam::123456789012:role/nosuch")
    with (
        sandbox_in_thread() as sandbox,
        broker_process(sandbox, folder, *refused) as broker,
    ):
        broker.wait_for("daemon.ready")
        with prometheus(folder / "prometheus", target=broker.endpoints["ops"][0]) as url:
            monitored = Monitored(broker=broker, url=url)
            until(lambda: monitored.value('up{job="namespace-broker"}') == 1, what="a scrape")
            yield monitored


@contextmanager
def prometheus(folder: Path, *, target: str) -> Iterator[str]:
    """Run Prometheus by our own configuration, but for the target and how often it is scraped."""
    write_configuration(folder, target=target)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = (
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    )
    log = folder / "log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(lambda: is_ready(address, process), what=f"prometheus, see {log}")
            yield f"http://{address}"
        finally:
            process.terminate()


def write_configuration(folder: Path, *, target: str) -> None:
    folder.mkdir()
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    job["scrape_interval"] = "1s"
    job["static_configs"][0]["targets"] = [target.removeprefix("http://")]
    config["global"] = {"evaluation_interval": "1s"}
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    shutil.copy(RULES, folder / "alerts.yaml")


def is_ready(address: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "prometheus has ended"
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
            return True
    except OSError:
        return False


def test_the_alerts_pass_their_unit_tests() -> None:
    done = promtool("test", "rules", PROMETHEUS / "alerts_test.yaml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_sound() -> None:
    done = promtool("check", "config", PROMETHEUS / "prometheus.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


def test_the_exposition_is_what_prometheus_wants(monitored: Monitored) -> None:
    with urllib.request.urlopen(monitored.broker.endpoints["ops"][0] + "/metrics") as answer:
        text = answer.read().decode()

    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_loaded_and_evaluated_without_an_error(monitored: Monitored) -> None:
    def evaluated() -> list[dict[str, Any]]:
        (group,) = monitored.ask("rules")["groups"]
        rules: list[dict[str, Any]] = group["rules"]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = until(evaluated, what="an evaluation")

    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts()}
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def test_the_alert_about_a_refused_role_is_raised_for_it(monitored: Monitored) -> None:
    def raised() -> list[dict[str, Any]]:
        found = monitored.ask("alerts")["alerts"]
        return [each for each in found if each["labels"]["alertname"].endswith("LeaseRefused")]

    (alert,) = until(raised, what="the alert")

    assert alert["labels"]["lease"] == "role/refused"
    assert alert["state"] in {"pending", "firing"}


@pytest.mark.parametrize("query", list(dashboard_queries()))
def test_a_query_of_the_dashboard_is_one_that_prometheus_takes(
    monitored: Monitored, query: str
) -> None:
    assert monitored.ask("query", query=query)["resultType"] == "vector"
