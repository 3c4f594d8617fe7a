"""A fresh sandbox for each test and what reaches it; no setting of this machine gets in between."""

import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from broker.clock import SystemClock
from broker.lease import Lease
from broker.sandbox import Sandbox
from broker.sources.aws.assume_role import StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from tests.support.fakes import FakeClock, ScriptedSource
from tests.support.sources import (
    REGION,
    Pipeline,
    Presenting,
    Workload,
    key_variables,
    some_aws_token,
)

# How long one example takes says something about this machine only.
settings.register_profile("unhurried", deadline=None, database=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "NSC_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient() as session:
        yield session


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def pipeline(sandbox: Sandbox, http: HttpClient) -> Pipeline:
    clock = SystemClock()
    return Pipeline(
        sandbox=sandbox,
        http=http,
        iam=NamespaceIam(http, sandbox.namespace.url),
        sts=StsClient(http, clock=clock, endpoint=sandbox.aws.url),
        clock=clock,
    )


@pytest.fixture
async def workload(
    sandbox: Sandbox, http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Workload]:
    arn = sandbox.guide_by_sts()
    _, pool_id = sandbox.guide_by_cognito(region=REGION)
    for name, value in key_variables(sandbox.aws.role_session(arn)).items():
        monkeypatch.setenv(name, value)
    clock = SystemClock()
    async with CredentialChain(clock=clock) as chain:
        yield Workload(
            sandbox=sandbox,
            iam=NamespaceIam(http, sandbox.namespace.url),
            clock=clock,
            chain=chain,
            arn=arn,
            pool_id=pool_id,
        )


@pytest.fixture
def presenting(sandbox: Sandbox, http: HttpClient) -> Presenting:
    clock = SystemClock()
    token = Lease(value=some_aws_token(), issued_at=clock.now(), expires_at=None)
    return Presenting(
        sandbox=sandbox,
        iam=NamespaceIam(http, sandbox.namespace.url),
        clock=clock,
        tokens=ScriptedSource(token),
    )
