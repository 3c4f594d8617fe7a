"""How the account's switch for outbound web identity federation is planned: on, and never off
again. Pure.

Source: aws-api.md 6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.setup.steps import Standing, Step
from broker.setup.wanted import Known, OutboundFederation


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFederation:
    """That it is on, and the account's issuer."""

    issuer: str


def step(wanted: OutboundFederation, found: FoundFederation | None) -> Step:
    if found is None:
        return Step(
            kind="create",
            resource=wanted,
            title=_title(wanted),
            diff=("+ on, for the whole account",),
        )
    return Step(kind="keep", resource=wanted, title=_title(wanted), note=found.issuer)


def removal(
    wanted: OutboundFederation, found: FoundFederation | None, _: Sequence[Standing]
) -> Step:
    note = "is off" if found is None else "stays on: others in the account may use it"
    return Step(kind="keep", resource=wanted, title=_title(wanted), note=note)


def known(found: FoundFederation) -> Known:
    return Known(issuer=found.issuer)


def _title(wanted: OutboundFederation) -> str:
    return f"outbound web identity federation of {wanted.account}"
