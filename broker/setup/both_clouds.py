"""Both clouds, open for `setup to-namespace`: the desired resources, what exists, and a sign-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.clock import Clock
from broker.config import IdentityConfig, Upstream
from broker.config.errors import ConfigError
from broker.credentials import NamespaceToken
from broker.lease import Refused, Source
from broker.setup import arguments
from broker.setup.aws import AwsAccount, AwsSettings, Target, open_aws
from broker.setup.namespace import NamespaceTrust
from broker.setup.plan import State, read_states
from broker.setup.resource import AnyResource, CloudAccess
from broker.setup.resources import DesiredResource
from broker.setup.resources.federation import OutboundFederation
from broker.setup.resources.identity_pool import IdentityPool
from broker.setup.resources.pool_trust import PoolTrust
from broker.setup.resources.trust_relationship import ActualRelationship, TrustRelationship
from broker.setup.sign_in import OnWait, as_role, is_admitted, role_arn_of, sign_in
from broker.setup.to_namespace import (
    CognitoRequest,
    StsRequest,
    desired_by_cognito,
    desired_by_sts,
)
from broker.setup.verify import (
    Requirement,
    TrustList,
    permissions_of,
    requirements_by_cognito,
    requirements_by_sts,
)
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.exchange import TokenExchange, aws_identity_source
from broker.sources.namespace.identity import identity_source


@dataclass(frozen=True, slots=True, kw_only=True)
class ToNamespaceTask:
    """What is asked for, and where.

    ``workspace`` None: that of this machine's Namespace identity, which ``identity`` and
    ``environ`` lead to.
    """

    request: StsRequest | CognitoRequest
    aws: AwsSettings
    upstream: Upstream
    identity: IdentityConfig
    workspace: str | None
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BothClouds:
    """An account and a workspace. ``role_exists``: the account has the workload's role."""

    task: ToNamespaceTask
    aws: AwsAccount
    iam: NamespaceIam
    target: Target
    role_arn: str
    role_exists: bool
    trust: NamespaceTrust

    @property
    def desired(self) -> tuple[DesiredResource, ...]:
        """The desired resources.

        Raises:
            ConfigError: The request does not fit the role.
        """
        request = self.task.request
        if isinstance(request, CognitoRequest):
            return desired_by_cognito(request, self.target)
        return desired_by_sts(request, self.target, role_arn=self.role_arn)

    @property
    def access(self) -> CloudAccess:
        return CloudAccess(
            aws=self.aws.api, clock=self.task.clock, namespace=self.trust, admits=self._admits
        )

    async def states(self, *, deep: bool = False) -> tuple[State, ...]:
        return await read_states(self.access, self.desired, deep=deep)

    async def check_issuer(self) -> None:
        """Refuse to have anybody trusted but this account.

        Raises:
            ConfigError: The issuer that was given is another.
        """
        issuer = getattr(self.task.request, "issuer", None)
        if issuer is None:
            return
        federation = await OutboundFederation(account=self.target.account).read(self.access)
        if federation is None or federation.issuer != issuer:
            has = f"has {federation.issuer}" if federation else "has none before federation is on"
            raise ConfigError("--issuer", f"is {issuer}, and the account {has}", "leave it out")

    async def sign_in(self, *, pool_id: str | None, on_wait: OnWait) -> str | None:
        """Sign in to Namespace as the workload's role and return the workspace's name and id.

        None where this machine is not that role, and may not become it.

        Raises as `sign_in.sign_in`.
        """
        async with self._as_workload() as workload:
            if workload is None:
                return None
            exchange = self._exchange(workload, pool_id=pool_id)
            exchanged = await sign_in(exchange, clock=self.task.clock, on_wait=on_wait)
        name, workspace = exchanged.tenant.name, self.target.workspace
        return f"{name} ({workspace})" if name else workspace

    def _as_workload(self) -> AbstractAsyncContextManager[CredentialChain | None]:
        return as_role(
            self.aws, self.role_arn, clock=self.task.clock, ca_bundle=self.task.aws.ca_bundle
        )

    def _exchange(self, chain: CredentialChain, *, pool_id: str | None) -> TokenExchange:
        """Return the exchange that the daemon would make; *pool_id* is Cognito's, `region:guid`."""
        request, endpoints = self.task.request, self.task.aws.endpoints
        by_sts: dict[str, Any] = {}
        if isinstance(request, StsRequest):
            by_sts = {
                "audience": request.audience,
                "algorithm": request.algorithm,
                "duration_s": request.duration_s,
            }
        return aws_identity_source(
            source="sts" if by_sts else "cognito",
            workspace=self.target.workspace,
            region=self.target.region,
            chain=chain,
            iam=self.iam,
            clock=self.task.clock,
            warn=lambda _: None,  # of an unnamed workspace only, and ours always has its name
            identity_pool=pool_id,
            sts_endpoint=endpoints.sts,
            cognito_endpoint=endpoints.cognito,
            **by_sts,
        )

    async def requirements(self, states: Sequence[State]) -> tuple[Requirement, ...]:
        """Check what exists against the workload, requirement by requirement."""
        request = self.task.request
        actual: dict[type, Any] = {type(each.desired): each.actual for each in states}
        if not self.role_exists:
            reason = f"there is no role {request.role_name}"
            return (Requirement(what="the account has the role", holds=False, reason=reason),)
        permissions = await permissions_of(self.aws.api, request.role_name)
        if isinstance(request, CognitoRequest):
            return requirements_by_cognito(
                request,
                self.target,
                pool=actual[IdentityPool],
                permissions=permissions,
                trusted=actual[PoolTrust],
            )
        return requirements_by_sts(
            request,
            role_arn=self.role_arn,
            federation=actual[OutboundFederation],
            permissions=permissions,
            trusted=await self._trust_list(actual[TrustRelationship]),
        )

    async def _trust_list(self, actual: ActualRelationship) -> TrustList:
        if actual.unreadable:
            return TrustList(unreadable=actual.unreadable, proven=actual.proven)
        return TrustList(entries=(await self.trust.relationships()).entries)

    async def _admits(self, trust: AnyResource) -> bool:
        """Try whether a token is exchanged under *trust*, as the workload.

        A pool's token is the same whoever asks for it: whom the pool admits is AWS's side. So this
        machine's own identity may get one too.
        """
        pool_id = trust.pool_id if isinstance(trust, PoolTrust) else None
        if pool_id is not None and await is_admitted(
            self._exchange(self.aws.chain, pool_id=pool_id)
        ):
            return True
        if not self.role_exists:
            return False
        async with self._as_workload() as workload:
            if workload is None:
                return False
            return await is_admitted(self._exchange(workload, pool_id=pool_id))


@asynccontextmanager
async def open_clouds(
    task: ToNamespaceTask, *, without_role: bool = False
) -> AsyncIterator[BothClouds]:
    """Open both clouds for the block. *without_role*: a missing role is no error.

    Raises:
        ConfigError: The workspace is not given and cannot be read; or as `open_aws`.
        SourceError: A cloud refuses, or gives no answer; or the role does not exist.
    """
    async with open_aws(task.aws, clock=task.clock) as aws, HttpClient() as http:
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
        target = aws.target(workspace)
        role_arn, exists = target.role_arn(task.request.role_name), True
        try:
            role_arn = await role_arn_of(aws.api, task.request.role_name)
        except Refused as refused:
            if not without_role or refused.word != "not-found":
                raise
            exists = False
        yield BothClouds(
            task=task,
            aws=aws,
            iam=iam,
            target=target,
            role_arn=role_arn,
            role_exists=exists,
            trust=NamespaceTrust(iam, identity=identity, workspace=workspace, clock=task.clock),
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
    return arguments.workspace(workspace or "", place="this machine's Namespace identity")
