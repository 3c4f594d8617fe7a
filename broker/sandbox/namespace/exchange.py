"""Exchange a foreign token for a tenant token: verify it over HTTP, match it with the trust.

Source: namespace-api.md 6.4 and 6.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import aiohttp

from broker.sandbox import oidc_verifier
from broker.sandbox.namespace import relationships
from broker.sandbox.namespace.federation import Federation
from broker.sandbox.namespace.methods import (
    TENANTS,
    Anonymous,
    Choices,
    Document,
    Params,
    optional_text,
    text,
)
from broker.sandbox.namespace.relationships import Relationship
from broker.sandbox.namespace.rpc_errors import RpcError
from broker.sandbox.namespace.tokens import Tokens

COGNITO_ISSUER = "https://cognito-identity.amazonaws.com"

_CLOCK_SKEW_S = 60


class ExchangeMethods:
    """The RPCs that exchange an OIDC token and a Cognito token.

    *resolve_at* gives the URL below which an issuer's discovery document is read, *tenant* the
    members by which an answer names a workspace.
    """

    def __init__(
        self,
        *,
        federation: Federation,
        tokens: Tokens,
        choices: Choices,
        resolve_at: Callable[[str], str | None],
        tenant: Callable[[str], Document],
        jwks_timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._federation = federation
        self._tokens = tokens
        self._choices = choices
        self._resolve_at = resolve_at
        self._tenant = tenant
        self._jwks_timeout_s = jwks_timeout_s
        self._now = now
        self._http: aiohttp.ClientSession | None = None
        self.methods: Mapping[str, Anonymous] = {
            f"{TENANTS}/ExchangeOIDCToken": self._exchange_oidc_token,
            f"{TENANTS}/ExchangeAWSCognitoJWT": self._exchange_cognito_token,
        }

    async def start(self) -> None:
        self._http = aiohttp.ClientSession()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _exchange_oidc_token(self, params: Params) -> Document:
        token = text(params, "oidc_token")
        candidates = self._workspaces(optional_text(params, "tenant_id"))
        issuer = self._issuer_of(token)
        trusting = [one for one in candidates if self._relationships(one).has_issuer(issuer)]
        if not trusting:
            raise self._refused("the token's issuer is not trusted")
        claims = await self._verified(token, issuer)
        admitted: dict[str, Relationship] = {}
        for workspace in trusting:
            relationship = self._relationships(workspace).admitting(claims)
            if relationship is not None:
                admitted[workspace] = relationship
        if not admitted:
            raise self._refused("no trust relationship admits the token")
        if len(admitted) > 1:
            raise RpcError("INVALID_ARGUMENT", "several workspaces admit the token: name one")
        [(workspace, relationship)] = admitted.items()
        return self._exchanged(
            workspace,
            actor_id=str(relationship["id"]),
            lifetime_s=relationships.lifetime_s(relationship),
            permissions=relationships.permissions(relationship),
        )

    async def _exchange_cognito_token(self, params: Params) -> Document:
        token = text(params, "aws_cognito_token")
        [workspace] = self._workspaces(text(params, "tenant_id"))
        if self._issuer_of(token) != COGNITO_ISSUER:
            raise self._refused("the token is not from Cognito")
        claims = await self._verified(token, COGNITO_ISSUER)
        listed = claims.get("amr")
        methods = listed if isinstance(listed, list) else []
        for pool_id, provider in self._federation.of(workspace).pools:
            login = f"{provider}:{pool_id}:{workspace}"
            if claims.get("aud") == pool_id and login in methods:
                return self._exchanged(workspace, actor_id=pool_id.partition(":")[2])
        raise self._refused("no trusted identity pool admits the token")

    def _workspaces(self, tenant_id: str) -> tuple[str, ...]:
        """Return the workspaces that *tenant_id* may mean."""
        known = self._federation.workspaces()
        if not tenant_id and self._choices.tenant_id_required:
            raise RpcError("INVALID_ARGUMENT", "tenant_id is required")
        if not tenant_id:
            return known
        if tenant_id not in known:
            raise self._refused("there is no such workspace")
        return (tenant_id,)

    def _relationships(self, workspace: str) -> relationships.RelationshipList:
        return self._federation.of(workspace).relationships

    def _issuer_of(self, token: str) -> str:
        try:
            return str(oidc_verifier.unverified_claims(token).get("iss"))
        except oidc_verifier.NotAToken:
            raise self._refused("the token is not a JWT") from None

    async def _verified(self, token: str, issuer: str) -> Mapping[str, object]:
        resolve_at = self._resolve_at(issuer)
        if resolve_at is None:
            raise self._refused("the token's issuer is not known")
        assert self._http is not None
        try:
            claims = await oidc_verifier.verified_claims(
                token,
                issuer=issuer,
                resolve_at=resolve_at,
                session=self._http,
                timeout_s=self._jwks_timeout_s,
            )
        except oidc_verifier.UnknownKey:
            raise self._refused("the token's key is not one of its issuer's") from None
        except oidc_verifier.KeyUnavailable:
            raise RpcError("UNAVAILABLE", "the issuer's keys could not be read") from None
        except oidc_verifier.BadSignature:
            raise self._refused("the token's signature is not valid") from None
        self._check_times(claims)
        return claims

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now = self._now().timestamp()
        ends_at = claims.get("exp")
        if not isinstance(ends_at, (int, float)) or ends_at <= now:
            raise self._refused("the token has expired")
        for claim in ("iat", "nbf"):
            value = claims.get(claim, 0)
            if not isinstance(value, (int, float)) or value > now + _CLOCK_SKEW_S:
                raise self._refused("the token is not yet valid")

    def _refused(self, message: str) -> RpcError:
        return RpcError(self._choices.refusal_code, message)

    def _exchanged(
        self,
        workspace: str,
        *,
        actor_id: str,
        lifetime_s: float | None = None,
        permissions: tuple[str, ...] | None = None,
    ) -> Document:
        token = self._tokens.mint(
            "nsct",
            workspace=workspace,
            lifetime_s=self._choices.exchanged_lifetime_s if lifetime_s is None else lifetime_s,
            actor_id=actor_id,
            permissions=permissions,
        )
        return {"tenant_token": token, **self._tenant(workspace)}
