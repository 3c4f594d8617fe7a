"""A workspace's trust in a Cognito identity pool.

Namespace has a call that makes it, and none that lists or ends it. Source: namespace-api.md 6.6.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker.lease import Refused
from broker.setup.namespace import offering_by_hand, why_not
from broker.setup.resource import (
    CloudAccess,
    Outputs,
    Placeholder,
    Resource,
    ResourceState,
    Step,
)
from broker.sources.aws.web_identity import DEVELOPER_PROVIDER

CANNOT_BE_READ = (
    "Namespace does not list the pools it trusts, and does not accept this one yet; "
    "adding it again does no harm"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualPoolTrust:
    """What could be found out.

    ``proven``: a token of the pool was exchanged. ``unreadable`` says why this machine's identity
    may not add the pool.
    """

    proven: bool = False
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTrust(Resource[ActualPoolTrust]):
    """The workspace trusts a Cognito identity pool. *guid* is the pool's, without region."""

    workspace: str
    region: str
    guid: str

    @property
    def pool_id(self) -> str:
        return f"{self.region}:{self.guid}"

    @property
    def title(self) -> str:
        return f"trust in pool {self.pool_id} in workspace {self.workspace}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualPoolTrust:
        """Return whether a token of the pool is accepted; else, whether we may add the pool."""
        is_known = Placeholder.POOL_GUID.value not in self.guid
        if is_known and clouds.admits is not None and await clouds.admits(self):
            return ActualPoolTrust(proven=True)
        try:
            await clouds.workspace.check_identity()
        except Refused as refused:
            return ActualPoolTrust(unreadable=why_not(refused))
        return ActualPoolTrust()

    def diff(self, actual: ActualPoolTrust | None) -> Step:
        actual = actual or ActualPoolTrust()
        if actual.proven:
            return self.step("keep", "a token of the pool was exchanged")
        by_hand = (f"  by hand: {self.nsc_line}",) if actual.unreadable else ()
        return self.step(
            "create",
            actual.unreadable or CANNOT_BE_READ,
            diff=(f"+ aws_cognito_identity_pool: {self.pool_id}", *by_hand),
        )

    def removal(self, actual: ActualPoolTrust | None, others: Sequence[ResourceState[Any]]) -> Step:
        return self.step("keep", "Namespace has no call that ends it: it ends with the pool")

    async def create(self, clouds: CloudAccess) -> Outputs:
        with offering_by_hand(self.nsc_line):
            await clouds.workspace.trust_pool(self.pool_id, provider=DEVELOPER_PROVIDER)
        return Outputs()

    @property
    def nsc_line(self) -> str:
        """The nsc command that does it. Source: guide-flows.md, first table."""
        words = ["nsc", "auth", "trust-aws-cognito-identity-pool", "--aws_region", self.region]
        words += ["--identity_pool", self.guid, "--tenant_id", self.workspace]
        return shlex.join(words)
