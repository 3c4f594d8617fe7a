"""The account's federation switch and Cognito's identity pools: read, made and taken back at AWS.
Plans nothing.

Source: aws-api.md 6.1 and 7.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from broker.lease import Refused, Unavailable
from broker.setup.aws_api import AwsApi, code_of
from broker.setup.to_namespace import COGNITO_POLICY_NAME, POOL_NAME
from broker.setup.to_namespace_admission import Permissions
from broker.setup.to_namespace_federation import FoundFederation
from broker.setup.to_namespace_pools import FoundPool
from broker.setup.wanted import (
    GUID_OF_THE_POOL,
    TAG_KEY,
    TAG_VALUE,
    IdentityPool,
    Known,
    OutboundFederation,
)
from broker.sources.redact import redacted

POOLS_AT_ONCE = 60


class OutboundFederationHands:
    """The switch: it is put on, and never off, because it is the whole account's."""

    def __init__(self, aws: AwsApi) -> None:
        self._aws = aws

    async def read(self, wanted: OutboundFederation, *, deeply: bool) -> FoundFederation | None:
        try:
            told = await self._aws.call("iam", "GetOutboundWebIdentityFederationInfo")
        except Refused as refused:
            if code_of(refused) == "FeatureDisabled":
                return None
            raise
        if told.get("JwtVendingEnabled") is False:
            return None
        return FoundFederation(issuer=_issuer_in(told))

    async def create(self, wanted: OutboundFederation) -> Known:
        """Switch it on, and return the issuer as it is read back."""
        try:
            await self._aws.call("iam", "EnableOutboundWebIdentityFederation")
        except Refused as refused:
            if code_of(refused) != "FeatureEnabled":
                raise
        told = await self._aws.call("iam", "GetOutboundWebIdentityFederationInfo")
        return Known(issuer=_issuer_in(told))

    async def change(self, wanted: OutboundFederation, found: FoundFederation) -> None:
        """There is nothing to change."""

    async def remove(self, wanted: OutboundFederation, found: FoundFederation) -> None:
        """It stays on: others in the account may use it."""

    async def take_back(self, wanted: OutboundFederation, found: FoundFederation) -> None:
        """It stays on: others in the account may use it."""


def _issuer_in(told: Mapping[str, Any]) -> str:
    issuer = told.get("IssuerIdentifier")
    if not isinstance(issuer, str) or not issuer.startswith("https://"):
        raise Unavailable("AWS did not say what the account's issuer is", word="bad-answer")
    return issuer


