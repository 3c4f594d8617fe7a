"""Both clouds opened for `setup to-namespace`: what is wanted there, what stands, and the workload
tried out. Prints nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from broker.clock import Clock
from broker.config import IdentityConfig, Upstream
from broker.config.errors import ConfigError
from broker.credentials import NamespaceToken
from broker.lease import Refused, Source
from broker.setup import checks
from broker.setup.cloud import Cloud, standing_in
from broker.setup.clouds import Aws, OpenedAws, opened_aws
from broker.setup.iam import iam_hands
from broker.setup.namespace_trust import CognitoTrustHands, NamespaceTrust, StsTrustHands
from broker.setup.steps import Standing
from broker.setup.to_namespace import ByCognito, BySts, wanted_by_cognito, wanted_by_sts
from broker.setup.to_namespace_admission import (
    Judged,
    TrustList,
    judged_by_cognito,
    judged_by_sts,
)
from broker.setup.to_namespace_hands import (
    IdentityPoolHands,
    OutboundFederationHands,
    permissions_of,
)
from broker.setup.to_namespace_proof import (
    Reach,
    as_role,
    is_admitted,
    role_arn_of,
    signed_in,
    signing_in,
)
from broker.setup.to_namespace_relationships import FoundTrust
from broker.setup.wanted import (
    CognitoTrust,
    IdentityPool,
    OutboundFederation,
    Place,
    StsTrust,
    Wanted,
)
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.http_client import open_session
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.identity import identity_source

Waiting = Callable[[float, Refused], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What was asked for, and where. ``workspace`` None: that of the Namespace identity at hand,
    which ``identity`` and ``environ`` lead to."""

    asked: BySts | ByCognito
    aws: Aws
    upstream: Upstream
    identity: IdentityConfig
    workspace: str | None
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Both clouds. ``role_stands`` is whether the account has the workload's role."""

    task: Task
    aws: OpenedAws
    place: Place
    role_arn: str
    role_stands: bool
    trust: NamespaceTrust
    reach: Reach

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """Raises:
        ConfigError: What was asked for does not fit the role.
        """
        asked = self.task.asked
        if isinstance(asked, ByCognito):
            return wanted_by_cognito(asked, self.place)
        return wanted_by_sts(asked, self.place, role_arn=self.role_arn)

    @property
    def cloud(self) -> Cloud:
        """What handles each kind of thing."""
        return {
            **iam_hands(self.aws.api, clock=self.task.clock),
            OutboundFederation: OutboundFederationHands(self.aws.api),
            IdentityPool: IdentityPoolHands(self.aws.api),
            StsTrust: StsTrustHands(self.trust, is_admitted=self._role_is_admitted),
            CognitoTrust: CognitoTrustHands(self.trust, is_admitted=self._pool_is_admitted),
        }

    async def standing(self, *, deeply: bool = False) -> tuple[Standing, ...]:
        return await standing_in(self.cloud, self.wanted, deeply=deeply)

    async def check_issuer(self) -> None:
        """Have nobody trusted who is not this account.

        Raises:
            ConfigError: The issuer that was said is another.
        """
        said = getattr(self.task.asked, "issuer", None)
        if said is None:
            return
        switch = OutboundFederation(account=self.place.account)
        found = await OutboundFederationHands(self.aws.api).read(switch, deeply=False)
        if found is None or found.issuer != said:
            has = f"has {found.issuer}" if found else "has none before federation is on"
            raise ConfigError("--issuer", f"is {said}, and the account {has}", "leave it out")

    # The workload.

    async def signed_in(self, *, pool_id: str | None, waiting: Waiting) -> str | None:
        """Sign in to Namespace as the workload's role and return the workspace, as a person knows
        it; None where the identity at hand is not that role, and may not become it. Raises as
        `to_namespace_proof.signed_in`."""
        async with self._as_workload() as workload:
            if workload is None:
                return None
            exchange = signing_in(
                self.task.asked, chain=workload, reach=self.reach, pool_id=pool_id
            )
            exchanged = await signed_in(exchange, clock=self.task.clock, waiting=waiting)
        name, workspace = exchanged.tenant.name, self.place.workspace
        return f"{name} ({workspace})" if name else workspace

    def _as_workload(self) -> AbstractAsyncContextManager[CredentialChain | None]:
        """As `to_namespace_proof.as_role`, for the role that is wanted."""
        return as_role(
            self.aws.api,
            role_arn=self.role_arn,
            caller=self.aws.caller,
            chain=self.aws.chain,
            reach=self.reach,
        )

    async def judged(self, standing: Sequence[Standing]) -> tuple[Judged, ...]:
        """Hold what stands against the workload, check by check."""
        found = {type(each.wanted): each.found for each in standing}
        if not self.role_stands:
            reason = f"there is no role {self.task.asked.role_name}"
            return (Judged(what="the account has the role", holds=False, reason=reason),)
        permissions = await permissions_of(self.aws.api, self.task.asked.role_name)
        if isinstance(self.task.asked, ByCognito):
            return judged_by_cognito(
                self.task.asked,
                self.place,
                pool=found[IdentityPool],
                permissions=permissions,
                trusted=found[CognitoTrust],
            )
        return judged_by_sts(
            self.task.asked,
            role_arn=self.role_arn,
            federation=found[OutboundFederation],
            permissions=permissions,
            trusted=await self._trust_list(found[StsTrust]),
        )

    async def _trust_list(self, found: FoundTrust) -> TrustList:
        if found.unread:
            return TrustList(unread=found.unread, proven=found.proven)
        return TrustList(entries=(await self.trust.relationships()).entries)

    async def _role_is_admitted(self, _: StsTrust) -> bool:
        return await self._is_admitted(pool_id=None)

    async def _pool_is_admitted(self, wanted: CognitoTrust) -> bool:
        """The pool vouches for a workspace, whoever draws its token: whom the pool admits is AWS's
        side. So it is enough that the identity at hand may draw one."""
        pool_id = f"{wanted.region}:{wanted.guid}"
        exchange = signing_in(
            self.task.asked, chain=self.aws.chain, reach=self.reach, pool_id=pool_id
        )
        return await is_admitted(exchange) or await self._is_admitted(pool_id=pool_id)

    async def _is_admitted(self, *, pool_id: str | None) -> bool:
        if not self.role_stands:
            return False
        async with self._as_workload() as workload:
            if workload is None:
                return False
            return await is_admitted(
                signing_in(self.task.asked, chain=workload, reach=self.reach, pool_id=pool_id)
            )


