"""OIDC providers: the account accepts ID tokens of an issuer.

Thumbprints are not compared: AWS trusts the issuer's certificate by its own roots.
Source: aws-api 6.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.setup.aws import AwsApi, AwsRefused
from broker.setup.documents import Document, statements_of, texts
from broker.setup.resource import CloudAccess, Outputs, Resource, ResourceState, Step
from broker.setup.resources.iam import TAGS, call_or_none, is_tagged, listed, policy_in
from broker.setup.resources.role import IamRole


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualProvider:
    """A provider that exists.

    ``is_ours``: it has our tag. ``trusted_by`` are the trust policies of the roles that name it, by
    role; None unless it was read deep.
    """

    audiences: tuple[str, ...]
    is_ours: bool = False
    trusted_by: Mapping[str, Document] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider(Resource[ActualProvider]):
    """The account accepts ID tokens of the issuer *url* for *audiences*."""

    arn: str
    url: str
    audiences: tuple[str, ...]
    thumbprints: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"OIDC provider {self.url}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualProvider | None:
        response = await call_or_none(
            clouds.aws, "GetOpenIDConnectProvider", OpenIDConnectProviderArn=self.arn
        )
        if response is None:
            return None
        return ActualProvider(
            audiences=tuple(response.get("ClientIDList", ())),
            is_ours=is_tagged(response),
            trusted_by=await _trusting_roles(clouds.aws, self.arn) if deep else None,
        )

    def diff(self, actual: ActualProvider | None) -> Step:
        if actual is None:
            audiences = [f"+ audience {audience}" for audience in self.audiences]
            thumbprints = [f"+ thumbprint {thumbprint}" for thumbprint in self.thumbprints]
            return self.step("create", diff=(*audiences, *thumbprints))
        missing = self.missing_audiences(actual)
        return self.step(
            "change" if missing else "keep", diff=[f"+ audience {audience}" for audience in missing]
        )

    def missing_audiences(self, actual: ActualProvider) -> tuple[str, ...]:
        return tuple(one for one in self.audiences if one not in actual.audiences)

    async def create(self, clouds: CloudAccess) -> Outputs:
        try:
            await clouds.aws.call(
                "iam",
                "CreateOpenIDConnectProvider",
                Url=self.url,
                ClientIDList=list(self.audiences),
                ThumbprintList=list(self.thumbprints),
                Tags=list(TAGS),
            )
        except AwsRefused as error:
            # Made by an attempt whose answer was lost, or by somebody else.
            actual = await self.read(clouds) if error.code == "EntityAlreadyExists" else None
            if actual is None:
                raise
            await self.update(clouds, actual)
        return Outputs()

    async def update(self, clouds: CloudAccess, actual: ActualProvider) -> None:
        for audience in self.missing_audiences(actual):
            await clouds.aws.call(
                "iam",
                "AddClientIDToOpenIDConnectProvider",
                OpenIDConnectProviderArn=self.arn,
                ClientID=audience,
            )

    def removal(self, actual: ActualProvider | None, others: Sequence[ResourceState[Any]]) -> Step:
        if actual is None:
            return self.step("keep", "does not exist")
        if not actual.is_ours:
            return self.step("keep", "it does not have our tag: not ours")
        users = self._remaining_users(actual, others)
        if users:
            return self.step("keep", f"trusted by {', '.join(users)}")
        return self.step("remove", diff=[f"- audience {audience}" for audience in actual.audiences])

    def _remaining_users(
        self, actual: ActualProvider, others: Sequence[ResourceState[Any]]
    ) -> list[str]:
        """Return the roles that still name the provider once our own part is removed."""
        ours: dict[str, Document | None] = {
            one.desired.name: one.desired.remaining_trust(one.actual, others)
            for one in others
            if isinstance(one.desired, IamRole) and one.actual is not None
        }
        after = {name: ours.get(name, policy) for name, policy in (actual.trusted_by or {}).items()}
        return [name for name, policy in after.items() if policy and names(policy, self.arn)]

    async def delete(self, clouds: CloudAccess, actual: ActualProvider) -> None:
        await call_or_none(
            clouds.aws, "DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=self.arn
        )


async def _trusting_roles(aws: AwsApi, arn: str) -> Mapping[str, Document]:
    """Return the trust policies that name the provider, by role."""
    trusting = {}
    async for role in listed(aws, "ListRoles", "Roles"):
        policy = policy_in(role.get("AssumeRolePolicyDocument"))
        if names(policy, arn):
            trusting[str(role.get("RoleName"))] = policy
    return trusting


def names(policy: Document, provider_arn: str) -> bool:
    """Return whether any statement of a trust policy names the provider."""
    for statement in statements_of(policy):
        principal = statement.get("Principal") if isinstance(statement, Mapping) else None
        if isinstance(principal, Mapping) and provider_arn in texts(principal.get("Federated")):
            return True
    return False
