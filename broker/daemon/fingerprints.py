"""Tell a lease that is bought otherwise than before from one that is not. Pure; buys nothing."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from msgspec import structs

from broker.config import IdentityConfig, IdTokenConfig, RoleConfig, Upstream

FROM_AWS = ("sts", "cognito")

NAMESPACE_PLACES = (
    *("NSC_TOKEN_SPEC", "NSC_TOKEN_SPEC_FILE", "NSC_TOKEN_FILE", "NSC_METADATA_DIR"),
    *("XDG_CONFIG_HOME", "HOME"),
)
"""What ``source = "auto"`` is led by."""

AWS_SECRETS = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"})
"""What changes while the AWS identity stays who it is."""


def of_identity(identity: IdentityConfig, *, upstream: Upstream, environ: Mapping[str, str]) -> str:
    """Return the fingerprint of an identity's lease: how it is had, whatever it is called."""
    unnamed = structs.replace(identity, name="")
    return _hash("identity", unnamed, upstream, _led_by(identity.source, environ))


def of_role(entry: RoleConfig, *, bearer: str) -> str:
    """Return that of a role's lease; *bearer* is that of the identity it is bought with."""
    return _hash("role", replace(entry.role, name=""), entry.audience, bearer)


def of_id_token(entry: IdTokenConfig, *, bearer: str) -> str:
    """Return that of a kept ID token."""
    return _hash("id-token", entry.audience, bearer)


def _led_by(source: str, environ: Mapping[str, str]) -> Mapping[str, str | None]:
    if source in FROM_AWS:
        return {
            name: value
            for name, value in sorted(environ.items())
            if name == "HOME" or (name.startswith("AWS_") and name not in AWS_SECRETS)
        }
    return {name: environ.get(name) for name in NAMESPACE_PLACES} if source == "auto" else {}


def _hash(kind: str, *parameters: object) -> str:
    # Of the values' own spelling: the same in every process, and each of their fields in it.
    return sha256(f"{kind} {parameters!r}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
