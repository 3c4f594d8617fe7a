"""A fresh sandbox for each test and what reaches it; no setting of this machine gets in between."""

import os
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import settings

from broker.clock import SystemClock
from broker.sandbox import Sandbox
from broker.sources.aws import Sts
from broker.sources.namespace import NamespaceIam, open_session
from tests.fakes import FakeClock
from tests.sources.given import Pipeline

# How long one example takes says something about this machine only.
settings.register_profile("unhurried", deadline=None, database=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "NSC_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def pipeline(sandbox: Sandbox, http: aiohttp.ClientSession) -> AsyncIterator[Pipeline]:
    clock = SystemClock()
    async with Sts(clock=clock, endpoint=sandbox.aws.url) as sts:
        yield Pipeline(
            sandbox=sandbox,
            http=http,
            iam=NamespaceIam(http, sandbox.namespace.url),
            sts=sts,
            clock=clock,
        )
