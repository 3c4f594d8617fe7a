"""Each thing that docs/operations.md lists is broken here, and its words are found as it says."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import BrokerProcess, broker_process, get, until

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
SECTION = PAGE.partition("\n## What breaks, and what you see\n")[2].partition("\n## ")[0]
LONG_AGO_S = -180


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the page promises for one thing; each word is in backticks there."""

    status: list[str]
    events: list[str]
    metrics: list[str]


def rows() -> dict[str, Row]:
    lines = [
        line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")
    ]
    cells = {line[0]: [re.findall(r"`([^`]+)`", cell) for cell in line[1:]] for line in lines[1:]}
    return {
        name: Row(status=words[0], events=words[1], metrics=words[2] if len(words) > 2 else [])
        for name, words in cells.items()
    }


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


Scenario = Callable[[Sandbox, Path], AbstractContextManager[BrokerProcess]]


@contextmanager
def sts_does_not_answer(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    sandbox.fail("AssumeRoleWithWebIdentity", status=503)
    with broker_process(sandbox, folder) as broker:
        yield broker


@contextmanager
def namespace_does_not_answer(
    sandbox: Sandbox, folder: Path, *, lifetime_s: float = 20
) -> Iterator[BrokerProcess]:
    sandbox.namespace.metadata_token_lifetime_s = lifetime_s
    environ = {"NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}
    with broker_process(sandbox, folder, environ=environ) as broker:
        broker.wait_for("daemon.ready")
        sandbox.fail("workload_token", reset=True)
        yield broker


@contextmanager
def identity_ended(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    with namespace_does_not_answer(sandbox, folder, lifetime_s=4) as broker:
        yield broker


@contextmanager
def role_does_not_trust(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    sandbox.fail("AssumeRoleWithWebIdentity", code="AccessDenied")
    with broker_process(sandbox, folder) as broker:
        yield broker


@contextmanager
def token_file_becomes(
    sandbox: Sandbox, folder: Path, change: Callable[[Path], object]
) -> Iterator[BrokerProcess]:
    with broker_process(sandbox, folder) as broker:
        broker.wait_for("daemon.ready")
        change(folder / "token.json")
        yield broker


@contextmanager
def token_file_is_gone(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    with token_file_becomes(sandbox, folder, Path.unlink) as broker:
        yield broker


@contextmanager
def token_file_is_half_written(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    with token_file_becomes(sandbox, folder, lambda file: file.write_text('{"bearer_t')) as broker:
        yield broker


@contextmanager
def token_in_the_file_has_ended(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    ended = sandbox.namespace.workload_token(lifetime_s=LONG_AGO_S)

    def write(file: Path) -> None:
        sandbox.namespace.write_token_file(file, bearer_token=ended)

    with token_file_becomes(sandbox, folder, write) as broker:
        yield broker


@contextmanager
def with_file(sandbox: Sandbox, folder: Path, more: str = "") -> Iterator[BrokerProcess]:
    """Run a broker whose configuration is a file."""
    anywhere = 'listen = ["127.0.0.1:0"]\n'
    config = folder / "config.toml"
    config.write_text(
        f'region = "eu-central-1"\n[roles.deploy]\narn = "{sandbox.role_arn}"\n'
        f"[container]\n{anywhere}[ops]\n{anywhere}{more}"
    )
    with broker_process(
        sandbox,
        folder,
        *("--config", str(config), "--runtime-dir", str(folder / "run"), "--log-format", "json"),
        defaults=False,
    ) as broker:
        broker.wait_for("daemon.ready")
        yield broker


@contextmanager
def audit_cannot_be_written(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    """Let no file of that process grow beyond what the audit has already."""
    audit = folder / "audit.jsonl"
    audit.write_text("{}\n" * 100_000)
    audit.chmod(0o600)
    with with_file(sandbox, folder, f'[audit]\nto = "{audit}"\n') as broker:
        most = audit.stat().st_size
        resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (most, most))
        get(broker.endpoints["container"][0] + "/v1/credentials", authorization="wrong")
        yield broker


@contextmanager
def reload_was_refused(sandbox: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    with with_file(sandbox, folder) as broker:
        with (folder / "config.toml").open("a") as config:
            config.write("nonsense = 1\n")
        broker.process.send_signal(signal.SIGHUP)
        yield broker


@contextmanager
def clock_is_wrong(_: Sandbox, folder: Path) -> Iterator[BrokerProcess]:
    ahead = timedelta(minutes=10)
    with (
        sandbox_in_thread(now=lambda: datetime.now(UTC) + ahead) as clouds,
        broker_process(clouds, folder) as broker,
    ):
        yield broker


SCENARIOS: dict[str, Scenario] = {
    "STS does not answer": sts_does_not_answer,
    "Namespace does not answer": namespace_does_not_answer,
    "the identity ended during an outage": identity_ended,
    "the role does not trust this machine": role_does_not_trust,
    "the token file is gone": token_file_is_gone,
    "the token file is half-written": token_file_is_half_written,
    "the token in the file has ended": token_in_the_file_has_ended,
    "the audit cannot be written": audit_cannot_be_written,
    "a reload was refused": reload_was_refused,
    "this host's clock is wrong": clock_is_wrong,
}


def test_everything_that_the_page_lists_is_broken_here() -> None:
    assert set(rows()) == set(SCENARIOS)


@pytest.mark.parametrize("broken", SCENARIOS)
def test_what_is_broken_is_seen_as_the_page_says(
    sandbox: Sandbox, tmp_path: Path, broken: str
) -> None:
    row = rows()[broken]

    with SCENARIOS[broken](sandbox, tmp_path) as broker:
        for event in row.events:
            broker.wait_for(event)
        for metric in row.metrics:
            until(partial(value_of, broker, metric), what=metric)
        status = " ".join(status_of(broker).split())  # it wraps its lines

    assert [word for word in row.status if word not in status] == [], status


def value_of(broker: BrokerProcess, metric: str) -> float:
    _, text = get(broker.endpoints["ops"][0] + "/metrics")
    for line in text.decode().splitlines():
        if line.startswith(f"namespace_broker_{metric} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def status_of(broker: BrokerProcess) -> str:
    command = [sys.executable, "-m", "broker", "status", "--runtime-dir", str(broker.runtime_dir)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_port_that_is_taken_ends_the_start_and_who_has_it_is_named(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with broker_process(sandbox, tmp_path, "--container", address) as broker:
            code = broker.process.wait(30)

    (line,) = (tmp_path / "log-0").read_text().splitlines()
    assert code == 1
    assert address in line
    # The program's name is not to be had where it keeps its memory private, as this one may by now.
    assert "python" in line or f"uid {os.geteuid()};" in line


def test_the_page_names_the_events_of_the_code_and_no_others() -> None:
    section = PAGE.partition("\n## Log events\n")[2].partition("\n## ")[0]
    code = "".join(
        path.read_text() for path in (Path(__file__).parents[2] / "broker").rglob("*.py")
    )
    logged = set(re.findall(r'\blog\.(?:info|warning|error)\(\s*"([a-z_.]+)"', code))

    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", section)) | set(
        re.findall(r"`(bug|warning)`", section)
    )

    assert len(logged) > 12
    assert logged - named == set()
    assert [name for name in sorted(named) if json.dumps(name) not in code] == []
