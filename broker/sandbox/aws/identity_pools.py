"""Cognito's operations on identity pools.

Source: aws-api.md 7; Cognito API reference.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock

from broker.sandbox.aws import cognito_protocol as protocol
from broker.sandbox.aws.cognito_protocol import Params
from broker.sandbox.aws.operations import Signer
from broker.sandbox.aws.query import ApiError

Result = Mapping[str, object]

_DENIED = "AccessDeniedException"
_PAGE_MAX = 60
_ROLE_ARN = r"arn:[a-z-]+:iam::\d{12}:role/[!-~]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One identity pool; its developer provider, if any, never changes."""

    pool_id: str
    arn: str
    name: str
    account: str
    region: str
    developer_provider: str | None = None
    allows_unauthenticated: bool = False
    allows_classic_flow: bool | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)


class IdentityPools:
    """The pools of every account and region."""

    def __init__(self, *, partition: str) -> None:
        self._partition = partition
        self._lock = Lock()
        self._pools: dict[str, Pool] = {}
        answers: Mapping[str, Callable[[Params, Signer], Result]] = {
            "CreateIdentityPool": self._create,
            "DescribeIdentityPool": self._describe,
            "ListIdentityPools": self._list,
            "DeleteIdentityPool": self._delete,
            "SetIdentityPoolRoles": self._set_roles,
            "GetIdentityPoolRoles": self._get_roles,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }
        self.operations: Mapping[str, Callable[[Params, Signer], Awaitable[Result]]] = {
            name: _awaited(answer) for name, answer in answers.items()
        }

    def add(
        self,
        name: str,
        *,
        developer_provider: str | None,
        account: str,
        region: str,
        allows_unauthenticated: bool = False,
        allows_classic_flow: bool | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Pool:
        """Make a pool; like AWS, a new one each time, whatever its name."""
        pool_id = f"{region}:{uuid.uuid4()}"
        pool = Pool(
            pool_id=pool_id,
            arn=self._arn(pool_id, account=account, region=region),
            name=name,
            account=account,
            region=region,
            developer_provider=developer_provider,
            allows_unauthenticated=allows_unauthenticated,
            allows_classic_flow=allows_classic_flow,
            tags=tags or {},
        )
        with self._lock:
            self._pools[pool_id] = pool
        return pool

    def pool(self, pool_id: str) -> Pool | None:
        return self._pools.get(pool_id)

    def pools(self, account: str) -> tuple[Pool, ...]:
        return tuple(pool for pool in list(self._pools.values()) if pool.account == account)

    def remove(self, pool_id: str) -> None:
        with self._lock:
            del self._pools[pool_id]

    def found(self, pool_id: str, signer: Signer, action: str) -> Pool:
        """Return the signer's pool of that id, once the signer may do *action* with it.

        Raises:
            ApiError: AccessDeniedException, ResourceNotFoundException.
        """
        account, region = signer.identity.account, signer.region
        arn = self._arn(pool_id, account=account, region=region)
        signer.require(action, resource=arn, code=_DENIED)
        pool = self._pools.get(pool_id)
        if pool is None or (pool.account, pool.region) != (account, region):
            raise ApiError("ResourceNotFoundException", f"IdentityPool '{pool_id}' not found.")
        return pool

    def _create(self, params: Params, signer: Signer) -> Result:
        name = protocol.text(params, "IdentityPoolName", most=128, pattern=r"[\w\s+=,.@-]+")
        allows = params.get("AllowUnauthenticatedIdentities")
        if allows is None:
            raise protocol.invalid("null", "AllowUnauthenticatedIdentities", "not be null")
        provider = None
        if "DeveloperProviderName" in params:
            provider = protocol.text(params, "DeveloperProviderName", most=128, pattern=r"[\w._-]+")
        tags = protocol.texts(params, "IdentityPoolTags")
        signer.require("cognito-identity:CreateIdentityPool", code=_DENIED)
        if tags:
            signer.require("cognito-identity:TagResource", code=_DENIED)
        classic = params.get("AllowClassicFlow")
        pool = self.add(
            name,
            developer_provider=provider,
            account=signer.identity.account,
            region=signer.region,
            allows_unauthenticated=allows is True,
            allows_classic_flow=None if classic is None else classic is True,
            tags=tags,
        )
        return _described(pool)

    def _describe(self, params: Params, signer: Signer) -> Result:
        return _described(self._requested(params, signer, "cognito-identity:DescribeIdentityPool"))

    def _list(self, params: Params, signer: Signer) -> Result:
        most = protocol.whole(params, "MaxResults", most=_PAGE_MAX)
        start = protocol.start_of(params)
        signer.require("cognito-identity:ListIdentityPools", code=_DENIED)
        mine = [
            {"IdentityPoolId": pool.pool_id, "IdentityPoolName": pool.name}
            for pool in self.pools(signer.identity.account)
            if pool.region == signer.region
        ]
        rest = start + most < len(mine)
        return {
            "IdentityPools": mine[start : start + most],
            "NextToken": str(start + most) if rest else None,
        }

    def _delete(self, params: Params, signer: Signer) -> Result:
        pool = self._requested(params, signer, "cognito-identity:DeleteIdentityPool")
        self.remove(pool.pool_id)
        return {}

    def _set_roles(self, params: Params, signer: Signer) -> Result:
        """Overwrite the roles; each needs the right to pass it."""
        if params.get("Roles") is None:
            raise protocol.invalid("null", "Roles", "not be null")
        roles = protocol.texts(params, "Roles")
        pool = self._requested(params, signer, "cognito-identity:SetIdentityPoolRoles")
        for kind, arn in roles.items():
            if kind not in ("authenticated", "unauthenticated"):
                raise protocol.invalid(
                    f"'{kind}'", "roles", "satisfy regular expression pattern: (un)?authenticated"
                )
            if not re.fullmatch(_ROLE_ARN, arn, re.ASCII):
                raise ApiError("InvalidParameterException", f"{arn} is not a valid role ARN")
            signer.require("iam:PassRole", resource=arn, code=_DENIED)
        self._put(replace(pool, roles=roles))
        return {}

    def _get_roles(self, params: Params, signer: Signer) -> Result:
        pool = self._requested(params, signer, "cognito-identity:GetIdentityPoolRoles")
        return {"IdentityPoolId": pool.pool_id, "Roles": dict(pool.roles)}

    def _tag(self, params: Params, signer: Signer) -> Result:
        if params.get("Tags") is None:
            raise protocol.invalid("null", "Tags", "not be null")
        tags = protocol.texts(params, "Tags")
        pool = self._of_arn(params, signer, "cognito-identity:TagResource")
        self._put(replace(pool, tags={**pool.tags, **tags}))
        return {}

    def _untag(self, params: Params, signer: Signer) -> Result:
        gone = params.get("TagKeys")
        if not isinstance(gone, list):
            raise protocol.invalid("null", "TagKeys", "not be null")
        pool = self._of_arn(params, signer, "cognito-identity:UntagResource")
        left = {key: value for key, value in pool.tags.items() if key not in gone}
        self._put(replace(pool, tags=left))
        return {}

    def _list_tags(self, params: Params, signer: Signer) -> Result:
        pool = self._of_arn(params, signer, "cognito-identity:ListTagsForResource")
        return {"Tags": dict(pool.tags)}

    def _requested(self, params: Params, signer: Signer, action: str) -> Pool:
        return self.found(protocol.pool_id(params), signer, action)

    def _of_arn(self, params: Params, signer: Signer, action: str) -> Pool:
        arn = protocol.text(params, "ResourceArn", most=2048, pattern=r"\S+")
        pool_id = arn.partition(":identitypool/")[2]
        if not re.fullmatch(protocol.ID, pool_id, re.ASCII):
            raise ApiError("InvalidParameterException", f"{arn} is not the ARN of an identity pool")
        return self.found(pool_id, signer, action)

    def _put(self, pool: Pool) -> None:
        with self._lock:
            self._pools[pool.pool_id] = pool

    def _arn(self, pool_id: str, *, account: str, region: str) -> str:
        return f"arn:{self._partition}:cognito-identity:{region}:{account}:identitypool/{pool_id}"


def _awaited(
    answer: Callable[[Params, Signer], Result],
) -> Callable[[Params, Signer], Awaitable[Result]]:
    async def answered(params: Params, signer: Signer) -> Result:
        return answer(params, signer)

    return answered


def _described(pool: Pool) -> Result:
    return {
        "IdentityPoolId": pool.pool_id,
        "IdentityPoolName": pool.name,
        "AllowUnauthenticatedIdentities": pool.allows_unauthenticated,
        "AllowClassicFlow": pool.allows_classic_flow,
        "DeveloperProviderName": pool.developer_provider,
        "IdentityPoolTags": dict(pool.tags),
    }
