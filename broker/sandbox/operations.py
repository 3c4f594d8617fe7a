"""What an operation of AWS's query protocol is, and who asks for it. Holds none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from broker import trust
from broker.sandbox.accounts import Identity, Policies
from broker.sandbox.query import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Whose signature verified on a request, for which region it was made, and what the
    signer's policies are now."""

    identity: Identity
    region: str
    policies: Policies

    def refusal(
        self, action: str, *, resource: str = "*", context: Mapping[str, object] | None = None
    ) -> str | None:
        """Return AWS's words where the signer's own policies do not allow *action*, else None.

        A principal without any policy may do nothing. What a session policy takes away is not
        looked at.
        """
        identity = self.identity
        keys: dict[str, object] = {
            "aws:PrincipalArn": identity.principal_arn,
            "aws:PrincipalAccount": identity.account,
            "aws:RequestedRegion": self.region,
        }
        verdict = trust.identity_may(
            self.policies, action=action, resource=resource, context=keys | dict(context or {})
        )
        if verdict:
            return None
        return (
            f"User: {identity.arn} is not authorized to perform: {action} on resource: "
            f"{resource} because no identity-based policy allows the {action} action"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; a signed one is handed who signed. ``regional`` is one that a service's
    global endpoint does not have."""

    signed: bool
    answer: Callable[[Mapping[str, str], Signer | None], Awaitable[Result]]
    regional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryService:
    """One service of the query protocol; signatures for another *region* are refused."""

    version: str
    xml_namespace: str
    operations: Mapping[str, Operation]
    region: str | None = None
