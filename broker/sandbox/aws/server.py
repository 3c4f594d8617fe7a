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

    keys = sandbox.aws.administrator()                  # may do everything in the account
    keys = sandbox.aws.add_user("half", policies={…})   # may do what these say
    sandbox.aws.providers(), sandbox.aws.roles(), sandbox.aws.identity_pools()
    sandbox.aws.propagation_s = 20                      # STS sees changes that much later

Source: aws-api.md 3 to 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from aiohttp import web

from broker.sandbox.aws import cognito, s3, sts
from broker.sandbox.aws.accounts import ADMINISTRATOR, Accounts, IssuedKeys
from broker.sandbox.aws.http import AwsHttp
from broker.sandbox.aws.iam_providers import OidcProviders
from broker.sandbox.aws.iam_records import Policies, ProviderRecord, RoleRecord
from broker.sandbox.aws.iam_role_policies import RolePolicies
from broker.sandbox.aws.iam_roles import Roles
from broker.sandbox.aws.identity_pools import IdentityPools, Pool
from broker.sandbox.aws.web_identity_issuer import WebIdentityIssuer
from broker.sandbox.calls import Call, VerifiedIdentity
from broker.sandbox.faults import Faults
from broker.sandbox.issuers import IssuerLocation, Issuers

DEFAULT_ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"
DEVELOPER_PROVIDER = "namespace.so"

WEB_IDENTITY_POLICY_NAME = "allow-get-web-identity-token"
WEB_IDENTITY_POLICY: Mapping[str, object] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}],
}
"""Name and document as the guide has them. Source: guide-flows.md, second table."""


def default_region(partition: str) -> str:
    return {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}.get(partition, DEFAULT_REGION)


