"""Fixtures of the conformance tests: one-hour leases on a fake clock and both credential surfaces.

The caller is the test itself.
"""

import os

import pytest

from broker.access.rules import OwnerOnly, Rules
from broker.credentials import AwsCredentials
from broker.keeper import Keeper
from broker.surfaces.container import Container
from broker.surfaces.imds import Imds
from tests.support.fakes import FakeClock, an_hour_of, holding, some_credentials
from tests.support.surfaces import a_container, an_imds

Keepers = dict[str, Keeper[AwsCredentials]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def keepers(clock: FakeClock) -> Keepers:
    """`deploy`, the default role, and `audit`."""
    return {
        name: await holding(f"role/{name}", an_hour_of(some_credentials(name), clock), clock)
        for name in ("deploy", "audit")
    }


@pytest.fixture
def rules() -> Rules:
    return OwnerOnly(owner_uid=os.getuid(), roles=("deploy", "audit"), default_role="deploy")


@pytest.fixture
def imds(keepers: Keepers, rules: Rules) -> Imds:
    return an_imds(keepers, rules=rules)


@pytest.fixture
def container(keepers: Keepers, rules: Rules) -> Container:
    return a_container(keepers, rules=rules)
