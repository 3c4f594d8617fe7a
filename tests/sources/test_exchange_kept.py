"""An exchange with its keeper, in the test's time: renewals, outages, withdrawn trust.

And the whole circle, into another account.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from broker.credentials import NamespaceToken
from broker.keeper import Keeper
from broker.lease import NotReady
from broker.sandbox import Sandbox
from broker.sources.aws.assume_role import AssumedRole, StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.id_token import IdTokenFor
from tests.support.fakes import FakeClock, running
from tests.support.sources import REGION, Workload, key_variables, some_role

BOTH = pytest.mark.parametrize("source", ["sts", "cognito"])
OPERATIONS = {"sts": "GetWebIdentityToken", "cognito": "GetOpenIdTokenForDeveloperIdentity"}
METHODS = {"sts": "ExchangeOIDCToken", "cognito": "ExchangeAWSCognitoJWT"}


@pytest.fixture
def clock() -> FakeClock:
    # botocore signs, and renews, by the real time.
    return FakeClock(datetime.now(UTC))


@pytest.fixture
async def kept(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workload]:
    async with (
        HttpClient(clock=clock) as http,
        Sandbox(now=clock.now, signing_clock=lambda: datetime.now(UTC)) as sandbox,
        CredentialChain(clock=clock) as chain,
    ):
        arn = sandbox.guide_by_sts()
        _, pool_id = sandbox.guide_by_cognito(region=REGION)
        keys = sandbox.aws.role_session(arn, lifetime_s=30 * 86400)
        for name, value in key_variables(keys).items():
            monkeypatch.setenv(name, value)
        yield Workload(
            sandbox=sandbox,
            iam=NamespaceIam(http, sandbox.namespace.url),
            clock=clock,
            chain=chain,
            arn=arn,
            pool_id=pool_id,
        )


async def until(holds: Callable[[], bool]) -> None:
    """Wait, in real time, for calls under way."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


def keeper_of(kept: Workload, source: str) -> Keeper[NamespaceToken]:
    return Keeper("identity/default", kept.exchange(source), clock=kept.clock, jitter=lambda: 0.0)


@BOTH
async def test_a_token_is_renewed_at_half_its_life(
    kept: Workload, clock: FakeClock, source: str
) -> None:
    async with running(keeper_of(kept, source)) as keeper:
        await until(lambda: keeper.state() == "live")
        first = keeper.current().value.bearer

        await clock.advance(minutes=29)
        assert keeper.current().value.bearer == first

        await clock.advance(minutes=1, seconds=1)
        await until(lambda: keeper.current().value.bearer != first)

    assert len(kept.sandbox.namespace.calls_of(METHODS[source])) == 2


@BOTH
@pytest.mark.parametrize("cloud", [OPERATIONS, METHODS], ids=["aws", "namespace"])
async def test_an_outage_is_survived_on_the_old_token_until_that_ends(
    kept: Workload, clock: FakeClock, source: str, cloud: dict[str, str]
) -> None:
    async with running(keeper_of(kept, source)) as keeper:
        await until(lambda: keeper.state() == "live")
        first = keeper.current().value.bearer
        kept.sandbox.fail(cloud[source], status=503)

        await clock.advance(minutes=30, seconds=1)
        await until(lambda: keeper.state() == "unavailable")
        assert keeper.current().value.bearer == first

        clock.jump(minutes=30)
        with pytest.raises(NotReady):
            keeper.current()

        kept.sandbox.heal()
        keeper.renew_now()
        await clock.advance(seconds=2)
        await until(lambda: keeper.state() == "live")
        assert keeper.current().value.bearer != first


async def test_trust_that_is_withdrawn_is_refused_and_found_again(
    kept: Workload, clock: FakeClock
) -> None:
    async with running(keeper_of(kept, "sts")) as keeper:
        await until(lambda: keeper.state() == "live")
        (relationship,) = kept.sandbox.namespace.trust_relationships()
        kept.sandbox.namespace.distrust(str(relationship["id"]))

        await clock.advance(minutes=30, seconds=1)
        await until(lambda: keeper.state() == "refused")
        assert keeper.current().is_live(now=clock.now())
        assert "nsc auth trust-relationships add" in str(keeper.status().reason)

        kept.sandbox.namespace.trust(issuer=str(relationship["issuer"]), subject_match=kept.arn)
        await clock.advance(seconds=31)
        await until(lambda: keeper.state() == "live")


async def test_the_whole_circle_ends_in_another_account(kept: Workload, clock: FakeClock) -> None:
    aws = kept.sandbox.aws
    elsewhere = "210987654321"
    aws.add_provider(
        kept.sandbox.namespace.issuer,
        client_ids=("sts.amazonaws.com",),
        resolve_at=kept.sandbox.namespace.url,
        account=elsewhere,
    )
    host = kept.sandbox.namespace.issuer.removeprefix("https://")
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": f"arn:aws:iam::{elsewhere}:oidc-provider/{host}"},
        "Condition": {"StringLike": {f"{host}:sub": "ws_1/*", f"{host}:aud": "sts.amazonaws.com"}},
    }
    arn = aws.add_role("other", trust_policy={"Statement": [statement]}, account=elsewhere)
    async with running(keeper_of(kept, "sts")) as keeper, HttpClient(clock=clock) as http:
        sts = StsClient(http, clock=clock, endpoint=aws.url)
        token = IdTokenFor("sts.amazonaws.com", bearer=keeper, iam=kept.iam, clock=clock)

        lease = await AssumedRole(some_role(arn), token=token, sts=sts, warn=print).fetch()

    assert lease.value.account_id == elsewhere
    assert aws.issued[-1].arn == f"arn:aws:sts::{elsewhere}:assumed-role/other/nsc.tenant=ws_1"
