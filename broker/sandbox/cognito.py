"""Cognito's identity pools, and the tokens for who logs in by a pool's developer provider.

Source: aws-api.md 7.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from broker.sandbox.constraints import complaint
from broker.sandbox.issuers import Issuers
from broker.sandbox.keys import SigningKey
from broker.sandbox.operations import Signer
from broker.sandbox.query import AwsError

ISSUER = "https://cognito-identity.amazonaws.com"
TARGET = "AWSCognitoIdentityService"
DEVELOPER_LOGIN = "GetOpenIdTokenForDeveloperIdentity"

Params = Mapping[str, object]
Result = Mapping[str, object]

_ID = r"[\w-]+:[0-9a-f-]+"
_ID_CHARACTERS = 55
_TOKEN_DEFAULT_S, _TOKEN_MAX_S = 900, 86400
_LOGINS, _LOGIN_CHARACTERS = 10, 1024
_POOLS_AT_ONCE = 60
_PUBLIC_PROVIDERS = frozenset(
    {
        "accounts.google.com",
        "api.twitter.com",
        "appleid.apple.com",
        "graph.facebook.com",
        "www.amazon.com",
        "www.digits.com",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One identity pool; its developer provider, if any, is for ever."""

    pool_id: str
    name: str
    account: str
    region: str
    developer_provider: str | None = None
    allows_unauthenticated: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return _pool_arn(self.pool_id, account=self.account, region=self.region)


