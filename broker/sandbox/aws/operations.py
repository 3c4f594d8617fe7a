"""Operations of AWS's query protocol, and who signed a request for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from broker import policy
from broker.sandbox.aws.accounts import Principal
from broker.sandbox.aws.iam_records import Policies
from broker.sandbox.aws.query import ApiError, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signed a request, for which region, and the signer's policies at that moment."""

    identity: Principal
    region: str
    policies: Policies

    def refusal(
        self, action: str, *, resource: str = "*", context: Mapping[str, object] | None = None
    ) -> str | None:
        """Return AWS's message where the signer's own policies do not allow *action*, else None."""
        verdict = self.verdict(action, resource=resource, context=context)
        if verdict:
            return None
        return (
            f"User: {self.identity.arn} is not authorized to perform: {action} "
            f"on resource: {resource} "
            + (
                "with an explicit deny in an identity-based policy"
                if verdict.denied
                else f"because no identity-based policy allows the {action} action"
            )
        )

    def verdict(
        self, action: str, *, resource: str = "*", context: Mapping[str, object] | None = None
    ) -> policy.Verdict:
        """Judge by the signer's own policies: a principal without any may do nothing.

        Session policies are not evaluated.
        """
        keys: dict[str, object] = {
            "aws:PrincipalArn": self.identity.principal_arn,
            "aws:PrincipalAccount": self.identity.account,
            "aws:RequestedRegion": self.region,
        }
        return policy.identity_may(
            self.policies,
            action=action,
            resource=resource,
            context=keys | dict(context or {}),
            context_is_whole=True,
        )

    def require(
        self,
        action: str,
        *,
        resource: str = "*",
        context: Mapping[str, object] | None = None,
        code: str = "AccessDenied",
    ) -> None:
        """Check that the signer may do *action*.

        Raises:
            ApiError: *code*, where the signer's own policies do not allow it.
        """
        if refusal := self.refusal(action, resource=resource, context=context):
            raise ApiError(code, refusal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; a signed one gets its signer.

    A ``regional`` one is missing at a service's global endpoint. One that answers None has no
    result, not even an empty one.
    """

    signed: bool
    answer: Callable[[Mapping[str, str], Signer | None], Awaitable[Result | None]]
    regional: bool = False


def signed(answer: Callable[[Mapping[str, str], Signer], Result | None]) -> Operation:
    """Make an operation of a function that only reads memory."""

    async def answered(params: Mapping[str, str], signer: Signer | None) -> Result | None:
        assert signer is not None
        return answer(params, signer)

    return Operation(signed=True, answer=answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryService:
    """One service of the query protocol; signatures for another *region* are refused."""

    version: str
    xml_namespace: str
    operations: Mapping[str, Operation]
    region: str | None = None
