"""A workspace's trust, read and changed at Namespace over real HTTP."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from broker.clock import SystemClock
from broker.credentials import NamespaceToken
from broker.lease import Lease, Refused, Unavailable
from broker.sandbox import Sandbox
from broker.setup.aws import AwsApi
from broker.setup.namespace import Entry, NamespaceTrust
from broker.setup.resource import CloudAccess, Resource
from broker.setup.resources import PoolTrust, TrustRelationship
from broker.setup.resources.pool_trust import ActualPoolTrust
from broker.setup.resources.trust_relationship import ActualRelationship
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam

ISSUER = "https://3d1b.tokens.sts.global.api.aws"
ROLE = "arn:aws:iam::123456789012:role/builder"
WANTED = TrustRelationship(workspace="ws_1", issuer=ISSUER, subject_match=ROLE)
POOL = PoolTrust(workspace="ws_1", region="eu-central-1", guid="6f0a0000-0000")
POOL_ID = "eu-central-1:6f0a0000-0000"


class Holding:
    """A Namespace identity: the tokens it has, one after the other, the last for ever."""

    def __init__(self, *tokens: str, workspace: str | None = "ws_1") -> None:
        self._tokens = list(tokens)
        self._workspace = workspace

    async def fetch(self) -> Lease[NamespaceToken]:
        if not self._tokens:
            raise Refused("there is no Namespace identity; run `nsc login`", word="no-identity")
        token = self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]
        value = NamespaceToken(bearer=token, tenant_id=self._workspace)
        return Lease(value=value, issued_at=SystemClock().now(), expires_at=None)


class Hasty(SystemClock):
    """Time as it is, in which nobody waits: a pause is over at once, and told."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


class Ending(SystemClock):
    """Time in which a minute passes with each pause."""

    def __init__(self) -> None:
        self._slept = timedelta()

    def now(self) -> datetime:
        return super().now() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += timedelta(minutes=1)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(empty=True) as world:
        yield world


@pytest.fixture
async def iam(sandbox: Sandbox) -> AsyncIterator[NamespaceIam]:
    async with HttpClient() as http:
        yield NamespaceIam(http, sandbox.namespace.url)


@pytest.fixture
def trust(sandbox: Sandbox, iam: NamespaceIam) -> NamespaceTrust:
    return trust_of(iam, Holding(sandbox.namespace.tenant_token()))


def trust_of(iam: NamespaceIam, identity: Holding) -> NamespaceTrust:
    return NamespaceTrust(iam, identity=identity, workspace="ws_1", clock=Hasty())


def adding(wanted: TrustRelationship = WANTED) -> Callable[[Sequence[Entry]], tuple[Entry, ...]]:
    return lambda entries: wanted.added_to(entries)


def subjects(sandbox: Sandbox) -> list[object]:
    return [one["subject_match"] for one in sandbox.namespace.trust_relationships()]


# The list.


