"""The whole way, keepers between: from every kind of identity to credentials that AWS knows."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from broker.keeper import Keeper
from broker.lease import Lease, Refused
from broker.sandbox import Sandbox
from broker.sources.aws.assume_role import AssumedRole, StsClient
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import identity_source
from tests.support.fakes import FakeClock, inline, running
from tests.support.sources import Pipeline, some_role, write_token_file

IDENTITIES = {
    "a workload token in a file": ("nsc.instance=i-abc", "bearer_token", "workload_token"),
    "a tenant token in a file": ("nsc.tenant=ws_1", "bearer_token", "tenant_token"),
    "a legacy name in a file": ("nsc.tenant=ws_1", "tenant_token", "tenant_token"),
    "a revocable token in a file": ("nsc.tenant=ws_1", "bearer_token", "revocable_token"),
    "a session in a file": ("nsc.tenant=ws_1", "session_token", "session_token"),
    "the metadata service": ("nsc.instance=i-abc", "", ""),
}


class Unkept:
    """An identity source where a keeper is wanted; nothing here is ever stale."""

    def __init__(self, source: object) -> None:
        self.fetch = source.fetch  # type: ignore[attr-defined]

    async def newer_than(self, lease: Lease[object]) -> Lease[object]:
        raise AssertionError("nothing was to be renewed")


@pytest.mark.parametrize("kind", IDENTITIES)
async def test_every_identity_becomes_credentials_of_a_session_named_after_it(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path, kind: str
) -> None:
    session_name, key, made_by = IDENTITIES[kind]
    environ = {"NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}
    if key:
        token = getattr(sandbox.namespace, made_by)()
        path = write_token_file(tmp_path / "token.json", **{key: token})
        environ = {"NSC_TOKEN_FILE": str(path)}
    id_token = IdTokenFor(
        "sts.amazonaws.com",
        bearer=Unkept(pipeline.identity(environ)),  # type: ignore[arg-type]
        iam=pipeline.iam,
        clock=pipeline.clock,
    )

    await AssumedRole(some_role(), token=id_token, sts=pipeline.sts, warn=print).fetch()

    (issued,) = sandbox.aws.issued
    assert issued.arn == f"arn:aws:sts::123456789012:assumed-role/deploy/{session_name}"


class Kept:
    """A sandbox in the test's time, a token file, its keeper, and a role that uses it."""

    def __init__(
        self,
        clock: FakeClock,
        sandbox: Sandbox,
        http: HttpClient,
        path: Path,
        sts: StsClient,
    ) -> None:
        iam = NamespaceIam(http, sandbox.namespace.url)
        source = identity_source(
            run=inline,
            source="token-file",
            token_file=path,
            token_spec=None,
            environ={},
            iam=iam,
            http=http,
            clock=clock,
        )
        self._clock = clock
        self.identity = Keeper("identity/default", source, clock=clock)
        self.role = AssumedRole(
            some_role(),
            token=IdTokenFor("sts.amazonaws.com", bearer=self.identity, iam=iam, clock=clock),
            sts=sts,
            warn=print,
        )

    async def fetched(self) -> object:
        """Fetch credentials while the test's time goes on."""
        fetching = asyncio.create_task(self.role.fetch())
        async with asyncio.timeout(20):
            while not fetching.done():
                await self._clock.advance(seconds=0.02)
                await asyncio.sleep(0.001)
        return await fetching


async def test_a_revoked_token_that_its_writer_has_replaced_is_replaced_within_one_attempt(
    clock: FakeClock, tmp_path: Path
) -> None:
    async with Sandbox(now=clock.now) as sandbox, HttpClient(clock=clock) as http:
        sts = StsClient(http, clock=clock, endpoint=sandbox.aws.url)
        old, new = sandbox.namespace.workload_token(), sandbox.namespace.workload_token()
        path = write_token_file(tmp_path / "token.json", bearer_token=old)
        kept = Kept(clock, sandbox, http, path, sts)
        async with running(kept.identity):
            sandbox.namespace.revoke(old)
            write_token_file(path, bearer_token=new)

            await kept.fetched()

            assert kept.identity.current().value.bearer == new
        assert len(sandbox.aws.issued) == 1


async def test_a_revoked_token_that_nobody_replaces_is_refused_by_name(
    clock: FakeClock, tmp_path: Path
) -> None:
    async with Sandbox(now=clock.now) as sandbox, HttpClient(clock=clock) as http:
        sts = StsClient(http, clock=clock, endpoint=sandbox.aws.url)
        old = sandbox.namespace.workload_token()
        path = write_token_file(tmp_path / "token.json", bearer_token=old)
        kept = Kept(clock, sandbox, http, path, sts)
        async with running(kept.identity):
            sandbox.namespace.revoke(old)

            with pytest.raises(Refused, match="identity/default was not accepted") as error:
                await kept.fetched()

        assert error.value.word == "unauthenticated"
        assert sandbox.aws.calls == ()


@pytest.mark.parametrize("hours", [2, -2])
async def test_on_a_host_whose_clock_is_off_a_lease_lives_as_long_as_was_asked_for(
    clock: FakeClock, tmp_path: Path, hours: int
) -> None:
    off = timedelta(hours=hours)
    async with Sandbox(now=lambda: clock.now() - off) as sandbox, HttpClient(clock=clock) as http:
        sts = StsClient(http, clock=clock, endpoint=sandbox.aws.url)
        token = sandbox.namespace.workload_token(lifetime_s=4 * 3600)
        path = write_token_file(tmp_path / "token.json", bearer_token=token)
        kept = Kept(clock, sandbox, http, path, sts)
        async with running(kept.identity):
            await kept.fetched()
            lease = await kept.role.fetch()

    assert http.skew.ahead == off
    assert lease.issued_at == clock.now()
    assert lease.expires_at is not None
    assert abs(lease.expires_at - clock.now() - timedelta(hours=1)) < timedelta(seconds=2)
