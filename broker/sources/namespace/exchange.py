"""Exchange an AWS identity for a Namespace token, with a fresh token from AWS each time."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from broker.clock import Clock
from broker.credentials import NamespaceToken
from broker.lease import Lease, Refused, Source, Stale, Unavailable, backoff_s
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.web_identity import (
    ALGORITHM,
    AUDIENCE,
    DEVELOPER_PROVIDER,
    DURATION_S,
    AwsToken,
    DeveloperTokenFor,
    IdentityPoolId,
    WebIdentityTokenFor,
    parse_identity_pool,
)
from broker.sources.jwt import InvalidToken, issued_lease, to_local
from broker.sources.namespace.api import NamespaceIam, Tenant, TenantToken
from broker.sources.redact import redacted

OPAQUE_TOKEN_LIFE = timedelta(hours=1)
"""How long a token is kept that does not say when it ends; renewed at half of that."""

ONCE_LIMIT_S = 60.0
"""How long a command without a daemon retries transient errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangedToken:
    """A Namespace token and its workspace."""

    lease: Lease[NamespaceToken]
    tenant: Tenant


class TokenExchange(Protocol):
    """A source of Namespace tokens that also knows the workspace."""

    async def fetch(self) -> Lease[NamespaceToken]:
        """Issue a lease. Raises as `exchange`."""

    async def exchange(self) -> ExchangedToken:
        """Issue a lease, with a fresh token from AWS.

        Raises:
            Refused: AWS issues us no token, or Namespace does not trust it.
            Unavailable: One of them gave no proper answer.
        """

    def watched(self) -> tuple[Path, ...]:
        """Return the files whose change is a reason to fetch at once."""


def aws_identity_source(  # noqa: PLR0913 - every key of an [identities] table, by name
    *,
    source: str,
    workspace: str | None,
    region: str | None,
    chain: CredentialChain,
    iam: NamespaceIam,
    clock: Clock,
    warn: Callable[[str], None],
    audience: str = AUDIENCE,
    algorithm: str = ALGORITHM,
    duration_s: int = DURATION_S,
    identity_pool: str | None = None,
    developer_provider: str = DEVELOPER_PROVIDER,
    sts_endpoint: str | None = None,
    cognito_endpoint: str | None = None,
) -> TokenExchange:
    """Return the source for *source*, sts or cognito.

    Raises:
        ValueError: cognito without a workspace, or without a pool and its region.
    """
    if source == "sts":
        web_identity = WebIdentityTokenFor(
            audience,
            chain=chain,
            clock=clock,
            region=region,
            algorithm=algorithm,
            duration_s=duration_s,
            endpoint=sts_endpoint,
        )
        return OidcExchange(web_identity, iam=iam, clock=clock, tenant_id=workspace, warn=warn)
    if not workspace or not identity_pool:
        raise ValueError("cognito needs a workspace and an identity_pool")
    pool = parse_identity_pool(identity_pool, region=region)
    developer_token = DeveloperTokenFor(
        workspace,
        pool=pool,
        chain=chain,
        clock=clock,
        developer_provider=developer_provider,
        endpoint=cognito_endpoint,
    )
    return CognitoExchange(developer_token, iam=iam, clock=clock, workspace=workspace, pool=pool)


class _FreshExchange:
    """What both exchanges have in common: a token found stale is replaced once."""

    def __init__(
        self, token: Source[AwsToken], *, iam: NamespaceIam, clock: Clock, tenant_id: str | None
    ) -> None:
        self._token = token
        self._iam = iam
        self._clock = clock
        self._tenant_id = tenant_id

    async def fetch(self) -> Lease[NamespaceToken]:
        return (await self.exchange()).lease

    async def exchange(self) -> ExchangedToken:
        token = (await self._token.fetch()).value
        try:
            return self._result(await self._trade(token))
        except Stale:
            token = (await self._token.fetch()).value
        try:
            return self._result(await self._trade(token))
        except Stale as stale:
            raise Refused(f"{stale}; {self._admission(token)}", word="unauthenticated") from stale

    def watched(self) -> tuple[Path, ...]:
        return ()

    async def _trade(self, token: AwsToken) -> TenantToken:
        raise NotImplementedError

    def _admission(self, token: AwsToken) -> str:
        """Return what was presented, and the command that admits it."""
        raise NotImplementedError

    def _result(self, issued: TenantToken) -> ExchangedToken:
        skew = self._iam.skew
        now = skew.to_cloud(self._clock.now())
        try:
            lease = issued_lease(issued.bearer, now=now, assumed_life=OPAQUE_TOKEN_LIFE)
        except InvalidToken as error:
            raise Unavailable(
                f"the token that Namespace issued {error}", word="bad-answer"
            ) from error
        tenant_id = lease.value.tenant_id or issued.tenant.tenant_id or self._tenant_id
        return ExchangedToken(
            lease=replace(to_local(lease, skew), value=replace(lease.value, tenant_id=tenant_id)),
            tenant=replace(issued.tenant, tenant_id=tenant_id),
        )

    def _presented(self, token: AwsToken) -> str:
        to = f" to workspace {redacted(self._tenant_id)}" if self._tenant_id else ""
        claims = {"iss": token.issuer, "sub": token.subject, "aud": token.audience}
        shown = " ".join(f"{claim}={redacted(value)!r}" for claim, value in claims.items())
        return f"presented: {shown}{to}"