async def test_the_list_is_replaced_whole_under_the_generation_that_was_read(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    sandbox.namespace.trust(issuer="https://other.example", subject_match="x", odd={"a": [1, None]})
    before = sandbox.namespace.trust_relationships()

    await trust.change(adding())

    (update,) = sandbox.namespace.calls_of("UpdateTrustRelationships")
    assert update.params["generation"] == "1"
    assert json.dumps(sandbox.namespace.trust_relationships()[0]) == json.dumps(before[0])
    assert subjects(sandbox) == ["x", ROLE]


async def test_a_list_that_needs_no_change_is_not_written(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    sandbox.namespace.trust(issuer=ISSUER, subject_match=ROLE)

    await trust.change(adding())

    assert not sandbox.namespace.calls_of("UpdateTrustRelationships")


async def test_the_last_entry_goes_by_leaving_the_list_out(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    sandbox.namespace.trust(issuer=ISSUER, subject_match=ROLE)

    await trust.change(lambda _: ())

    (update,) = sandbox.namespace.calls_of("UpdateTrustRelationships")
    assert update.params == {"generation": "1"}
    assert subjects(sandbox) == []


@pytest.mark.parametrize("code", ["FAILED_PRECONDITION", "ABORTED"])
async def test_a_stale_generation_is_read_again_and_nobodys_entry_is_lost(
    sandbox: Sandbox, trust: NamespaceTrust, code: str
) -> None:
    sandbox.namespace.choices.stale_generation_code = code
    somebody_else = iter(["another"])

    def adding_late(entries: Sequence[Entry]) -> tuple[Entry, ...]:
        for subject in somebody_else:
            sandbox.namespace.trust(issuer="https://other.example", subject_match=subject)
        return WANTED.added_to(entries)

    await trust.change(adding_late)

    assert subjects(sandbox) == ["another", ROLE]


@pytest.mark.parametrize("status", [409, 412])
async def test_a_conflict_that_only_a_status_tells_is_read_again(
    sandbox: Sandbox, trust: NamespaceTrust, status: int
) -> None:
    sandbox.fail("UpdateTrustRelationships", status=status, count=1)

    await trust.change(adding())

    assert subjects(sandbox) == [ROLE]


async def test_an_update_whose_answer_was_lost_is_not_made_twice(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    sandbox.fail("UpdateTrustRelationships", truncated=True, count=1)

    await trust.change(adding())

    assert subjects(sandbox) == [ROLE]
    assert len(sandbox.namespace.calls_of("UpdateTrustRelationships")) == 1


async def test_a_list_that_always_changes_meanwhile_is_given_up(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    sandbox.fail("UpdateTrustRelationships", code="FAILED_PRECONDITION", message="stale generation")

    with pytest.raises(Refused, match="stale generation"):
        await trust.change(adding())

    assert len(sandbox.namespace.calls_of("UpdateTrustRelationships")) == 5


async def test_a_passing_fault_while_reading_is_sat_out(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    sandbox.fail("ListTrustRelationships", status=503, count=2)

    assert (await trust.relationships()).entries == ()


async def test_an_answer_in_the_other_spelling_is_read(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    entry = {"issuer": ISSUER, "subjectMatch": ROLE}
    body = {"generation": 3, "trustRelationships": [entry]}
    sandbox.fail("ListTrustRelationships", status=200, body=body)

    read = await trust.relationships()

    assert (read.generation, read.entries) == ("3", (entry,))


@pytest.mark.parametrize("listed", [{"a": 1}, "text", [1]])
async def test_a_list_that_is_none_is_not_written_over(
    sandbox: Sandbox, iam: NamespaceIam, listed: object
) -> None:
    sandbox.fail("ListTrustRelationships", status=200, body={"trust_relationships": listed})
    identity = Holding(sandbox.namespace.tenant_token())
    trust = NamespaceTrust(iam, identity=identity, workspace="ws_1", clock=Ending())

    with pytest.raises(Unavailable, match="that are not a list"):
        await trust.change(adding())

    assert not sandbox.namespace.calls_of("UpdateTrustRelationships")


# As whom.


async def test_a_token_that_was_revoked_meanwhile_is_fetched_anew_once(
    sandbox: Sandbox, iam: NamespaceIam
) -> None:
    old, new = sandbox.namespace.tenant_token(), sandbox.namespace.tenant_token()
    sandbox.namespace.revoke(old)

    await trust_of(iam, Holding(old, new)).change(adding())

    assert subjects(sandbox) == [ROLE]


async def test_a_token_that_stays_revoked_is_told_to_log_in_again(
    sandbox: Sandbox, iam: NamespaceIam
) -> None:
    token = sandbox.namespace.tenant_token()
    sandbox.namespace.revoke(token)

    with pytest.raises(Refused, match="log in to workspace ws_1 with `nsc login`"):
        await trust_of(iam, Holding(token)).relationships()


async def test_an_identity_of_another_workspace_changes_nothing_there(
    sandbox: Sandbox, iam: NamespaceIam
) -> None:
    elsewhere = Holding(sandbox.namespace.tenant_token(workspace="ws_2"), workspace="ws_2")

    with pytest.raises(Refused, match="to workspace ws_2, not ws_1"):
        await trust_of(iam, elsewhere).change(adding())

    assert not sandbox.namespace.calls


async def test_whose_an_opaque_token_is_is_asked(sandbox: Sandbox, iam: NamespaceIam) -> None:
    token = sandbox.namespace.revocable_token()

    await trust_of(iam, Holding(token, workspace=None)).change(adding())

    assert sandbox.namespace.calls_of("GetTenant")
    assert subjects(sandbox) == [ROLE]


REFUSALS = [
    ("PERMISSION_DENIED", "only administrators of a workspace may change"),
    ("UNIMPLEMENTED", "has no such call"),
    ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ("NOT_FOUND", "NOT_FOUND"),
]


@pytest.mark.parametrize(("code", "told"), REFUSALS)
async def test_a_refusal_to_tell_is_told_with_what_to_do(
    sandbox: Sandbox, trust: NamespaceTrust, code: str, told: str
) -> None:
    sandbox.fail("ListTrustRelationships", code=code)

    with pytest.raises(Refused, match=told):
        await trust.relationships()


@pytest.mark.parametrize(("code", "told"), REFUSALS)
async def test_a_refusal_to_change_names_the_command_that_does_it_by_hand(
    sandbox: Sandbox, trust: NamespaceTrust, code: str, told: str
) -> None:
    sandbox.fail("UpdateTrustRelationships", code=code, message="no")

    with pytest.raises(Refused, match=told) as caught:
        await WANTED.create(access(trust))

    assert f"`{WANTED.nsc_line}`" in str(caught.value)
    assert subjects(sandbox) == []


@pytest.mark.parametrize(("code", "told"), REFUSALS)
async def test_a_refusal_to_trust_a_pool_names_the_command_that_does_it_by_hand(
    sandbox: Sandbox, trust: NamespaceTrust, code: str, told: str
) -> None:
    sandbox.fail("TrustAWSCognitoIdentityPool", code=code, message="no")

    with pytest.raises(Refused, match=told) as caught:
        await POOL.create(access(trust))

    assert "--identity_pool 6f0a0000-0000 --tenant_id ws_1`" in str(caught.value)


async def test_no_bearer_is_told_in_an_error(sandbox: Sandbox, iam: NamespaceIam) -> None:
    token = sandbox.namespace.tenant_token()
    sandbox.fail("ListTrustRelationships", code="PERMISSION_DENIED", message=f"not for {token}")

    with pytest.raises(Refused) as caught:
        await trust_of(iam, Holding(token)).relationships()

    assert token not in str(caught.value)


# As resources.


class NoAws:
    """AWS, which nobody calls here."""


def access(
    trust: NamespaceTrust, admits: Callable[[Resource[Any]], Awaitable[bool]] | None = None
) -> CloudAccess:
    aws = cast(AwsApi, NoAws())
    return CloudAccess(aws=aws, clock=SystemClock(), namespace=trust, admits=admits)


async def test_what_is_not_for_us_to_read_is_tried_out_instead(
    sandbox: Sandbox, iam: NamespaceIam
) -> None:
    async def admitted(_: Resource[Any]) -> bool:
        return True

    clouds = access(trust_of(iam, Holding()), admits=admitted)

    found = await WANTED.read(clouds)

    assert found == ActualRelationship(
        unreadable="this machine has no Namespace identity to do it as", proven=True
    )


async def test_a_namespace_that_gives_no_answer_is_no_reason_to_believe_that_nothing_stands(
    sandbox: Sandbox, iam: NamespaceIam
) -> None:
    sandbox.fail("ListTrustRelationships", status=503)
    identity = Holding(sandbox.namespace.tenant_token())
    trust = NamespaceTrust(iam, identity=identity, workspace="ws_1", clock=Ending())

    with pytest.raises(Unavailable):
        await WANTED.read(access(trust))


async def test_a_pool_that_was_tried_out_is_kept_and_any_other_is_named(
    sandbox: Sandbox, trust: NamespaceTrust
) -> None:
    async def is_admitted(_: Resource[Any]) -> bool:
        return (POOL_ID, "namespace.so") in sandbox.namespace.trusted_pools()

    clouds = access(trust, admits=is_admitted)

    before = POOL.diff(await POOL.read(clouds))
    await POOL.create(clouds)
    after = POOL.diff(await POOL.read(clouds))

    assert (before.kind, after.kind) == ("create", "keep")


async def test_without_an_identity_the_plan_for_a_pool_says_the_line_to_run(
    iam: NamespaceIam,
) -> None:
    found = await POOL.read(access(trust_of(iam, Holding())))

    assert isinstance(found, ActualPoolTrust)
    assert "nsc auth trust-aws-cognito-identity-pool" in POOL.diff(found).diff[-1]