class Aws:
    """All accounts.

    ``url`` serves every service; ``global_hosts`` are the names by which a request has come to
    STS's global endpoint, which has no GetWebIdentityToken.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        signing_clock: Callable[[], datetime],
        faults: Faults,
        region: str | None,
        partition: str,
        jwks_timeout_s: float,
        with_s3: bool,
    ) -> None:
        self._url = ""  # known once the server listens
        self._region = region or default_region(partition)
        self._now = now
        self._accounts = Accounts(now=now, partition=partition)
        self._issuers = Issuers()
        self.sts = sts.Sts(
            self._accounts,
            now=now,
            jwks_timeout_s=jwks_timeout_s,
            location_of=self._issuers.location_of,
        )
        self.web_identity_issuer = WebIdentityIssuer(self._issuers, now=now)
        self._pools = IdentityPools(partition=partition)
        self._administrators: dict[str, IssuedKeys] = {}
        self._s3 = s3.MotoS3() if with_s3 else None
        self._http = AwsHttp(
            accounts=self._accounts,
            token_service=self.sts,
            federation=self.web_identity_issuer,
            iam_operations={
                **OidcProviders(
                    self._accounts,
                    now=now,
                    reachable=lambda issuer: self._issuers.location_of(issuer) is not None,
                ).operations,
                **Roles(self._accounts).operations,
                **RolePolicies(self._accounts).operations,
            },
            pools=cognito.Cognito(self._issuers, self._pools, now=now),
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
        """Who signed each request that had a valid signature and session token."""
        return tuple(self._http.verified)

    @property
    def issued(self) -> tuple[IssuedKeys, ...]:
        """Every temporary credential given out, oldest first."""
        return self._accounts.issued()

    def add_provider(
        self,
        issuer: str,
        *,
        client_ids: tuple[str, ...],
        resolve_at: str | None = None,
        thumbprints: tuple[str, ...] = (),
        account: str = DEFAULT_ACCOUNT,
    ) -> str:
        """Trust an OIDC issuer and return the provider's ARN.

        *issuer* is the ``iss`` of its tokens; its discovery document and JWKS are read under the
        URL *resolve_at*, or where `add_issuer` says.
        """
        arn = self._accounts.provider_arn(issuer, account=account)
        self._accounts.put_provider(
            ProviderRecord(
                arn=arn,
                issuer=issuer,
                account=account,
                client_ids=client_ids,
                created_at=self._now(),
                thumbprints=thumbprints,
                resolve_at=resolve_at,
            )
        )
        return arn

    def add_issuer(self, issuer: str, *, resolve_at: str, thumbprint: str | None = None) -> None:
        """Read a foreign issuer's discovery document below *resolve_at*.

        Also for providers made through the API. Its certificate is a public authority's unless it
        has a *thumbprint*, which a provider then has to list.
        """
        self._issuers.add_foreign(issuer, IssuerLocation(resolve_at, thumbprint))

    def provider(self, arn: str) -> ProviderRecord | None:
        return self._accounts.provider(arn)

    def providers(self, account: str = DEFAULT_ACCOUNT) -> tuple[ProviderRecord, ...]:
        return self._accounts.providers(account)

    def remove_provider(self, arn: str) -> None:
        self._accounts.remove_provider(arn)

    @property
    def propagation_s(self) -> float:
        """Seconds after which STS sees a change of a provider or a role."""
        return self._accounts.propagation_s

    @propagation_s.setter
    def propagation_s(self, seconds: float) -> None:
        self._accounts.propagation_s = seconds

    def add_role(
        self,
        name: str,
        *,
        trust_policy: Mapping[str, object],
        max_session_duration: int = 3600,
        account: str = DEFAULT_ACCOUNT,
        path: str = "/",
        policies: Policies | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make or replace a role and return its ARN; *max_session_duration* is in seconds.

        *policies* are inline ones by name. They decide what sessions of the role may do at IAM,
        STS and Cognito. S3 does not check them.
        """
        made = self._accounts.new_role(name, account=account, path=path, trust_policy=trust_policy)
        made = replace(
            made,
            max_session_duration_s=max_session_duration,
            policies=dict(policies or {}),
            tags=dict(tags or {}),
        )
        self._accounts.put_role(made)
        return made.arn

    def remove_role(self, arn: str) -> None:
        self._accounts.remove_role(arn)

    def has_role(self, arn: str) -> bool:
        return self._accounts.role(arn) is not None

    def role(self, arn: str) -> RoleRecord | None:
        return self._accounts.role(arn)

    def roles(self, account: str = DEFAULT_ACCOUNT) -> tuple[RoleRecord, ...]:
        return self._accounts.roles(account)

    def set_trust(self, arn: str, trust_policy: Mapping[str, object]) -> None:
        with self._accounts.lock:
            role = self._accounts.required_role(arn)
            self._accounts.put_role(replace(role, trust_policy=trust_policy))

    def set_max_session_duration(self, arn: str, seconds: int) -> None:
        with self._accounts.lock:
            role = self._accounts.required_role(arn)
            self._accounts.put_role(replace(role, max_session_duration_s=seconds))

    def trust_of(self, arn: str) -> Mapping[str, object]:
        """Return the role's trust policy.

        Raises:
            KeyError: There is no such role.
        """
        return self._accounts.required_role(arn).trust_policy

    def add_user(
        self, name: str, *, account: str = DEFAULT_ACCOUNT, policies: Policies | None = None
    ) -> IssuedKeys:
        """Make a user with a long-lived key (``AKIA…``); *policies* as in `add_role`."""
        return self._accounts.add_user(name, account=account, policies=policies or {})

    def administrator(self, account: str = DEFAULT_ACCOUNT) -> IssuedKeys:
        """Return the keys of a user who may do everything in the account, the same each time."""
        if account not in self._administrators:
            keys = self.add_user("administrator", account=account)
            partition = self._accounts.partition
            self._accounts.attach(keys.arn, f"arn:{partition}:iam::aws:policy/{ADMINISTRATOR}")
            self._administrators[account] = keys
        return self._administrators[account]

    def add_managed_policy(
        self, name: str, document: Mapping[str, object], *, account: str = DEFAULT_ACCOUNT
    ) -> str:
        """Make a managed policy and return its ARN; a few of AWS's own exist."""
        return self._accounts.add_managed_policy(name, document, account=account)

    def role_session(
        self, arn: str, *, session_name: str = "test", lifetime_s: float = 3600
    ) -> IssuedKeys:
        """Issue credentials of a role without an exchange; of any lifetime, expired ones too."""
        role = self._accounts.required_role(arn)
        opened = self._accounts.open_session(role, session_name=session_name, lifetime_s=lifetime_s)
        return opened.keys

    def set_policy(self, arn: str, name: str, document: Mapping[str, object]) -> None:
        self._accounts.put_policy(arn, name, document)

    def remove_policy(self, arn: str, name: str) -> None:
        self._accounts.put_policy(arn, name, None)

    def policies_of(self, arn: str) -> Policies:
        return self._accounts.policies_of(arn)

    def allow_web_identity_tokens(self, arn: str) -> None:
        """Add the guide's policy, under the guide's name."""
        self.set_policy(arn, WEB_IDENTITY_POLICY_NAME, WEB_IDENTITY_POLICY)

    def allow_developer_tokens(self, arn: str, pool_id: str) -> None:
        """Add a policy that allows tokens of that one pool."""
        pool = self._pools.pool(pool_id)
        if pool is None:
            raise KeyError(pool_id)
        action = f"cognito-identity:{cognito.DEVELOPER_LOGIN}"
        statement = {"Effect": "Allow", "Action": action, "Resource": pool.arn}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        self.set_policy(arn, f"allow-developer-tokens-{pool_id.partition(':')[2]}", document)

    def enable_outbound_federation(self, account: str = DEFAULT_ACCOUNT) -> str:
        """Switch it on, and return the account's issuer."""
        issuer = self.web_identity_issuer.switch(account, enabled=True)
        assert issuer is not None
        return issuer

    def disable_outbound_federation(self, account: str = DEFAULT_ACCOUNT) -> None:
        self.web_identity_issuer.switch(account, enabled=False)

    def resolve_at(self, issuer: str) -> str | None:
        """Return the URL below which the discovery document of one of AWS's issuers is read."""
        return self._issuers.resolve_at(issuer)

    def add_identity_pool(
        self,
        name: str = "namespace",
        *,
        developer_provider: str | None = DEVELOPER_PROVIDER,
        region: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make a pool and return its id, ``region:guid``."""
        pool = self._pools.add(
            name,
            developer_provider=developer_provider,
            account=account,
            region=region or self._region,
            tags=tags,
        )
        return pool.pool_id

    def identity_pool(self, pool_id: str) -> Pool | None:
        return self._pools.pool(pool_id)

    def identity_pools(self, account: str = DEFAULT_ACCOUNT) -> tuple[Pool, ...]:
        return self._pools.pools(account)

    def remove_identity_pool(self, pool_id: str) -> None:
        self._pools.remove(pool_id)