class OidcExchange(_FreshExchange):
    """Namespace tokens for web identity tokens of STS. Source: namespace-api 6.4."""

    def __init__(
        self,
        token: Source[AwsToken],
        *,
        iam: NamespaceIam,
        clock: Clock,
        tenant_id: str | None,
        warn: Callable[[str], None],
    ) -> None:
        """*warn* receives one sentence, once, where *tenant_id* is None."""
        super().__init__(token, iam=iam, clock=clock, tenant_id=tenant_id)
        self._warn = warn
        self._warned = tenant_id is not None

    async def exchange(self) -> ExchangedToken:
        if not self._warned:
            self._warned = True
            self._warn(
                "no workspace is named, so Namespace chooses one that trusts this AWS identity; "
                "set workspace to be sure which"
            )
        return await super().exchange()

    async def _trade(self, token: AwsToken) -> TenantToken:
        return await self._iam.exchange_oidc_token(
            token.jwt, tenant_id=self._tenant_id, if_refused=self._admission(token)
        )

    def _admission(self, token: AwsToken) -> str:
        named = "" if self._tenant_id else "; where several workspaces trust it, name one"
        return (
            f"{self._presented(token)}. To admit it: `nsc auth trust-relationships add --issuer "
            f"{_shell_quoted(token.issuer)} --subject-match {_shell_quoted(token.subject)}`, or "
            f"`namespace-broker setup to-namespace --via sts`{named}"
        )


class CognitoExchange(_FreshExchange):
    """Namespace tokens for developer tokens of a Cognito identity pool.

    Source: namespace-api 6.5.
    """

    def __init__(
        self,
        token: Source[AwsToken],
        *,
        iam: NamespaceIam,
        clock: Clock,
        workspace: str,
        pool: IdentityPoolId,
    ) -> None:
        super().__init__(token, iam=iam, clock=clock, tenant_id=workspace)
        self._workspace = workspace
        self._pool = pool

    async def _trade(self, token: AwsToken) -> TenantToken:
        return await self._iam.exchange_aws_cognito_jwt(
            token.jwt, tenant_id=self._workspace, if_refused=self._admission(token)
        )

    def _admission(self, token: AwsToken) -> str:
        return (
            f"{self._presented(token)}. To admit it: `nsc auth trust-aws-cognito-identity-pool "
            f"--aws_region {self._pool.region} --identity_pool {self._pool.guid} "
            f"--tenant_id {_shell_quoted(self._workspace)}`, or "
            "`namespace-broker setup to-namespace --via cognito`"
        )


async def exchange_once(
    exchange: TokenExchange, *, clock: Clock, limit_s: float = ONCE_LIMIT_S
) -> ExchangedToken:
    """Exchange once, retrying transient errors for at most *limit_s* seconds.

    Raises:
        Refused: At once.
        Unavailable: Transient errors until the end.
    """
    failures = 0
    last = Unavailable(f"no answer within {limit_s:g} s", word="timeout")
    try:
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    return await exchange.exchange()
                except Unavailable as error:
                    failures, last = failures + 1, error
                await clock.sleep(backoff_s(failures, jitter=0, first_s=1, longest_s=10))
    except TimeoutError:
        raise last from None


def _shell_quoted(text: str) -> str:
    """Return *text* in double quotes, for a shell."""
    escaped = re.sub(r'(["$`\\])', r"\\\1", redacted(text))
    return f'"{escaped}"'
