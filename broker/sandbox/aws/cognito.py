"""Cognito's tokens for logins by the developer provider of an identity pool.

Source: aws-api.md 7.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from threading import Lock

from broker.sandbox.aws import cognito_protocol as protocol
from broker.sandbox.aws.cognito_protocol import Params
from broker.sandbox.aws.identity_pools import IdentityPools, Pool
from broker.sandbox.aws.operations import Signer
from broker.sandbox.aws.query import ApiError
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
    """Cognito Identity of every account and region."""

    def __init__(
        self, issuers: Issuers, pools: IdentityPools, *, now: Callable[[], datetime]
    ) -> None:
        self._issuers = issuers
        self._pools = pools
        self._now = now
        self._lock = Lock()
        self._keys: dict[str, SigningKey] = {}
        self._identities: dict[tuple[str, str], str] = {}
        issuers.publish(ISSUER)  # published before the first token is issued
        self.operations: Mapping[str, Callable[[Params, Signer], Awaitable[Result]]] = {
            **pools.operations,
            DEVELOPER_LOGIN: self._get_token,
        }

    async def _get_token(self, params: Params, signer: Signer) -> Result:
        pool_id = protocol.pool_id(params)
        logins = protocol.logins(params)
        duration_s = protocol.whole(
            params, "TokenDuration", most=_TOKEN_MAX_S, default=_TOKEN_DEFAULT_S
        )
        action = f"cognito-identity:{DEVELOPER_LOGIN}"
        pool = self._pools.found(pool_id, signer, action)
        login = _developer_login(logins, pool)
        identity_id = None
        if "IdentityId" in params:
            identity_id = protocol.text(
                params, "IdentityId", most=protocol.ID_CHARACTERS, pattern=protocol.ID
            )
        identity_id = self._identity(pool, login, requested=identity_id)
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

    def _identity(self, pool: Pool, login: str, *, requested: str | None) -> str:
        """Return the identity of *login*, the same each time.

        *requested* links a new login to an existing identity.
        """
        with self._lock:
            known = self._identities.get((pool.pool_id, login))
            if requested is None:
                return self._identities.setdefault(
                    (pool.pool_id, login), known or f"{pool.region}:{uuid.uuid4()}"
                )
            in_pool = {id_ for (owner, _), id_ in self._identities.items() if owner == pool.pool_id}
            if requested not in in_pool:
                raise ApiError("ResourceNotFoundException", f"Identity '{requested}' not found.")
            if known not in (None, requested):
                raise ApiError(
                    "DeveloperUserAlreadyRegisteredException",
                    "Developer user is already registered with another identity",
                )
            self._identities[(pool.pool_id, login)] = requested
            return requested


def _developer_login(logins: Mapping[str, str], pool: Pool) -> str:
    """Return the login at the pool's developer provider; pools here have no other provider."""
    others = set(logins) - {pool.developer_provider}
    if not logins or others & _PUBLIC_PROVIDERS:
        raise ApiError(
            "NotAuthorizedException",
            "Logins don't match. Please include at least one valid login for this identity or "
            "identity pool.",
        )
    if others or pool.developer_provider is None:
        raise ApiError(
            "InvalidParameterException",
            "This identity pool does not support the specified developer provider",
        )
    return logins[pool.developer_provider]
