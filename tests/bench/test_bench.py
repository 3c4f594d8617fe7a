"""The benchmark as a program, with tiny counts: every row is there and every request answered."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.report import Column, Table, percentile, text_of

ROOT = Path(__file__).parent.parent.parent

BARE = ["bare aiohttp", "bare asyncio"]
REQUESTS = [
    "IMDS session token (PUT)",
    "IMDS role list",
    "IMDS credentials",
    "container credentials",
    *BARE,
]
EVERY_ROW = {
    "From process start": ["broker, first credential", *BARE],
    "50 cold clients at once, at a server that just opened": [
        "broker, IMDS (3 requests)",
        "broker, container",
        *BARE,
    ],
    "Kept connections": REQUESTS,
    "A fresh connection each": REQUESTS,
    "At rest": ["broker", *BARE],
    "Commands that run at every SDK start": [
        "python -c pass",
        "credential-process",
        "env",
        "wait",
    ],
    "Other callers, while somebody misbehaves": [
        "nobody misbehaves",
        "150 connections opened",
        "20 slow senders",
        "20 half-sent bodies",
        "connect and reset, again and again",
        "flood of PUTs on 8 connections",
        "flood of PUTs by one with a grant on 8",
        "flood of refused requests on 8",
        "53 pipelined /metrics on 8",
        "flood of the control socket on 8",
        "5 uids, a connection for each request",
    ],
    "Asking the kernel who is calling": ["SOCK_DIAG, a connection"],
    "What the audit line costs": [
        "container credentials, no audit",
        "container credentials, audit to a file",
    ],
}


@pytest.fixture(scope="module")
def quick_run() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def rows_of(document: dict[str, Any], title: str) -> list[dict[str, Any]]:
    [rows] = [table["rows"] for table in document["tables"] if table["title"] == title]
    return list(rows)


def test_a_run_has_every_row_of_every_table(quick_run: dict[str, Any]) -> None:
    found = {
        table["title"]: [row["name"] for row in table["rows"]] for table in quick_run["tables"]
    }

    assert found == EVERY_ROW


def test_no_request_and_no_command_fails(quick_run: dict[str, Any]) -> None:
    failed = {
        row["name"]: row["failed"]
        for table in quick_run["tables"]
        for row in table["rows"]
        if row.get("failed", 0)
    }

    assert failed == {}
    assert quick_run["failed"] == 0


def test_a_crowd_of_cold_clients_costs_one_exchange(quick_run: dict[str, Any]) -> None:
    title = next(title for title in EVERY_ROW if "cold clients" in title)

    ours = rows_of(quick_run, title)[:2]

    assert [(row["sts_calls"], row["id_token_calls"]) for row in ours] == [(1, 1), (1, 1)]


def test_every_connection_of_one_who_misbehaves_is_served_queued_or_rejected(
    quick_run: dict[str, Any],
) -> None:
    rows = rows_of(quick_run, "Other callers, while somebody misbehaves")[1:4]

    found = [row["served"] + row["queued"] + row["rejected"] for row in rows]

    assert found == [150, 20, 20]


def test_one_who_floods_is_another_user_than_the_visitor_where_the_benchmark_may_become_both(
    quick_run: dict[str, Any],
) -> None:
    rows = rows_of(quick_run, "Other callers, while somebody misbehaves")[1:]

    found = {(row["visitor_uid"], row["uid"]) for row in rows}

    assert found in (
        {(59001, 59002), (59001, 59003), (59001, 0)},
        {(os.geteuid(), os.geteuid())},
    )


def test_each_request_that_was_served_has_its_line_in_the_audit(quick_run: dict[str, Any]) -> None:
    silent, writing = rows_of(quick_run, "What the audit line costs")

    assert "lines_percent" not in silent
    assert writing["lines_percent"] == 100


def test_the_machine_is_described_by_kind_and_not_by_name(quick_run: dict[str, Any]) -> None:
    assert set(quick_run["machine"]) == {"cores", "python", "aiohttp", "kernel", "architecture"}


def test_a_table_aligns_numbers_to_the_right_and_shows_a_dash_for_what_is_not_there() -> None:
    table = Table(
        title="Speed",
        columns=(Column("rate", "per s"), Column("ratio", "x", 2)),
        rows=[{"name": "ours", "rate": 12345.6, "ratio": 0.5}, {"name": "theirs", "rate": 7}],
    )

    shown = text_of(table)

    assert shown.splitlines() == [
        "Speed",
        "=====",
        "         per s     x",
        "ours    12,346  0.50",
        "theirs       7     -",
    ]


@pytest.mark.parametrize(
    ("part", "value"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_percentile_is_a_value_that_was_measured(part: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], part) == value
