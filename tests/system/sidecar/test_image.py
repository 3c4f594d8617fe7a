"""The image that the Dockerfile builds: small, without root or a shell, and a good process 1."""

import signal
import time

import pytest

from tests.support.broker_process import until
from tests.system.sidecar.engine import IMAGE, Engine

LARGEST_MB = 120
SHELLS = ("sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "pip", "pip3", "perl")
ROLE = ("run", "--role-arn=arn:aws:iam::123456789012:role/deploy", "--region=eu-central-1")
ALONE = ("--detach", "--network=none")

UNCOMPILED = """
import os, sys, broker.daemon.main, broker.cli.commands.run, broker.sources.aws.assume_role
# What it loads after its start.
import aiobotocore.session, aiohttp, broker.telemetry.exposition
modules = [module for module in sys.modules.values() if getattr(module, "__cached__", None)]
print(len(modules), [m.__name__ for m in modules if not os.path.exists(m.__cached__)])
"""


def test_it_is_small(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    size_mb = engine.inspect(IMAGE)["Size"] / 1e6

    with capfd.disabled():  # for the record
        print(f"\nimage: {size_mb:.0f} MB (of at most {LARGEST_MB})")
    assert size_mb < LARGEST_MB


def test_it_runs_as_nobody_of_note_by_number_and_without_a_shell(engine: Engine) -> None:
    config = engine.inspect(IMAGE)["Config"]
    files = engine.files_of(IMAGE)

    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["tini", "--", "namespace-broker"]
    assert config["Healthcheck"]["Test"] == ["CMD", "namespace-broker", "wait", "--timeout", "0"]
    assert [name for name in files if name.rpartition("/")[2] in SHELLS] == []
    assert "opt/namespace-broker/bin/namespace-broker" in files


def test_it_says_what_it_is(engine: Engine) -> None:
    labels = engine.inspect(IMAGE)["Config"]["Labels"]
    version = engine.done("run", "--rm", "--network=none", IMAGE, "--version")

    assert version == f"namespace-broker {labels['org.opencontainers.image.version']}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_all_that_it_loads_is_compiled(engine: Engine) -> None:
    alone = ("run", "--rm", "--network=none", "--read-only", "--entrypoint=python", IMAGE)
    loaded, uncompiled = engine.done(*alone, "-c", UNCOMPILED).split(" ", 1)

    assert int(loaded) > 300
    assert uncompiled == "[]"


def test_it_is_not_healthy_before_it_is_ready(engine: Engine) -> None:
    """Without an identity it runs, and says why it has nothing."""
    broker = engine.done("run", *ALONE, "--health-interval=500ms", IMAGE, *ROLE)
    health = until(lambda: engine.inspect(broker)["State"]["Health"]["Log"], what="a health check")
    engine.done("rm", "--force", broker)

    assert {check["ExitCode"] for check in health} == {1}
    assert "the broker is not" in health[-1]["Output"] or "no broker" in health[-1]["Output"]


@pytest.mark.parametrize("ready", [False, True])
def test_as_process_1_it_ends_when_it_is_told_to(engine: Engine, ready: bool) -> None:
    """Also in the moment after its start, when Python knows of no signal yet."""
    broker = engine.done("run", *ALONE, IMAGE, *ROLE)
    if ready:
        until(lambda: "daemon.ready" in engine.docker("logs", broker).stderr, what="ready")

    began_at_s = time.monotonic()
    engine.done("stop", "--time=10", broker)
    took_s = time.monotonic() - began_at_s
    code = engine.inspect(broker)["State"]["ExitCode"]
    engine.done("rm", broker)

    assert code in ((0,) if ready else (0, 128 + signal.SIGTERM))
    assert took_s < 5


def test_wrong_use_is_one_line_and_exit_code_2(engine: Engine) -> None:
    ran = engine.docker("run", "--rm", "--network=none", IMAGE)

    assert ran.returncode == 2
    assert ran.stderr.startswith("namespace-broker: --role-arn: ")
    assert len(ran.stderr.splitlines()) == 1
