"""Fingerprint how a lease is obtained, so that a reload keeps unchanged ones."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from broker.config import IdentityConfig, IdTokenConfig, RoleConfig, Upstream, replace_keys

FROM_AWS = ("sts", "cognito")

NAMESPACE_PLACES = (
    *("NSC_TOKEN_SPEC", "NSC_TOKEN_SPEC_FILE", "NSC_TOKEN_FILE", "NSC_METADATA_DIR"),
    *("XDG_CONFIG_HOME", "HOME"),
)
"""The variables that ``source = "auto"`` reads."""

AWS_SECRETS = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"})
"""Variables that change while the AWS identity stays the same."""


def of_identity(identity: IdentityConfig, *, upstream: Upstream, environ: Mapping[str, str]) -> str:
    """Return the fingerprint of an identity's lease, whatever its name."""
    nameless = replace_keys(identity, name="")
    return _hash("identity", nameless, upstream, _variables_read_by(identity.source, environ))


def of_role(entry: RoleConfig, *, bearer: str) -> str:
    """Return the fingerprint of a role's lease; *bearer* is that of its identity."""
    return _hash("role", replace(entry.role, name=""), entry.audience, bearer)


def of_id_token(entry: IdTokenConfig, *, bearer: str) -> str:
    """Return the fingerprint of a kept ID token."""
    return _hash("id-token", entry.audience, bearer)


def _variables_read_by(source: str, environ: Mapping[str, str]) -> Mapping[str, str | None]:
    if source in FROM_AWS:
        return {
            name: value
            for name, value in sorted(environ.items())
            if name == "HOME" or (name.startswith("AWS_") and name not in AWS_SECRETS)
        }
    return {name: environ.get(name) for name in NAMESPACE_PLACES} if source == "auto" else {}


def _hash(kind: str, *parameters: object) -> str:
    # repr is the same in every process, and has every field in it.
    return sha256(f"{kind} {parameters!r}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