class Cognito:
    """The pools of every account and region. Who may manage pools is not asked; who may have
    a token is."""

    def __init__(self, issuers: Issuers, *, now: Callable[[], datetime]) -> None:
        self._issuers = issuers
        self._now = now
        self._lock = Lock()
        self._keys: dict[str, SigningKey] = {}
        self._pools: dict[str, Pool] = {}
        self._identities: dict[tuple[str, str], str] = {}
        self.operations: Mapping[str, Callable[[Params, Signer], Awaitable[Result]]] = {
            "CreateIdentityPool": self._create,
            "DescribeIdentityPool": self._describe,
            "ListIdentityPools": self._list,
            DEVELOPER_LOGIN: self._get_token,
        }

    def add_pool(
        self,
        name: str,
        *,
        developer_provider: str | None,
        account: str,
        region: str,
        allows_unauthenticated: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Pool:
        """Make a pool; like AWS, another one each time, whatever its name."""
        pool = Pool(
            pool_id=f"{region}:{uuid.uuid4()}",
            name=name,
            account=account,
            region=region,
            developer_provider=developer_provider,
            allows_unauthenticated=allows_unauthenticated,
            tags=tags or {},
        )
        with self._lock:
            self._pools[pool.pool_id] = pool
            if region not in self._keys:
                self._keys[region] = SigningKey("RS512", kid=f"{region}5")
                self._issuers.publish(ISSUER, self._keys[region])
        return pool

    def pool(self, pool_id: str) -> Pool | None:
        return self._pools.get(pool_id)

    def remove_pool(self, pool_id: str) -> None:
        with self._lock:
            del self._pools[pool_id]

    # Pools.

    async def _create(self, params: Params, signer: Signer) -> Result:
        name = _text(params, "IdentityPoolName", most=128, pattern=r"[\w\s+=,.@-]+")
        allows = params.get("AllowUnauthenticatedIdentities")
        if allows is None:
            raise _invalid("null", "AllowUnauthenticatedIdentities", "not be null")
        provider = None
        if "DeveloperProviderName" in params:
            provider = _text(params, "DeveloperProviderName", most=128, pattern=r"[\w._-]+")
        pool = self.add_pool(
            name,
            developer_provider=provider,
            account=signer.identity.account,
            region=signer.region,
            allows_unauthenticated=allows is True,
            tags=_texts(params, "IdentityPoolTags"),
        )
        return _described(pool)

    async def _describe(self, params: Params, signer: Signer) -> Result:
        return _described(self._found(_pool_id(params), signer))

    async def _list(self, params: Params, signer: Signer) -> Result:
        most = _whole(params, "MaxResults", most=_POOLS_AT_ONCE)
        start = _start_of(params)
        mine = [
            {"IdentityPoolId": pool.pool_id, "IdentityPoolName": pool.name}
            for pool in list(self._pools.values())
            if (pool.account, pool.region) == (signer.identity.account, signer.region)
        ]
        rest = start + most < len(mine)
        return {
            "IdentityPools": mine[start : start + most],
            "NextToken": str(start + most) if rest else None,
        }

    def _found(self, pool_id: str, signer: Signer) -> Pool:
        pool = self._pools.get(pool_id)
        if pool is None or (pool.account, pool.region) != (signer.identity.account, signer.region):
            raise AwsError("ResourceNotFoundException", f"IdentityPool '{pool_id}' not found.")
        return pool

    # Tokens.

    async def _get_token(self, params: Params, signer: Signer) -> Result:
        pool_id = _pool_id(params)
        logins = _logins(params)
        duration_s = _whole(params, "TokenDuration", most=_TOKEN_MAX_S, default=_TOKEN_DEFAULT_S)
        arn = _pool_arn(pool_id, account=signer.identity.account, region=signer.region)
        if refusal := signer.refusal(f"cognito-identity:{DEVELOPER_LOGIN}", resource=arn):
            raise AwsError("AccessDeniedException", refusal)
        pool = self._found(pool_id, signer)
        login = _developer_login(logins, pool)
        identity_id = None
        if "IdentityId" in params:
            identity_id = _text(params, "IdentityId", most=_ID_CHARACTERS, pattern=_ID)
        identity_id = self._identity(pool, login, wanted=identity_id)
        token = self.token(pool, login=login, identity_id=identity_id, lifetime_s=duration_s)
        return {"IdentityId": identity_id, "Token": token}

    def token(self, pool: Pool, *, login: str, identity_id: str, lifetime_s: int) -> str:
        issued_at = int(self._now().timestamp())
        provider = pool.developer_provider
        claims = {
            "sub": identity_id,
            "aud": pool.pool_id,
            "amr": ["authenticated", provider, f"{provider}:{pool.pool_id}:{login}"],
            "iss": ISSUER,
            f"{ISSUER}/identity-pool-arn": pool.arn,
            "iat": issued_at,
            "exp": issued_at + lifetime_s,
        }
        return self._keys[pool.region].sign(claims, typ="JWS")

    def _identity(self, pool: Pool, login: str, *, wanted: str | None) -> str:
        """Return the identity of *login*, the same each time; *wanted* links a new login to an
        identity that is there."""
        with self._lock:
            known = self._identities.get((pool.pool_id, login))
            if wanted is None:
                return self._identities.setdefault(
                    (pool.pool_id, login), known or f"{pool.region}:{uuid.uuid4()}"
                )
            in_pool = {id_ for (owner, _), id_ in self._identities.items() if owner == pool.pool_id}
            if wanted not in in_pool:
                raise AwsError("ResourceNotFoundException", f"Identity '{wanted}' not found.")
            if known not in (None, wanted):
                raise AwsError(
                    "DeveloperUserAlreadyRegisteredException",
                    "Developer user is already registered with another identity",
                )
            self._identities[(pool.pool_id, login)] = wanted
            return wanted


def _pool_arn(pool_id: str, *, account: str, region: str) -> str:
    return f"arn:aws:cognito-identity:{region}:{account}:identitypool/{pool_id}"


def _described(pool: Pool) -> Result:
    return {
        "IdentityPoolId": pool.pool_id,
        "IdentityPoolName": pool.name,
        "AllowUnauthenticatedIdentities": pool.allows_unauthenticated,
        "DeveloperProviderName": pool.developer_provider,
        "IdentityPoolTags": dict(pool.tags),
    }


def _developer_login(logins: Mapping[str, str], pool: Pool) -> str:
    """Return who logs in by the pool's developer provider; the pools here have no other."""
    others = set(logins) - {pool.developer_provider}
    if not logins or others & _PUBLIC_PROVIDERS:
        raise AwsError(
            "NotAuthorizedException",
            "Logins don't match. Please include at least one valid login for this identity or "
            "identity pool.",
        )
    if others or pool.developer_provider is None:
        raise AwsError(
            "InvalidParameterException",
            "This identity pool does not support the specified developer provider",
        )
    return logins[pool.developer_provider]


# Parameters.


def _invalid(shown: str, name: str, constraint: str) -> AwsError:
    return AwsError("ValidationException", complaint(shown, name, constraint))


def _unreadable(name: str) -> AwsError:
    return AwsError("SerializationException", f"{name} is not of its type")


def _text(params: Params, name: str, *, most: int, pattern: str) -> str:
    value = params.get(name)
    if value is None:
        raise _invalid("null", name, "not be null")
    if not isinstance(value, str):
        raise _unreadable(name)
    if not 1 <= len(value) <= most:
        raise _invalid(f"'{value}'", name, f"have length from 1 to {most}")
    if not re.fullmatch(pattern, value, re.ASCII):
        raise _invalid(f"'{value}'", name, f"satisfy regular expression pattern: {pattern}")
    return value


def _texts(params: Params, name: str) -> dict[str, str]:
    value = params.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise _unreadable(name)
    return value


def _whole(params: Params, name: str, *, most: int, default: int | None = None) -> int:
    value = params.get(name, default)
    if value is None:
        raise _invalid("null", name, "not be null")
    if type(value) is not int:
        raise _unreadable(name)
    if value < 1:
        raise _invalid(f"'{value}'", name, "have value greater than or equal to 1")
    if value > most:
        raise _invalid(f"'{value}'", name, f"have value less than or equal to {most}")
    return value


def _pool_id(params: Params) -> str:
    return _text(params, "IdentityPoolId", most=_ID_CHARACTERS, pattern=_ID)


def _start_of(params: Params) -> int:
    text = _text(params, "NextToken", most=65535, pattern=r"\S+") if "NextToken" in params else "0"
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise AwsError("InvalidParameterException", "Invalid NextToken")
    return int(text)


def _logins(params: Params) -> dict[str, str]:
    if params.get("Logins") is None:
        raise _invalid("null", "Logins", "not be null")
    logins = _texts(params, "Logins")
    if len(logins) > _LOGINS:
        raise _invalid("'{…}'", "Logins", f"have length less than or equal to {_LOGINS}")
    for login in logins.values():
        if not 1 <= len(login) <= _LOGIN_CHARACTERS:
            raise _invalid(f"'{login}'", "logins", f"have length from 1 to {_LOGIN_CHARACTERS}")
    return logins
