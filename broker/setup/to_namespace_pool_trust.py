"""How a workspace's trust in a Cognito identity pool is planned, which nobody can read. Pure.

Namespace has a call that makes it, and none that lists or ends it. Source: namespace-api.md 6.6.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from broker.setup.steps import Standing, Step
from broker.setup.wanted import CognitoTrust

CANNOT_BE_READ = (
    "Namespace does not tell which pools it trusts, and takes none from this identity yet; "
    "naming one again does no harm"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPoolTrust:
    """What could be found out. ``proven``: a token of the pool was exchanged. ``unread`` says why
    the identity at hand may not have the pool trusted."""

    proven: bool = False
    unread: str = ""


def step(wanted: CognitoTrust, found: FoundPoolTrust | None) -> Step:
    found = found or FoundPoolTrust()
    if found.proven:
        note = "a token of the pool was exchanged"
        return Step(kind="keep", resource=wanted, title=_title(wanted), note=note)
    by_hand = (f"  by hand: {nsc_line(wanted)}",) if found.unread else ()
    return Step(
        kind="create",
        resource=wanted,
        title=_title(wanted),
        diff=(f"+ aws_cognito_identity_pool: {wanted.region}:{wanted.guid}", *by_hand),
        note=found.unread or CANNOT_BE_READ,
    )


def removal(wanted: CognitoTrust, found: FoundPoolTrust | None, _: Sequence[Standing]) -> Step:
    return Step(
        kind="keep",
        resource=wanted,
        title=_title(wanted),
        note="Namespace has no call that ends it: it ends with the pool",
    )


def nsc_line(wanted: CognitoTrust) -> str:
    """Return the command of nsc's that does it. Source: guide-flows.md, first table."""
    words = ["nsc", "auth", "trust-aws-cognito-identity-pool", "--aws_region", wanted.region]
    words += ["--identity_pool", wanted.guid, "--tenant_id", wanted.workspace]
    return shlex.join(words)


def _title(wanted: CognitoTrust) -> str:
    return f"trust in pool {wanted.region}:{wanted.guid} in workspace {wanted.workspace}"
