"""The account's switch for outbound web identity federation: on, and never off again.

Source: aws-api.md 6.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.lease import Unavailable
from broker.setup.aws import AwsRefused
from broker.setup.resource import CloudAccess, Outputs, Resource, ResourceState, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualFederation:
    """It is on, and this is the account's issuer."""

    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFederation(Resource[ActualFederation]):
    """The account issues web identity tokens."""

    account: str

    @property
    def title(self) -> str:
        return f"outbound web identity federation of {self.account}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualFederation | None:
        try:
            response = await clouds.aws.call("iam", "GetOutboundWebIdentityFederationInfo")
        except AwsRefused as refused:
            if refused.code == "FeatureDisabled":
                return None
            raise
        if response.get("JwtVendingEnabled") is False:
            return None
        return ActualFederation(issuer=_issuer_in(response))

    def diff(self, actual: ActualFederation | None) -> Step:
        if actual is None:
            return self.step("create", diff=("+ on, for the whole account",))
        return self.step("keep", actual.issuer)

    def removal(
        self, actual: ActualFederation | None, others: Sequence[ResourceState[Any]]
    ) -> Step:
        return self.step(
            "keep", "is off" if actual is None else "stays on: others in the account may use it"
        )

    def outputs(self, actual: ActualFederation) -> Outputs:
        return Outputs(issuer=actual.issuer)

    async def create(self, clouds: CloudAccess) -> Outputs:
        """Switch it on, and return the issuer as it is read back."""
        try:
            await clouds.aws.call("iam", "EnableOutboundWebIdentityFederation")
        except AwsRefused as refused:
            if refused.code != "FeatureEnabled":
                raise
        response = await clouds.aws.call("iam", "GetOutboundWebIdentityFederationInfo")
        return Outputs(issuer=_issuer_in(response))


def _issuer_in(response: Mapping[str, Any]) -> str:
    issuer = response.get("IssuerIdentifier")
    if not isinstance(issuer, str) or not issuer.startswith("https://"):
        raise Unavailable("AWS did not return the account's issuer", word="bad-answer")
    return issuer
