"""Tokens that clients can read, signed by nobody."""

import base64
import json
from datetime import datetime, timedelta

from broker.credentials import IdToken, NamespaceToken
from broker.lease import Lease


def jwt_of(claims: object, *, algorithm: str = "ES256") -> str:
    parts = [json.dumps({"alg": algorithm, "typ": "JWT"}), json.dumps(claims)]
    encoded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def bearer_of(*, ends_at: datetime, prefix: str = "nsct_", **claims: object) -> str:
    return prefix + jwt_of({"exp": int(ends_at.timestamp()), "tenant_id": "ws_1", **claims})


def token_lease(
    now: datetime,
    *,
    life: timedelta = timedelta(hours=1),
    serial: int = 1,
    prefix: str = "nsct_",
    instance_id: str | None = None,
) -> Lease[NamespaceToken]:
    """Return a token that begins *now*; another one for each *serial*."""
    ends_at = now + life
    bearer = bearer_of(ends_at=ends_at, prefix=prefix, jti=str(serial))
    value = NamespaceToken(bearer=bearer, tenant_id="ws_1", instance_id=instance_id)
    return Lease(value=value, issued_at=now, expires_at=ends_at)


def id_token_lease(
    now: datetime,
    *,
    life: timedelta = timedelta(hours=1),
    audience: str = "sts.amazonaws.com",
) -> Lease[IdToken]:
    ends_at = now + life
    claims = {"exp": int(ends_at.timestamp()), "aud": audience, "sub": "ws_1/i-abc"}
    value = IdToken(
        jwt=jwt_of(claims),
        issuer="https://federation.namespaceapis.com",
        subject="ws_1/i-abc",
        audience=audience,
        session_name="nsc.instance=i-abc",
    )
    return Lease(value=value, issued_at=now, expires_at=ends_at)
