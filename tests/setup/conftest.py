"""An AWS account with nothing in it, and its administrator's calls."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from broker.clock import Clock, SystemClock
from broker.sandbox import Sandbox, sandbox_in_thread
from broker.setup.aws import AwsAccount, AwsEndpoints, AwsSettings, open_aws
from tests.support.setup import Open


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread(empty=True) as world:
        yield world


@pytest.fixture
def opened(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Open:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in sandbox.administrator_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    @asynccontextmanager
    async def opening(
        clock: Clock | None = None, *, account: str | None = None, region: str = "eu-central-1"
    ) -> AsyncIterator[AwsAccount]:
        url = sandbox.aws.url
        endpoints = AwsEndpoints(iam=url, sts=url, cognito=url)
        said = AwsSettings(region=region, account=account, endpoints=endpoints)
        async with open_aws(said, clock=clock or SystemClock()) as aws:
            yield aws

    return opening
