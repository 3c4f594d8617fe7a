"""Namespace's bearer tokens: mint, check and revoke them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import jwt

from broker.sandbox.keys import SigningKey

Kind = Literal["st", "nsct", "nscw", "nsrt"]
"""The prefix of a token, which is its kind. Source: namespace-api.md 4.1."""

_ISSUED_BY = "https://iam.namespaceapis.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whom a checked token speaks for; ``permissions`` is None for full access."""

    kind: Kind
    token_id: str
    workspace: str
    actor_id: str
    instance_id: str | None = None
    expires_at: datetime | None = None
    permissions: tuple[str, ...] | None = None


class Unauthenticated(Exception):
    """The token is not valid; the text is the API's message."""


class Tokens:
    """Every token of one Namespace, by the sandbox's clock."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._key = SigningKey("ES256")
        self._opaque: dict[str, Bearer] = {}
        self._permissions: dict[str, tuple[str, ...]] = {}
        self._revoked: set[str] = set()

    def mint(
        self,
        kind: Kind,
        *,
        workspace: str,
        lifetime_s: float,
        actor_id: str,
        instance_id: str = "",
        permissions: tuple[str, ...] | None = None,
    ) -> str:
        """Make a JWT token (``st_``, ``nsct_``, ``nscw_``), expired if *lifetime_s* is negative.

        Its permissions are kept here, not in its claims. Source: namespace-api.md 4.2.
        """
        token_id = secrets.token_hex(8)
        if permissions is not None:
            self._permissions[token_id] = permissions
        issued_at = int(self._now().timestamp())
        claims: dict[str, object] = {
            "iss": _ISSUED_BY,
            "jti": token_id,
            "kind": kind,
            "tenant_id": workspace,
            "actor_id": actor_id,
            "iat": issued_at,
            "exp": issued_at + lifetime_s,
        }
        if instance_id:
            claims["instance_id"] = instance_id
        return f"{kind}_{self._key.sign(claims)}"

    def mint_opaque(
        self, *, workspace: str, lifetime_s: float | None, permissions: tuple[str, ...] | None
    ) -> str:
        token = f"nsrt_{secrets.token_urlsafe(32)}"
        token_id = f"tok_{secrets.token_hex(6)}"
        ends_at = None if lifetime_s is None else self._now() + timedelta(seconds=lifetime_s)
        self._opaque[token] = Bearer(
            kind="nsrt",
            token_id=token_id,
            workspace=workspace,
            actor_id=token_id,
            expires_at=ends_at,
            permissions=permissions,
        )
        return token

    def revoke(self, token: str) -> None:
        """Revoke *token*.

        Raises:
            Unauthenticated: It was not issued here.
        """
        self._revoked.add(self._read(token).token_id)

    def check(self, token: str) -> Bearer:
        """Return whom *token* speaks for.

        Raises:
            Unauthenticated: It is unknown, forged, expired or revoked.
        """
        bearer = self._read(token)
        if bearer.token_id in self._revoked:
            raise Unauthenticated("token has been revoked")
        if bearer.expires_at is not None and bearer.expires_at <= self._now():
            raise Unauthenticated("token has expired")
        return bearer

    def _read(self, token: str) -> Bearer:
        if token in self._opaque:
            return self._opaque[token]
        prefix, _, encoded = token.partition("_")
        try:
            claims = self._key.verify(encoded)
        except jwt.PyJWTError:
            raise Unauthenticated("token is not valid") from None
        if claims["kind"] != prefix:
            raise Unauthenticated("token does not have the kind of its prefix")
        return Bearer(
            kind=claims["kind"],
            token_id=claims["jti"],
            workspace=claims["tenant_id"],
            actor_id=claims["actor_id"],
            instance_id=claims.get("instance_id"),
            expires_at=datetime.fromtimestamp(claims["exp"], tz=self._now().tzinfo),
            permissions=self._permissions.get(claims["jti"]),
        )
