"""Read what a token says of itself, unverified. Errors never contain the token."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from broker.clock import ClockSkew
from broker.credentials import NamespaceToken, jwt_payload, numeric_date
from broker.lease import Lease

T = TypeVar("T")

_SELF_DESCRIBING = ("nsct_", "nscw_")
_OPAQUE = "nsrt_"
_SESSION = "st_"


class InvalidToken(ValueError):
    """The text is no token that belongs here; the message continues "the token …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims that sources need, each None where absent or of the wrong type."""

    issued_at: datetime | None = None
    expires_at: datetime | None = None
    tenant_id: str | None = None
    instance_id: str | None = None
    issuer: str | None = None
    subject: str | None = None
    audiences: tuple[str, ...] = ()


def parse_claims(jwt: str) -> Claims:
    """Return the claims of a JWT without prefix, unverified.

    Raises:
        InvalidToken: It is no JWT.

    Source: namespace-api 3.1, 4.2, 12.
    """
    payload = jwt_payload(jwt)
    if payload is None:
        raise InvalidToken("is not a JWT of three parts whose payload is a JSON object")
    audience = payload.get("aud")
    return Claims(
        issued_at=numeric_date(payload.get("iat")),
        expires_at=numeric_date(payload.get("exp")),
        tenant_id=text_field(payload, "tenant_id"),
        instance_id=text_field(payload, "instance_id"),
        issuer=text_field(payload, "iss"),
        subject=text_field(payload, "sub"),
        audiences=_texts(audience if isinstance(audience, list) else [audience]),
    )


def bearer_lease(bearer: str, *, now: datetime) -> Lease[NamespaceToken]:
    """Return *bearer* as a lease, which may have ended. An ``nsrt_`` token has no known end.

    Raises:
        InvalidToken: It is no tenant, workload or revocable token.

    Source: namespace-api 3.1, 4.1.
    """
    _require_visible(bearer)
    if bearer.startswith(_OPAQUE) and len(bearer) > len(_OPAQUE):
        return Lease(value=NamespaceToken(bearer=bearer), issued_at=now, expires_at=None)
    if bearer.startswith(_SESSION):
        raise InvalidToken("is a session token (st_), which belongs in session_token")
    if not bearer.startswith(_SELF_DESCRIBING):
        raise InvalidToken("does not begin as Namespace's do (nsct_, nscw_ or nsrt_)")
    claims = parse_claims(bearer.partition("_")[2])
    if claims.expires_at is None:
        raise InvalidToken("does not say when it ends (no exp claim)")
    return Lease(
        value=NamespaceToken(
            bearer=bearer, tenant_id=claims.tenant_id, instance_id=claims.instance_id
        ),
        issued_at=issued_at_of(claims, now=now),
        expires_at=claims.expires_at,
    )


def issued_lease(bearer: str, *, now: datetime, assumed_life: timedelta) -> Lease[NamespaceToken]:
    """Return *bearer*, which Namespace has just issued, as a lease.

    One that does not say when it ends is taken to live for *assumed_life*.

    Raises:
        InvalidToken: It does not begin as Namespace's do.

    Source: namespace-api 4.3, 12.
    """
    _require_visible(bearer)
    if not bearer.startswith((*_SELF_DESCRIBING, _OPAQUE)):
        raise InvalidToken("does not begin as Namespace's do (nsct_, nscw_ or nsrt_)")
    try:
        lease = bearer_lease(bearer, now=now)
    except InvalidToken:
        lease = Lease(value=NamespaceToken(bearer=bearer), issued_at=now, expires_at=None)
    if lease.expires_at is not None:
        return lease
    return Lease(value=lease.value, issued_at=now, expires_at=now + assumed_life)


def to_local(lease: Lease[T], skew: ClockSkew) -> Lease[T]:
    """Return *lease*, whose times are by the clouds' clock, by this host's."""
    if not skew.ahead:
        return lease
    ends_at = lease.expires_at
    return Lease(
        value=lease.value,
        issued_at=skew.to_local(lease.issued_at),
        expires_at=ends_at and skew.to_local(ends_at),
    )


def session_expiry(session: str) -> datetime | None:
    """Return when a session token ends, where it says so.

    Raises:
        InvalidToken: It is no session token.
    """
    _require_visible(session)
    if not session.startswith(_SESSION):
        raise InvalidToken("is no session token (st_)")
    return parse_claims(session.removeprefix(_SESSION)).expires_at


def issued_at_of(claims: Claims, *, now: datetime) -> datetime:
    """Return when the token was issued; *now* where that is unknown or in the future."""
    return now if claims.issued_at is None else min(claims.issued_at, now)


def text_field(document: Mapping[str, object], *keys: str) -> str | None:
    """Return the first of *keys* in *document* that holds a non-empty text."""
    found = (document.get(key) for key in keys)
    return next((value for value in found if isinstance(value, str) and value), None)


def duration_text(life: timedelta) -> str:
    """Return *life* for a message: ``40 s``, ``3 min``, ``5 h``, ``30 days``."""
    seconds = int(life.total_seconds())
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _require_visible(token: str) -> None:
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidToken("is empty, or has whitespace or other characters that no token has")


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str) and value)