@asynccontextmanager
async def opened(task: Task, *, without_role: bool = False) -> AsyncIterator[Opened]:
    """Both clouds for the block. *without_role*: it is no error that the role is not there.

    Raises:
        ConfigError: The workspace is not said and cannot be read; or as `opened_aws`.
        SourceError: A cloud refuses, or gives no answer; or the role is not there.
    """
    async with opened_aws(task.aws, clock=task.clock) as aws, open_session() as http:
        iam = NamespaceIam(http, task.upstream.iam_endpoint)
        identity = identity_source(
            source=task.identity.source,
            token_file=task.identity.token_file,
            token_spec=task.identity.token_spec,
            environ=task.environ,
            iam=iam,
            http=http,
            clock=task.clock,
        )
        workspace = task.workspace or await _workspace_of(identity, iam)
        place = aws.place(workspace)
        role_arn, stands = place.role_arn(task.asked.role_name), True
        try:
            role_arn = await role_arn_of(aws.api, task.asked.role_name)
        except Refused as refused:
            if not without_role or refused.word != "not-found":
                raise
            stands = False
        yield Opened(
            task=task,
            aws=aws,
            place=place,
            role_arn=role_arn,
            role_stands=stands,
            trust=NamespaceTrust(iam, identity=identity, workspace=workspace, clock=task.clock),
            reach=Reach(
                iam=iam,
                clock=task.clock,
                place=place,
                endpoints=task.aws.endpoints,
                ca_bundle=task.aws.ca_bundle,
            ),
        )


async def _workspace_of(identity: Source[NamespaceToken], iam: NamespaceIam) -> str:
    try:
        token = (await identity.fetch()).value
    except Refused as refused:
        if refused.word != "no-identity":
            raise
        raise ConfigError(
            "--workspace",
            "is not given, and this machine has no Namespace identity to read it from",
            "give the workspace's id, or run `nsc login`",
        ) from refused
    workspace = token.tenant_id or (await iam.get_tenant(token.bearer)).tenant_id
    return checks.workspace(workspace or "", place="the Namespace identity at hand")
