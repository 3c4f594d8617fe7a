"""The AWS side: accounts, STS, IAM's federation switch, Cognito and S3 behind one address.

    arn = sandbox.aws.add_role("ci", trust_policy=…, max_session_duration=7200)
    sandbox.aws.set_trust(arn, …); sandbox.aws.remove_role(arn)
    sandbox.aws.calls_of("AssumeRoleWithWebIdentity")[0].params["RoleSessionName"]
    sandbox.aws.verified_identities[-1].access_key_id   # whose signature was good (C-88)
    sandbox.aws.issued[-1].session_token                # what STS gave out

    issuer = sandbox.aws.enable_outbound_federation()
    sandbox.aws.allow_web_identity_tokens(arn)          # the guide's policy; or set_policy
    pool_id = sandbox.aws.add_identity_pool("namespace")
    sandbox.aws.allow_developer_tokens(arn, pool_id)

Source: aws-api.md 3 to 5, 6.1, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web

from broker.sandbox import cognito, s3, sts
from broker.sandbox.accounts import Accounts, IssuedKeys, Policies
from broker.sandbox.aws_http import AwsHttp
from broker.sandbox.calls import Call, VerifiedIdentity
from broker.sandbox.faults import Faults
from broker.sandbox.issuers import Issuers
from broker.sandbox.outbound import Outbound

DEFAULT_ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"
DEVELOPER_PROVIDER = "namespace.so"

WEB_IDENTITY_POLICY_NAME = "allow-get-web-identity-token"
WEB_IDENTITY_POLICY: Mapping[str, object] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}],
}
"""Name and document as the guide has them. Source: guide-flows.md, second table."""


class Aws:
    """All accounts. ``url`` serves every service; ``global_hosts`` are the names by which a
    request has come to STS's global endpoint, which has no GetWebIdentityToken."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        signing_clock: Callable[[], datetime],
        faults: Faults,
        region: str | None,
        jwks_timeout_s: float,
        with_s3: bool,
    ) -> None:
        self._url = ""  # known once the server listens
        self._region = region or DEFAULT_REGION
        self._accounts = Accounts(now=now)
        self._issuers = Issuers()
        self.sts = sts.Sts(self._accounts, now=now, jwks_timeout_s=jwks_timeout_s)
        self.outbound = Outbound(self._issuers, now=now)
        self._pools = cognito.Cognito(self._issuers, now=now)
        self._s3 = s3.MotoS3() if with_s3 else None
        self._http = AwsHttp(
            accounts=self._accounts,
            token_service=self.sts,
            federation=self.outbound,
            pools=self._pools,
            issuers=self._issuers,
            moto_s3=self._s3,
            faults=faults,
            region=region,
            now=now,
            signing_clock=signing_clock,
        )

    async def start(self) -> None:
        await self.sts.start()
        if self._s3 is not None:
            await self._s3.start()

    async def stop(self) -> None:
        await self.sts.stop()
        if self._s3 is not None:
            await self._s3.stop()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self._http.handle(request)

    @property
    def url(self) -> str:
        return self._url

    @url.setter
    def url(self, url: str) -> None:
        self._url = self._issuers.url = url

    @property
    def global_hosts(self) -> frozenset[str]:
        return self._http.global_hosts

    @global_hosts.setter
    def global_hosts(self, hosts: frozenset[str]) -> None:
        self._http.global_hosts = hosts

    @property
    def calls(self) -> tuple[Call, ...]:
        return self._http.record.snapshot()

    def calls_of(self, operation: str) -> tuple[Call, ...]:
        return self._http.record.snapshot(operation)

    @property
    def verified_identities(self) -> tuple[VerifiedIdentity, ...]:
        """Who signed each request whose signature, session token and life were good."""
        return tuple(self._http.verified)

    @property
    def issued(self) -> tuple[IssuedKeys, ...]:
        """Every temporary credential given out, oldest first."""
        return self._accounts.issued()

    # What stands in the accounts.

    def add_provider(
        self,
        issuer: str,
        *,
        client_ids: tuple[str, ...],
        resolve_at: str,
        account: str = DEFAULT_ACCOUNT,
    ) -> str:
        """Trust an OIDC issuer and return the provider's ARN. *issuer* is the ``iss`` of its
        tokens; its discovery document and JWKS are read under the URL *resolve_at*."""
        return self._accounts.add_provider(
            issuer, client_ids=client_ids, resolve_at=resolve_at, account=account
        )

    def remove_provider(self, arn: str) -> None:
        self._accounts.remove_provider(arn)

    def add_role(
        self,
        name: str,
        *,
        trust_policy: Mapping[str, object],
        max_session_duration: int = 3600,
        account: str = DEFAULT_ACCOUNT,
        path: str = "/",
        policies: Policies | None = None,
    ) -> str:
        """Make or replace a role and return its ARN; *max_session_duration* is in seconds.

        *policies* are inline ones by name. They decide who may have an identity token
        (GetWebIdentityToken, Cognito): nobody without one that allows it. Nothing else asks.
        """
        return self._accounts.add_role(
            name,
            trust_policy=trust_policy,
            max_session_duration=max_session_duration,
            account=account,
            path=path,
            policies=policies or {},
        )

    def remove_role(self, arn: str) -> None:
        self._accounts.remove_role(arn)

    def has_role(self, arn: str) -> bool:
        return self._accounts.role(arn) is not None

    def set_trust(self, arn: str, trust_policy: Mapping[str, object]) -> None:
        self._accounts.change_role(arn, trust_policy=trust_policy)

    def set_max_session_duration(self, arn: str, seconds: int) -> None:
        self._accounts.change_role(arn, max_session_duration=seconds)

    def trust_of(self, arn: str) -> Mapping[str, object]:
        """Return the trust policy that stands. Raises:
        KeyError: There is no such role.
        """
        role = self._accounts.role(arn)
        if role is None:
            raise KeyError(arn)
        return role.trust_policy

    def add_user(
        self, name: str, *, account: str = DEFAULT_ACCOUNT, policies: Policies | None = None
    ) -> IssuedKeys:
        """Make a user with a long-lived key (``AKIA…``); *policies* as with a role."""
        return self._accounts.add_user(name, account=account, policies=policies or {})

    def role_session(
        self, arn: str, *, session_name: str = "test", lifetime_s: float = 3600
    ) -> IssuedKeys:
        """Issue credentials of a role without the exchange; any lifetime, ended ones too."""
        role = self._accounts.role(arn)
        if role is None:
            raise KeyError(arn)
        opened = self._accounts.open_session(role, session_name=session_name, lifetime_s=lifetime_s)
        return opened.keys

    # Inline policies: *arn* is a role's or a user's.

    def set_policy(self, arn: str, name: str, document: Mapping[str, object]) -> None:
        self._accounts.put_policy(arn, name, document)

    def remove_policy(self, arn: str, name: str) -> None:
        self._accounts.put_policy(arn, name, None)

    def policies_of(self, arn: str) -> Policies:
        return self._accounts.policies_of(arn)

    def allow_web_identity_tokens(self, arn: str) -> None:
        """Put the guide's policy there, under the guide's name."""
        self.set_policy(arn, WEB_IDENTITY_POLICY_NAME, WEB_IDENTITY_POLICY)

    def allow_developer_tokens(self, arn: str, pool_id: str) -> None:
        """Put a policy there that allows tokens of that one pool."""
        pool = self._pools.pool(pool_id)
        if pool is None:
            raise KeyError(pool_id)
        action = f"cognito-identity:{cognito.DEVELOPER_LOGIN}"
        statement = {"Effect": "Allow", "Action": action, "Resource": pool.arn}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        self.set_policy(arn, f"allow-developer-tokens-{pool_id.partition(':')[2]}", document)

    # Issuing identity tokens.

    def enable_outbound_federation(self, account: str = DEFAULT_ACCOUNT) -> str:
        """Switch it on, if it is not, and return the account's issuer."""
        issuer = self.outbound.switch(account, enabled=True)
        assert issuer is not None
        return issuer

    def disable_outbound_federation(self, account: str = DEFAULT_ACCOUNT) -> None:
        self.outbound.switch(account, enabled=False)

    def resolve_at(self, issuer: str) -> str | None:
        """Return below which URL the discovery document of one of AWS's issuers is read."""
        return self._issuers.resolve_at(issuer)

    def add_identity_pool(
        self,
        name: str = "namespace",
        *,
        developer_provider: str | None = DEVELOPER_PROVIDER,
        region: str | None = None,
        account: str = DEFAULT_ACCOUNT,
    ) -> str:
        """Make a pool and return its id, ``region:guid``."""
        pool = self._pools.add_pool(
            name,
            developer_provider=developer_provider,
            account=account,
            region=region or self._region,
        )
        return pool.pool_id

    def remove_identity_pool(self, pool_id: str) -> None:
        self._pools.remove_pool(pool_id)
