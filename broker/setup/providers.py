"""How an OIDC provider that is wanted compares with one that stands. Pure.

Thumbprints are not compared: AWS trusts the issuer's certificate by its own roots.
Source: aws-api 6.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.setup import roles
from broker.setup.documents import statements_of, texts
from broker.setup.steps import Standing, Step
from broker.setup.wanted import Document, OidcProvider, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundProvider:
    """A provider that stands. ``is_ours``: it carries our tag. ``trusted_by`` are the trust
    policies of the roles that name it, by role; None unless it was read deeply."""

    audiences: tuple[str, ...]
    is_ours: bool = False
    trusted_by: Mapping[str, Document] | None = None


def step(wanted: OidcProvider, found: FoundProvider | None) -> Step:
    title = f"OIDC provider {wanted.url}"
    if found is None:
        return Step(
            kind="create",
            resource=wanted,
            title=title,
            diff=(
                *(f"+ audience {audience}" for audience in wanted.audiences),
                *(f"+ thumbprint {thumbprint}" for thumbprint in wanted.thumbprints),
            ),
        )
    lacking = audiences_lacking(wanted, found)
    return Step(
        kind="change" if lacking else "keep",
        resource=wanted,
        title=title,
        diff=tuple(f"+ audience {audience}" for audience in lacking),
    )


def audiences_lacking(wanted: OidcProvider, found: FoundProvider) -> tuple[str, ...]:
    return tuple(one for one in wanted.audiences if one not in found.audiences)


def removal(wanted: OidcProvider, found: FoundProvider | None, beside: Sequence[Standing]) -> Step:
    title = f"OIDC provider {wanted.url}"
    if found is None:
        return Step(kind="keep", resource=wanted, title=title, note="is not there")
    if not found.is_ours:
        return Step(
            kind="keep", resource=wanted, title=title, note="it does not carry our tag: not ours"
        )
    users = _users_left(wanted, found, beside)
    if users:
        note = f"trusted by {', '.join(users)}"
        return Step(kind="keep", resource=wanted, title=title, note=note)
    return Step(
        kind="remove",
        resource=wanted,
        title=title,
        diff=tuple(f"- audience {audience}" for audience in found.audiences),
    )


def _users_left(
    wanted: OidcProvider, found: FoundProvider, beside: Sequence[Standing]
) -> list[str]:
    """Return the roles that still name the provider once ours is taken back."""
    ours: dict[str, Document | None] = {
        one.wanted.name: roles.trust_left(one.wanted, one.found, beside)
        for one in beside
        if isinstance(one.wanted, Role) and one.found is not None
    }
    after = {name: ours.get(name, policy) for name, policy in (found.trusted_by or {}).items()}
    return [name for name, policy in after.items() if policy and names(policy, wanted.arn)]


def names(policy: Document, provider_arn: str) -> bool:
    """Does a trust policy speak of the provider in any statement?"""
    for statement in statements_of(policy):
        principal = statement.get("Principal") if isinstance(statement, Mapping) else None
        if isinstance(principal, Mapping) and provider_arn in texts(principal.get("Federated")):
            return True
    return False
