"""Would what stands in AWS let an identity of Namespace in, check by check. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from broker import policy
from broker.policy import Verdict
from broker.setup.providers import FoundProvider
from broker.setup.roles import FoundRole
from broker.setup.wanted import OidcProvider, Role

__all__ = ["Verdict", "admission"]


def admission(
    provider: tuple[OidcProvider, FoundProvider | None],
    role: tuple[Role, FoundRole | None],
    *,
    claims: Mapping[str, object],
) -> Verdict:
    """Judge the claims of an ID token, in the order in which STS does."""
    wanted, found = provider
    if found is None:
        return _no(f"the account has no OIDC provider for {wanted.url}")
    if claims.get("iss") != wanted.url:
        return _no(f"the token is of {claims.get('iss')}, the OIDC provider is for {wanted.url}")
    presented = claims.get("aud")
    audiences = presented if isinstance(presented, list) else [presented]
    if not any(audience in found.audiences for audience in audiences):
        taken = ", ".join(found.audiences) or "none"
        return _no(f"the OIDC provider takes the audiences {taken}, the token has {presented}")
    wanted_role, found_role = role
    if found_role is None:
        return _no(f"there is no role {wanted_role.name}")
    return policy.role_admits_web_identity(
        found_role.trust_policy, provider_arn=wanted.arn, claims=claims
    )


def _no(reason: str) -> Verdict:
    return Verdict(admitted=False, reason=reason)
