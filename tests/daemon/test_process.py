"""The broker's memory cannot be read, tried with real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.daemon.process import error_summary

ROOT = Path(__file__).parents[2]


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.private_process", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_another_process_of_the_same_user_neither_reads_nor_attaches() -> None:
    with started("keeps") as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        with started("looks", str(keeper.pid)) as looker:
            seen, _ = looker.communicate(timeout=30)

    assert seen.splitlines() == [
        "mem refused",
        "environ refused",
        "maps refused",
        "ptrace refused",
    ]


def test_a_process_that_dies_of_a_signal_leaves_no_core() -> None:
    with started("dies") as process:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert ended is not None
    assert ended.si_code == os.CLD_KILLED  # and not CLD_DUMPED


def test_an_error_that_nobody_caught_is_told_without_what_was_in_it() -> None:
    with started("fails") as process:
        _, told = process.communicate(timeout=30)

    assert process.returncode == 1
    assert told.startswith("namespace-broker: a bug: ValueError at private_process.py:")
    assert told.count("\n") == 1
    assert "secret" not in told


def caught(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as raised:
        return raised


def test_what_an_error_came_from_is_told_too() -> None:
    told = error_summary(caught(ValueError("secret"), cause=caught(KeyError("secret"))))

    assert "ValueError at test_process.py:" in told
    assert "; after KeyError at test_process.py:" in told
    assert "secret" not in told.replace("test_process", "")


def test_of_a_group_each_error_is_told() -> None:
    group = BaseExceptionGroup("secret", [caught(ValueError("secret")), KeyError("secret")])

    told = error_summary(caught(group))

    assert "(ValueError at test_process.py:" in told
    assert "(KeyError at an unknown place)" in told


def test_errors_that_came_from_each_other_are_without_repeats() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    told = error_summary(first)

    assert told.count("ValueError") == told.count("KeyError") == 1
