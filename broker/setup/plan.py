"""Hold what is wanted against what stands, and say what is to be done. Pure: reads no cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.setup import (
    policies,
    providers,
    roles,
    to_namespace_federation,
    to_namespace_pool_trust,
    to_namespace_pools,
    to_namespace_relationships,
)
from broker.setup.steps import Plan, Standing, Step
from broker.setup.wanted import (
    AttachedPolicy,
    CognitoTrust,
    IdentityPool,
    InlinePolicy,
    Known,
    OidcProvider,
    OutboundFederation,
    Role,
    StsTrust,
    Wanted,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one kind of thing is compared. Each takes what is wanted and what was found.

    ``step`` says what makes it so, ``removal`` (told also everything that is taken back with it)
    what takes it back, ``known`` (of what was found alone) what others have to know of it.
    """

    step: Callable[[Any, Any], Step]
    removal: Callable[[Any, Any, Sequence[Standing]], Step]
    known: Callable[[Any], Known] = lambda _: Known()


RULES: Mapping[type, Rules] = {
    OidcProvider: Rules(step=providers.step, removal=providers.removal),
    Role: Rules(step=roles.step, removal=roles.removal),
    AttachedPolicy: Rules(step=policies.attached_step, removal=policies.attached_removal),
    InlinePolicy: Rules(step=policies.inline_step, removal=policies.inline_removal),
    OutboundFederation: Rules(
        step=to_namespace_federation.step,
        removal=to_namespace_federation.removal,
        known=to_namespace_federation.known,
    ),
    IdentityPool: Rules(
        step=to_namespace_pools.step,
        removal=to_namespace_pools.removal,
        known=to_namespace_pools.known,
    ),
    StsTrust: Rules(
        step=to_namespace_relationships.step, removal=to_namespace_relationships.removal
    ),
    CognitoTrust: Rules(step=to_namespace_pool_trust.step, removal=to_namespace_pool_trust.removal),
}
"""By the type of what is wanted."""


def rules_of(wanted: Wanted) -> Rules:
    return RULES[type(wanted)]


def plan(standing: Sequence[Standing]) -> Plan:
    """Return what makes everything stand as it is wanted, in the order in which it is done."""
    return Plan(tuple(rules_of(each.wanted).step(each.wanted, each.found) for each in standing))


def removal(standing: Sequence[Standing]) -> Plan:
    """Return what takes back what `plan` would have made: the last made goes first."""
    return Plan(
        tuple(
            rules_of(each.wanted).removal(each.wanted, each.found, standing)
            for each in reversed(standing)
        )
    )
