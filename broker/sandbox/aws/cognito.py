"""Cognito's tokens for who logs in by the developer provider of an identity pool.

Source: aws-api.md 7.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from threading import Lock

from broker.sandbox.aws import cognito_params as given
from broker.sandbox.aws.cognito_params import Params
from broker.sandbox.aws.identity_pools import IdentityPools, Pool
from broker.sandbox.aws.operations import Signer
from broker.sandbox.aws.query import AwsError
from broker.sandbox.issuers import Issuers
from broker.sandbox.keys import SigningKey

ISSUER = "https://cognito-identity.amazonaws.com"
TARGET = "AWSCognitoIdentityService"
DEVELOPER_LOGIN = "GetOpenIdTokenForDeveloperIdentity"

Result = Mapping[str, object]

_TOKEN_DEFAULT_S, _TOKEN_MAX_S = 900, 86400
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


class Cognito:
    """Cognito Identity of every account and region: ``pools``, and who logs in by them."""

    def __init__(
        self, issuers: Issuers, pools: IdentityPools, *, now: Callable[[], datetime]
    ) -> None:
        self._issuers = issuers
        self._pools = pools
        self._now = now
        self._lock = Lock()
        self._keys: dict[str, SigningKey] = {}
        self._identities: dict[tuple[str, str], str] = {}
        issuers.publish(ISSUER)  # it is there before anybody has a token of it
        self.operations: Mapping[str, Callable[[Params, Signer], Awaitable[Result]]] = {
            **pools.operations,
            DEVELOPER_LOGIN: self._get_token,
        }

    async def _get_token(self, params: Params, signer: Signer) -> Result:
        pool_id = given.pool_id(params)
        logins = given.logins(params)
        duration_s = given.whole(
            params, "TokenDuration", most=_TOKEN_MAX_S, default=_TOKEN_DEFAULT_S
        )
        action = f"cognito-identity:{DEVELOPER_LOGIN}"
        pool = self._pools.found(pool_id, signer, action)
        login = _developer_login(logins, pool)
        identity_id = None
        if "IdentityId" in params:
            identity_id = given.text(
                params, "IdentityId", most=given.ID_CHARACTERS, pattern=given.ID
            )
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
        return self._key_of(pool.region).sign(claims, typ="JWS")

    def _key_of(self, region: str) -> SigningKey:
        with self._lock:
            if region not in self._keys:
                self._keys[region] = SigningKey("RS512", kid=f"{region}5")
                self._issuers.publish(ISSUER, self._keys[region])
            return self._keys[region]

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
