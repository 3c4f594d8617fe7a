"""How a Cognito identity pool that is wanted compares with those that stand. Pure.

Source: aws-api.md 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.setup.steps import Standing, Step
from broker.setup.wanted import IdentityPool, InlinePolicy, Known

NO_ROLE_NEEDED = (
    "AWS's console asks for an IAM role of the pool's: this way never uses one, so none is made"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPool:
    """A pool with the developer provider that is wanted. ``pool_id`` is ``region:guid``;
    ``is_ours``: it carries our tag. ``used_by`` are the roles that have our policy for it; none
    unless it was read deeply."""

    pool_id: str
    name: str
    is_ours: bool = False
    allows_unauthenticated: bool = False
    used_by: tuple[str, ...] = ()


def step(wanted: IdentityPool, found: FoundPool | None) -> Step:
    if found is None:
        return Step(
            kind="create",
            resource=wanted,
            title=_title(wanted),
            diff=(f"+ developer provider {wanted.developer_provider}", "+ authenticated only"),
            note=NO_ROLE_NEEDED,
        )
    guests = "it also admits guests, who get no token for Namespace"
    notes = [found.pool_id, guests if found.allows_unauthenticated else ""]
    return Step(
        kind="keep",
        resource=wanted,
        title=_title(wanted, found),
        note="; ".join(filter(None, notes)),
    )


def removal(wanted: IdentityPool, found: FoundPool | None, beside: Sequence[Standing]) -> Step:
    if found is None:
        return Step(kind="keep", resource=wanted, title=_title(wanted), note="is not there")
    if not found.is_ours:
        note = f"{found.pool_id} does not carry our tag: not ours"
        return Step(kind="keep", resource=wanted, title=_title(wanted, found), note=note)
    ours = {each.wanted.role for each in beside if isinstance(each.wanted, InlinePolicy)}
    others = [role for role in found.used_by if role not in ours]
    if others:
        note = f"{found.pool_id} is used by {', '.join(others)}"
        return Step(kind="keep", resource=wanted, title=_title(wanted, found), note=note)
    return Step(
        kind="remove",
        resource=wanted,
        title=_title(wanted, found),
        diff=(f"- {found.pool_id}",),
        note="whoever signs in by it, does so no longer",
    )


def known(found: FoundPool) -> Known:
    return Known(pool_id=found.pool_id)


def _title(wanted: IdentityPool, found: FoundPool | None = None) -> str:
    return f"identity pool {found.name if found else wanted.name} in {wanted.region}"
