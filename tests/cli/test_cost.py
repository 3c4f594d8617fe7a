"""The CPU time of commands that run at every SDK start, beside an empty Python."""

import json
import os
import subprocess
import sys
import time
from statistics import median

import pytest

from tests.support.fake_broker import PATIENCE_S, Cli, FakeBroker

QUICK = {
    "credential-process": ["credential-process"],
    "env": ["env"],
    "env for imds": ["env", "--surface", "imds"],
    "wait": ["wait", "--timeout", "0"],
}
ROUNDS = 21
MOST = 5.0

DEAR = {
    "asyncio",
    "argparse",
    "dataclasses",
    "datetime",
    "inspect",
    "msgspec",
    "pathlib",
    "subprocess",
    "tempfile",
    "typing",
    "urllib",
    "aiohttp",
    "botocore",
    "broker.config",
    "broker.daemon.main",
    "broker.credentials",
    "broker.lease",
}


def took_s(command: list[str], environ: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=PATIENCE_S)
    return time.perf_counter() - begun


def test_a_quick_command_costs_at_most_five_times_python_doing_nothing(
    cli: Cli, fake: FakeBroker
) -> None:
    commands = {name: cli.command(*arguments) for name, arguments in QUICK.items()}
    commands["nothing"] = [sys.executable, "-c", "pass"]
    took: dict[str, list[float]] = {name: [] for name in commands}

    for _ in range(ROUNDS):
        for name, command in commands.items():
            took[name].append(took_s(command, cli.environ))

    nothing_s = median(took.pop("nothing"))
    ratios = {name: median(times) / nothing_s for name, times in took.items()}
    assert max(ratios.values()) <= MOST, ratios


@pytest.mark.parametrize("arguments", [*QUICK.values(), ["exec", "--", "true"]])
def test_a_quick_command_imports_next_to_nothing(
    cli: Cli, fake: FakeBroker, arguments: list[str]
) -> None:
    # exec replaces the process, so what it had imported is looked at as it leaves.
    program = (
        "import sys, os, json\n"
        "from broker.cli.main import main\n"
        "def look(*_):\n"
        "    print(json.dumps(list(sys.modules)), file=sys.stderr, flush=True)\n"
        "    os._exit(0)\n"
        "sys.addaudithook(lambda event, _: look() if event == 'os.exec' else None)\n"
        f"main({arguments!r})\n"
        "look()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=cli.environ | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )

    imported = set(json.loads(done.stderr))
    before = set(
        json.loads(
            subprocess.run(
                [sys.executable, "-c", "import sys, json; print(json.dumps(list(sys.modules)))"],
                env=dict(os.environ),
                capture_output=True,
                check=True,
                timeout=PATIENCE_S,
            ).stdout
        )
    )
    assert (imported - before) & DEAR == set()
