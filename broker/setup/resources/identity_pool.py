"""Cognito identity pools with a developer provider.

Source: aws-api.md 7.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from broker.lease import Refused, Unavailable
from broker.setup.aws import AwsApi, AwsRefused
from broker.setup.resource import (
    TAG_KEY,
    TAG_VALUE,
    CloudAccess,
    Outputs,
    Placeholder,
    Resource,
    ResourceState,
    Step,
)
from broker.setup.resources.iam import call_or_none, listed
from broker.setup.resources.policies import InlinePolicy
from broker.sources.redact import redacted

DEFAULT_POOL_NAME = "namespace"
POOL_POLICY_NAME = f"allow-developer-tokens-{Placeholder.POOL_GUID.value}"
"""One for each pool: a role may use several."""

PAGE_SIZE = 60
NO_ROLE_NEEDED = (
    "AWS's console asks for an IAM role for the pool: none is used here, so none is made"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualPool:
    """A pool with the desired developer provider.

    ``pool_id`` is ``region:guid``; ``is_ours``: it has our tag. ``used_by`` are the roles that have
    our policy for it; none unless read deep.
    """

    pool_id: str
    name: str
    is_ours: bool = False
    allows_unauthenticated: bool = False
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPool(Resource[ActualPool]):
    """A pool with a developer provider.

    It is the one with *pool_id* where that is given, else one of that name, which is not unique.
    """

    name: str
    region: str
    developer_provider: str = "namespace.so"
    pool_id: str | None = None

    @property
    def title(self) -> str:
        return self._title(self.name)

    def _title(self, name: str) -> str:
        return f"identity pool {name} in {self.region}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualPool | None:
        """Return the pool with the id, else the one with the developer provider and the name.

        Where the name is the default one, the only pool with the provider will do.

        Raises:
            Refused: The pool with the id does not exist (irrelevant for a removal), or has
                another provider; or several would do, and none of them is ours.
        """
        try:
            actual = await self._find(clouds.aws)
        except Refused as refused:
            if not deep or refused.word != "not-found":
                raise
            return None
        if actual is None or not actual.is_ours or not deep:
            return actual
        return replace(actual, used_by=await _users_of(clouds.aws, actual.pool_id))

    async def _find(self, aws: AwsApi) -> ActualPool | None:
        if self.pool_id is not None:
            return await self._by_id(aws, self.pool_id)
        pools = [pool async for pool in self._with_provider(aws)]
        named = [pool for pool in pools if pool.name == self.name]
        if not named and self.name == DEFAULT_POOL_NAME:
            named = pools
        candidates = [pool for pool in named if pool.is_ours] or named
        if len(candidates) > 1:
            ids = ", ".join(f"{pool.pool_id} ({redacted(pool.name)})" for pool in candidates)
            raise Refused(
                f"several identity pools have the developer provider {self.developer_provider}: "
                f"{ids}; give one by --identity-pool",
                word="bad-request",
            )
        return next(iter(candidates), None)

    async def _by_id(self, aws: AwsApi, pool_id: str) -> ActualPool:
        try:
            response = await _describe(aws, pool_id)
        except AwsRefused as refused:
            if refused.code != "ResourceNotFound":
                raise
            raise Refused(
                f"this account has no identity pool {redacted(pool_id)}; correct --identity-pool "
                "and --region, or leave --identity-pool out to have one made",
                word="not-found",
            ) from refused
        if not self._has_provider(response):
            raise Refused(
                f"the identity pool {redacted(pool_id)} does not have the developer provider "
                f"{self.developer_provider}, which is set when a pool is made; leave "
                "--identity-pool out to have one made",
                word="bad-request",
            )
        return _actual(response)

    async def _with_provider(self, aws: AwsApi) -> AsyncIterator[ActualPool]:
        async for pool_id, name in _list_pools(aws):
            if self.name in (name, DEFAULT_POOL_NAME):
                response = await _describe(aws, pool_id)
                if self._has_provider(response):
                    yield _actual(response)

    def _has_provider(self, response: Mapping[str, Any]) -> bool:
        return response.get("DeveloperProviderName") == self.developer_provider

    def diff(self, actual: ActualPool | None) -> Step:
        if actual is None:
            diff = (f"+ developer provider {self.developer_provider}", "+ authenticated only")
            return self.step("create", NO_ROLE_NEEDED, diff=diff)
        guests = "it also admits guests, who get no token for Namespace"
        return self.step(
            "keep",
            actual.pool_id,
            guests if actual.allows_unauthenticated else "",
            title=self._title(actual.name),
        )

    def removal(self, actual: ActualPool | None, others: Sequence[ResourceState[Any]]) -> Step:
        if actual is None:
            return self.step("keep", "does not exist")
        title = self._title(actual.name)
        if not actual.is_ours:
            note = f"{actual.pool_id} does not have our tag: not ours"
            return self.step("keep", note, title=title)
        ours = {each.desired.role for each in others if isinstance(each.desired, InlinePolicy)}
        users = [role for role in actual.used_by if role not in ours]
        if users:
            note = f"{actual.pool_id} is used by {', '.join(users)}"
            return self.step("keep", note, title=title)
        note = "nobody can sign in through it any more"
        return self.step("remove", note, diff=(f"- {actual.pool_id}",), title=title)

    def outputs(self, actual: ActualPool) -> Outputs:
        return Outputs(pool_id=actual.pool_id)

    async def create(self, clouds: CloudAccess) -> Outputs:
        """Make one.

        Where the answer is lost it is looked for, never made again: there would be two of that
        name.
        """
        try:
            response = await clouds.aws.call(
                "cognito-identity",
                "CreateIdentityPool",
                attempts=1,
                IdentityPoolName=self.name,
                AllowUnauthenticatedIdentities=False,
                DeveloperProviderName=self.developer_provider,
                IdentityPoolTags={TAG_KEY: TAG_VALUE},
            )
        except Unavailable:
            actual = await self.read(clouds)
            if actual is None:
                raise
            return self.outputs(actual)
        pool_id = response.get("IdentityPoolId")
        if not isinstance(pool_id, str):
            raise Unavailable("Cognito did not return the new pool's id", word="bad-answer")
        return Outputs(pool_id=pool_id)

    async def delete(self, clouds: CloudAccess, actual: ActualPool) -> None:
        try:
            await clouds.aws.call(
                "cognito-identity", "DeleteIdentityPool", IdentityPoolId=actual.pool_id
            )
        except AwsRefused as refused:
            if refused.code != "ResourceNotFound":
                raise


async def _users_of(aws: AwsApi, pool_id: str) -> tuple[str, ...]:
    """Return the roles of the account that have our policy for the pool."""
    policy = POOL_POLICY_NAME.replace(Placeholder.POOL_GUID.value, pool_id.partition(":")[2])
    names = [str(role.get("RoleName")) async for role in listed(aws, "ListRoles", "Roles")]
    return tuple(
        [
            name
            for name in names
            if await call_or_none(aws, "GetRolePolicy", RoleName=name, PolicyName=policy)
        ]
    )


async def _list_pools(aws: AwsApi) -> AsyncIterator[tuple[str, str]]:
    """Yield id and name of every pool of the region."""
    page: dict[str, Any] = {}
    while True:
        response = await aws.call(
            "cognito-identity", "ListIdentityPools", MaxResults=PAGE_SIZE, **page
        )
        for pool in response.get("IdentityPools") or ():
            yield str(pool.get("IdentityPoolId", "")), str(pool.get("IdentityPoolName", ""))
        if not response.get("NextToken"):
            return
        page = {"NextToken": str(response["NextToken"])}


async def _describe(aws: AwsApi, pool_id: str) -> Mapping[str, Any]:
    return await aws.call("cognito-identity", "DescribeIdentityPool", IdentityPoolId=pool_id)


def _actual(response: Mapping[str, Any]) -> ActualPool:
    tags = response.get("IdentityPoolTags") or {}
    return ActualPool(
        pool_id=str(response.get("IdentityPoolId", "")),
        name=str(response.get("IdentityPoolName", "")),
        is_ours=tags.get(TAG_KEY) == TAG_VALUE,
        allows_unauthenticated=response.get("AllowUnauthenticatedIdentities") is True,
    )
