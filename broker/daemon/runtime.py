"""What sources are built with: environment, clock, log, and the connections to both clouds."""

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from broker.clock import Clock, ClockSkew, SystemClock
from broker.config import AwsIdentityConfig, IdentityConfig, RoleConfig, Upstream, keys_of
from broker.credentials import NamespaceToken
from broker.daemon import host
from broker.keeper import Keeper
from broker.sources.aws.assume_role import AssumedRole, StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.explain import IamRoleReader, RoleReader
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.exchange import TokenExchange, aws_identity_source
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import IdentitySource, identity_source
from broker.systemd import Inherited, Notifier
from broker.telemetry.log import Log, logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the process gives to everything in it; tests and the demo bring their own."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    clock: Clock = field(default_factory=SystemClock)
    log: Log = field(default_factory=lambda: logger(form="auto", level="info"))
    renew_within_s: float | None = None
    """Renew role leases, and identities that come from AWS, at least this often: for a demo."""
    boot_id: Callable[[], str] = host.boot_id
    """Differs on a clone of this machine, and after each boot."""
    skew: ClockSkew = field(default_factory=ClockSkew)
    """How far this host's clock is ahead of the clouds', as their responses show."""
    inherited: Inherited = field(default_factory=Inherited)
    supervisor: Notifier = field(default_factory=Notifier)

    def warn(self, reason: str) -> None:
        self.log.warning("warning", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clouds:
    """The connections that all sources share, and the sources built on them."""

    iam: NamespaceIam
    http: HttpClient
    sts: StsClient
    roles: RoleReader
    upstream: Upstream
    runtime: Runtime

    def identity(self, identity: IdentityConfig, closing: AsyncExitStack) -> IdentitySource:
        """Return the source of one identity; what it holds open ends with *closing*."""
        if isinstance(identity, AwsIdentityConfig):
            return self.exchange(identity, closing)
        return identity_source(
            source=identity.source,
            token_file=identity.token_file,
            token_spec=identity.token_spec,
            environ=self.runtime.environ,
            iam=self.iam,
            http=self.http,
            clock=self.runtime.clock,
        )

    def exchange(self, identity: AwsIdentityConfig, closing: AsyncExitStack) -> TokenExchange:
        """Return the source that exchanges an AWS identity for a Namespace token."""
        upstream, clock = self.upstream, self.runtime.clock
        chain = CredentialChain(clock=clock, profile=identity.profile, ca_bundle=upstream.ca_bundle)
        closing.push_async_callback(chain.close)
        parameters = keys_of(identity)
        del parameters["name"], parameters["profile"]
        return aws_identity_source(
            source=identity.source,
            **parameters,
            chain=chain,
            iam=self.iam,
            clock=clock,
            warn=lambda _: None,  # the configuration has warned that no workspace is named
            sts_endpoint=upstream.sts_endpoint,
            cognito_endpoint=upstream.cognito_endpoint,
        )

    def assumed_role(self, entry: RoleConfig, *, bearer: Keeper[NamespaceToken]) -> AssumedRole:
        """Return the source of one role's credentials."""
        return AssumedRole(
            entry.role,
            token=self.id_token(entry.audience, bearer=bearer),
            sts=self.sts,
            warn=self.runtime.warn,
            clock=self.runtime.clock,
            roles=self.roles,
        )

    def id_token(
        self, audience: str, *, bearer: Keeper[NamespaceToken], duration_s: int | None = None
    ) -> IdTokenFor:
        """Return the source of ID tokens for *audience*, which last *duration_s* if given."""
        life = {} if duration_s is None else {"duration_s": duration_s}
        return IdTokenFor(audience, bearer=bearer, iam=self.iam, clock=self.runtime.clock, **life)


async def open_clouds(upstream: Upstream, runtime: Runtime, stack: AsyncExitStack) -> Clouds:
    """Open the connections to both clouds, to be closed with *stack*."""
    http = await stack.enter_async_context(HttpClient(clock=runtime.clock, skew=runtime.skew))
    return Clouds(
        iam=NamespaceIam(http, upstream.iam_endpoint),
        http=http,
        sts=StsClient(
            http,
            clock=runtime.clock,
            endpoint=upstream.sts_endpoint,
            ca_bundle=upstream.ca_bundle,
            use_fips=upstream.use_fips,
            use_dualstack=upstream.use_dualstack,
        ),
        roles=IamRoleReader(
            environ=runtime.environ,
            clock=runtime.clock,
            sts_endpoint=upstream.sts_endpoint,
            ca_bundle=upstream.ca_bundle,
        ),
        upstream=upstream,
        runtime=runtime,
    )
