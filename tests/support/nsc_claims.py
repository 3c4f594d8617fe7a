"""What Namespace's own clients read in a token before they use it, without verifying it.

Source: namespace-api 3.1, 4.1, 4.2.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime

KNOWN_PREFIXES = ("st_", "nsct_", "nscw_")
KNOWN_ALGORITHMS = frozenset(
    {"none", "EdDSA"}
    | {f"{kind}{bits}" for kind in ["HS", "RS", "PS", "ES"] for bits in (256, 384, 512)}
)


class NotLoggedIn(Exception):
    """The reader gives up; the text is what its user would see."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """``expires_at`` is None where the token does not say, which counts as expired."""

    expires_at: datetime | None
    tenant_id: str | None
    instance_id: str | None

    def outlives(self, instant: datetime) -> bool:
        """Strictly: a token that ends now has ended."""
        return self.expires_at is not None and self.expires_at > instant


def claims_of(token: str) -> Claims:
    """Return what a session, tenant or workload token says of itself.

    Raises:
        NotLoggedIn: Its prefix is not known, or what follows is no JWT.
    """
    prefix = next((each for each in KNOWN_PREFIXES if token.startswith(each)), None)
    if prefix is None:
        raise NotLoggedIn("not logged in")
    parts = token.removeprefix(prefix).split(".")
    if len(parts) != 3:
        raise NotLoggedIn("not a token of three parts")
    header, payload = _object(parts[0]), _object(parts[1])
    if header.get("alg") not in KNOWN_ALGORITHMS:
        raise NotLoggedIn("a token of an unknown algorithm")
    return Claims(
        expires_at=_instant(payload.get("exp")),
        tenant_id=payload.get("tenant_id"),
        instance_id=payload.get("instance_id"),
    )


def _object(part: str) -> dict[str, str]:
    if "=" in part or "+" in part or "/" in part:
        raise NotLoggedIn("not URL-safe base64 without padding")
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError) as error:
        raise NotLoggedIn("a token that cannot be decoded") from error
    if not isinstance(value, dict):
        raise NotLoggedIn("a token whose part is no object")
    return value


def _instant(seconds: object) -> datetime | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | str):
        raise NotLoggedIn("a token whose exp is no number")
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except ValueError as error:
        raise NotLoggedIn("a token whose exp is no number") from error
