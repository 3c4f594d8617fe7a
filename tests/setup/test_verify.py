"""Signing in as the workload to prove a trust: as whom, and what is waited for."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.credentials import NamespaceToken
from broker.lease import Lease, Refused, SourceError, Unavailable
from broker.setup.aws import CallerIdentity
from broker.setup.documents import Document
from broker.setup.resources.federation import ActualFederation
from broker.setup.resources.identity_pool import ActualPool
from broker.setup.resources.pool_trust import ActualPoolTrust
from broker.setup.sign_in import is_admitted, is_role, sign_in
from broker.setup.to_namespace import CognitoRequest, StsRequest
from broker.setup.verify import (
    RolePermissions,
    TrustList,
    requirements_by_cognito,
    requirements_by_sts,
)
from broker.sources.namespace.api import Tenant
from broker.sources.namespace.exchange import ExchangedToken
from tests.support.fakes import FakeClock
from tests.support.setup import PLACE

ROLE = "arn:aws:iam::123456789012:role/ci/builder"
ISSUER = "https://3d1b.tokens.sts.global.api.aws"


class Scripted:
    """An exchange that fails in these ways, one after the other, and then succeeds."""

    def __init__(self, *failures: SourceError, clock: FakeClock) -> None:
        self._failures = list(failures)
        self._clock = clock
        self.attempts = 0

    async def exchange(self) -> ExchangedToken:
        self.attempts += 1
        if self._failures:
            raise self._failures.pop(0)
        lease = Lease(
            value=NamespaceToken(bearer="nsct_x"), issued_at=self._clock.now(), expires_at=None
        )
        return ExchangedToken(lease=lease, tenant=Tenant(tenant_id="ws_1", name="Acme"))

    async def fetch(self) -> Lease[NamespaceToken]:
        return (await self.exchange()).lease

    def watched(self) -> tuple[Path, ...]:
        return ()


PASSING = [
    Refused("the role may not yet", word="access-denied"),
    Refused("the account issues none yet", word="federation-disabled"),
    Refused("the pool is not known yet", word="not-found"),
    Refused("the issuer is not trusted yet", word="bad-request"),
    Refused("the token was not taken", word="unauthenticated"),
    Unavailable("STS gave no proper answer"),
]


@pytest.mark.parametrize("failure", PASSING, ids=lambda one: one.word)
async def test_what_may_be_for_want_of_propagation_is_waited_for(failure: SourceError) -> None:
    clock, told = FakeClock(), list[float]()
    exchange = Scripted(failure, failure, clock=clock)

    task = asyncio.create_task(
        sign_in(exchange, clock=clock, on_wait=lambda pause_s, _: told.append(pause_s))
    )
    await clock.advance(seconds=15)

    assert (await task).tenant.name == "Acme"
    assert told == [5, 10]


async def test_that_there_is_no_aws_identity_is_not_waited_for() -> None:
    clock = FakeClock()
    exchange = Scripted(Refused("there is no AWS identity", word="no-identity"), clock=clock)

    with pytest.raises(Refused, match="no AWS identity"):
        await sign_in(exchange, clock=clock, on_wait=lambda *_: None)

    assert exchange.attempts == 1


async def test_trying_out_waits_for_nothing() -> None:
    clock = FakeClock()

    assert await is_admitted(Scripted(clock=clock))
    assert not await is_admitted(Scripted(Refused("no"), clock=clock))
    assert not await is_admitted(Scripted(Unavailable("nothing"), clock=clock))


@pytest.mark.parametrize(
    ("arn", "is_it"),
    [
        ("arn:aws:sts::123456789012:assumed-role/builder/i-0abc", True),
        ("arn:aws:sts::123456789012:assumed-role/builder2/i-0abc", False),
        ("arn:aws:sts::999999999999:assumed-role/builder/i-0abc", False),
        ("arn:aws:iam::123456789012:user/builder", False),
        ("arn:aws:iam::123456789012:root", False),
    ],
)
def test_a_session_of_the_role_is_known_though_its_arn_has_no_path(arn: str, is_it: bool) -> None:
    caller = CallerIdentity(account=arn.split(":")[4], partition="aws", arn=arn)

    assert is_role(caller, ROLE) is is_it


# Held against what stands.

GUIDES: Document = {
    "Statement": [{"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}]
}
TRUSTED = {"issuer": ISSUER, "subjectMatch": ROLE}


def judged(**said: Any) -> list[bool | None]:
    usual: dict[str, Any] = {
        "role_arn": ROLE,
        "federation": ActualFederation(issuer=ISSUER),
        "permissions": RolePermissions(inline={"guide": GUIDES}),
        "trusted": TrustList(entries=[TRUSTED]),
    }
    return [
        one.holds for one in requirements_by_sts(StsRequest(role_name="builder"), **(usual | said))
    ]


def test_everything_that_the_guide_makes_lets_the_role_in() -> None:
    assert judged() == [True, True, True]


def test_each_thing_that_is_wanting_is_found_by_itself() -> None:
    other = {"issuer": ISSUER, "subject_match": "arn:aws:iam::123456789012:role/other"}

    assert judged(federation=None)[0] is False
    assert judged(permissions=RolePermissions())[1] is False
    assert judged(trusted=TrustList(entries=[other]))[2] is False


def test_what_is_not_read_is_not_known() -> None:
    managed = RolePermissions(managed=("arn:aws:iam::aws:policy/AdministratorAccess",))

    assert judged(permissions=managed)[1] is None
    assert judged(trusted=TrustList(unreadable="there is no Namespace identity"))[2] is None
    assert judged(trusted=TrustList(unreadable="not for us", proven=True))[2] is True


def test_a_denial_counts_though_another_policy_may_allow() -> None:
    denial: Document = {"Statement": [{"Effect": "Deny", "Action": "sts:*", "Resource": "*"}]}
    permissions = RolePermissions(
        inline={"never": denial}, managed=("arn:aws:iam::aws:policy/AdministratorAccess",)
    )

    assert judged(permissions=permissions)[1] is False


def test_whether_a_pool_is_trusted_only_an_exchange_can_tell() -> None:
    pool = ActualPool(pool_id="eu-central-1:6f0a", name="namespace")
    statement = {
        "Effect": "Allow",
        "Action": "cognito-identity:GetOpenIdTokenForDeveloperIdentity",
        "Resource": PLACE.pool_arn(pool.pool_id),
    }
    permissions = RolePermissions(inline={"pool": {"Statement": [statement]}})

    def holds(found: ActualPool | None, trusted: ActualPoolTrust) -> list[bool | None]:
        things = requirements_by_cognito(
            CognitoRequest(role_name="builder"),
            PLACE,
            pool=found,
            permissions=permissions,
            trusted=trusted,
        )
        return [one.holds for one in things]

    assert holds(pool, ActualPoolTrust(proven=True)) == [True, True, True]
    assert holds(pool, ActualPoolTrust()) == [True, True, None]
    assert holds(None, ActualPoolTrust()) == [False, None]