class IdentityPoolHands:
    """Identity pools of one region. Their names are not unique, so one is looked up first."""

    def __init__(self, aws: AwsApi) -> None:
        self._aws = aws

    async def read(self, wanted: IdentityPool, *, deeply: bool) -> FoundPool | None:
        """Return the pool that is meant: the one named by id; else the one with the developer
        provider and the name, and where no name was said the only one
        with the provider, whatever its name.

        Raises:
            Refused: The pool named by id is not there (of no matter for taking it back), or has
                another provider; or several would do, and none of them is ours.
        """
        try:
            found = await self._meant(wanted)
        except Refused as refused:
            if not deeply or refused.word != "not-found":
                raise
            return None
        if found is None or not found.is_ours or not deeply:
            return found
        return replace(found, used_by=await self._users_of(found.pool_id))

    async def _meant(self, wanted: IdentityPool) -> FoundPool | None:
        if wanted.pool_id is not None:
            return await self._by_id(wanted.pool_id, wanted)
        pools = [pool async for pool in self._with_provider(wanted)]
        named = [pool for pool in pools if pool.name == wanted.name]
        if not named and wanted.name == POOL_NAME:
            named = pools
        meant = [pool for pool in named if pool.is_ours] or named
        if len(meant) > 1:
            listed = ", ".join(f"{pool.pool_id} ({redacted(pool.name)})" for pool in meant)
            raise Refused(
                f"several identity pools have the developer provider {wanted.developer_provider}: "
                f"{listed}; give one by --identity-pool",
                word="bad-request",
            )
        return next(iter(meant), None)

    async def create(self, wanted: IdentityPool) -> Known:
        """Make one. Where the answer is lost it is looked for, never made again: there would be
        two of that name."""
        try:
            told = await self._aws.call(
                "cognito-identity",
                "CreateIdentityPool",
                attempts=1,
                IdentityPoolName=wanted.name,
                AllowUnauthenticatedIdentities=False,
                DeveloperProviderName=wanted.developer_provider,
                IdentityPoolTags={TAG_KEY: TAG_VALUE},
            )
        except Unavailable:
            found = await self.read(wanted, deeply=False)
            if found is None:
                raise
            return Known(pool_id=found.pool_id)
        pool_id = told.get("IdentityPoolId")
        if not isinstance(pool_id, str):
            raise Unavailable("Cognito did not say what the new pool's id is", word="bad-answer")
        return Known(pool_id=pool_id)

    async def change(self, wanted: IdentityPool, found: FoundPool) -> None:
        """There is nothing to change: a pool's developer provider is for ever."""

    async def remove(self, wanted: IdentityPool, found: FoundPool) -> None:
        try:
            await self._aws.call(
                "cognito-identity", "DeleteIdentityPool", IdentityPoolId=found.pool_id
            )
        except Refused as refused:
            if code_of(refused) != "ResourceNotFound":
                raise

    async def take_back(self, wanted: IdentityPool, found: FoundPool) -> None:
        """There is nothing of ours in a pool that is not ours."""

    async def _users_of(self, pool_id: str) -> tuple[str, ...]:
        """Return the roles of the account that have our policy for the pool."""
        policy = COGNITO_POLICY_NAME.replace(GUID_OF_THE_POOL, pool_id.partition(":")[2])
        users = []
        async for role in _paged(self._aws, "ListRoles", "Roles"):
            name = str(role.get("RoleName"))
            try:
                await self._aws.call("iam", "GetRolePolicy", RoleName=name, PolicyName=policy)
            except Refused as refused:
                if code_of(refused) != "NoSuchEntity":
                    raise
            else:
                users.append(name)
        return tuple(users)

    async def _by_id(self, pool_id: str, wanted: IdentityPool) -> FoundPool:
        try:
            described = await self._described(pool_id)
        except Refused as refused:
            if code_of(refused) != "ResourceNotFound":
                raise
            raise Refused(
                f"this account has no identity pool {redacted(pool_id)}; correct --identity-pool "
                "and --region, or leave --identity-pool out to have one made",
                word="not-found",
            ) from refused
        if not _has_provider(described, wanted):
            raise Refused(
                f"the identity pool {redacted(pool_id)} has not the developer provider "
                f"{wanted.developer_provider}, which a pool is given when it is made; leave "
                "--identity-pool out to have one made",
                word="bad-request",
            )
        return _found(described)

    async def _with_provider(self, wanted: IdentityPool) -> AsyncIterator[FoundPool]:
        async for pool_id, name in self._listed():
            if wanted.name in (name, POOL_NAME):
                described = await self._described(pool_id)
                if _has_provider(described, wanted):
                    yield _found(described)

    async def _listed(self) -> AsyncIterator[tuple[str, str]]:
        page: dict[str, Any] = {}
        while True:
            told = await self._aws.call(
                "cognito-identity", "ListIdentityPools", MaxResults=POOLS_AT_ONCE, **page
            )
            for pool in told.get("IdentityPools") or ():
                yield str(pool.get("IdentityPoolId", "")), str(pool.get("IdentityPoolName", ""))
            if not told.get("NextToken"):
                return
            page = {"NextToken": str(told["NextToken"])}

    async def _described(self, pool_id: str) -> Mapping[str, Any]:
        return await self._aws.call(
            "cognito-identity", "DescribeIdentityPool", IdentityPoolId=pool_id
        )


def _has_provider(described: Mapping[str, Any], wanted: IdentityPool) -> bool:
    return described.get("DeveloperProviderName") == wanted.developer_provider


def _found(described: Mapping[str, Any]) -> FoundPool:
    tags = described.get("IdentityPoolTags") or {}
    return FoundPool(
        pool_id=str(described.get("IdentityPoolId", "")),
        name=str(described.get("IdentityPoolName", "")),
        is_ours=tags.get(TAG_KEY) == TAG_VALUE,
        allows_unauthenticated=described.get("AllowUnauthenticatedIdentities") is True,
    )


async def permissions_of(aws: AwsApi, role_name: str) -> Permissions:
    """Return what a role may, as far as its own policies say. Raises as `AwsApi.call`."""
    names = [
        str(name)
        async for name in _paged(aws, "ListRolePolicies", "PolicyNames", RoleName=role_name)
    ]
    documents = {}
    for name in names:
        told = await aws.call("iam", "GetRolePolicy", RoleName=role_name, PolicyName=name)
        document = told.get("PolicyDocument")
        documents[name] = document if isinstance(document, dict) else {}
    attached = _paged(aws, "ListAttachedRolePolicies", "AttachedPolicies", RoleName=role_name)
    return Permissions(
        inline=documents, managed=tuple([str(one.get("PolicyArn")) async for one in attached])
    )


async def _paged(aws: AwsApi, operation: str, member: str, **said: Any) -> AsyncIterator[Any]:
    marker: dict[str, Any] = {}
    while True:
        told = await aws.call("iam", operation, **said, **marker)
        for one in told.get(member) or ():
            yield one
        if not told.get("IsTruncated") or not told.get("Marker"):
            return
        marker = {"Marker": told["Marker"]}
