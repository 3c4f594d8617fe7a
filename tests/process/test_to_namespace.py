"""From an AWS identity to a Namespace token that others pick up, as a process: it is handed on, is
renewed, outlives an outage, goes when it must, and leads nowhere back."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.namespace_readers.claims import NotLoggedIn, claims_of
from tests.namespace_readers.cli import decoded_spec
from tests.process.broker_process import LIMIT_S, until
from tests.process.workload import Workload, handed_on, workload_by, workspace_of

SHORT_S = 6.0
"""A life of which the renewal, and the end, come while a test waits."""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@pytest.fixture
def workload(sandbox: Sandbox, tmp_path: Path) -> Workload:
    return workload_by(sandbox, tmp_path, source="sts")


# Handed on.


@pytest.mark.parametrize("source", ["sts", "cognito"])
def test_when_it_is_ready_every_reader_finds_the_token(
    sandbox: Sandbox, tmp_path: Path, source: str
) -> None:
    workload = workload_by(sandbox, tmp_path, source=source)

    with workload.broker() as broker:
        broker.wait_for("daemon.ready")
        by_file, by_sdk = workload.by_file(), workload.by_sdk()
        read = {by_file.bearer(), by_sdk, workload.by_spec().bearer()}

    (bearer,) = read
    assert by_file.warnings == []
    assert by_file.tenant_id() == "ws_1" if by_file.environ == {} else True
    assert workspace_of(sandbox, bearer) == "Acme"
