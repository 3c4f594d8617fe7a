"""Open AWS for setting up: with whose identity, in which account, partition and region. Reads and
changes nothing that is set up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker import aws
from broker.clock import Clock
from broker.config.errors import ConfigError
from broker.setup.aws_api import NO_REGION, AwsApi, Caller, Endpoints, aws_api, models
from broker.setup.wanted import Place
from broker.sources.aws.credential_chain import CredentialChain


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """Which AWS is meant, as far as it was said. ``region`` None: the profile's, else us-east-1;
    ``account`` None: whosever it is."""

    profile: str | None = None
    region: str | None = None
    account: str | None = None
    endpoints: Endpoints = field(default_factory=Endpoints)
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedAws:
    api: AwsApi
    chain: CredentialChain
    caller: Caller
    region: str

    def place(self, workspace: str) -> Place:
        return Place(
            account=self.caller.account,
            partition=self.caller.partition,
            region=self.region,
            workspace=workspace,
        )


@asynccontextmanager
async def opened_aws(said: Aws, *, clock: Clock) -> AsyncIterator[OpenedAws]:
    """AWS for the block.

    Raises:
        ConfigError: The identity is another account's.
        SourceError: There is no AWS identity, or AWS does not take it.
    """
    async with CredentialChain(
        clock=clock,
        profile=said.profile,
        ca_bundle=said.ca_bundle,
        models=models(),
    ) as chain:
        region = said.region or await chain.region() or NO_REGION
        async with aws_api(
            chain=chain,
            clock=clock,
            region=region,
            partition=aws.partition_of_region(region),
            endpoints=said.endpoints,
            ca_bundle=said.ca_bundle,
        ) as api:
            caller = await api.caller()
            _must_be(said.account, caller)
            yield OpenedAws(api=api, chain=chain, caller=caller, region=region)


def _must_be(account: str | None, caller: Caller) -> None:
    if account is not None and account != caller.account:
        raise ConfigError(
            "--account",
            f"is {account}, and this AWS identity is of {caller.account} ({caller.arn})",
            "name an identity of that account by --profile, or leave --account out",
        )
