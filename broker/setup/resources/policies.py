"""A role's permission policies: attached managed ones, and its own.

An inline policy is added to, never overwritten: statements that are not ours stay, in order.
Source: aws-api 6.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.lease import Refused
from broker.policy import identity_may
from broker.setup.aws import AwsRefused
from broker.setup.documents import (
    Document,
    difference,
    statements_of,
    with_statement,
    without_statement,
)
from broker.setup.resource import (
    CloudAccess,
    Outputs,
    Placeholder,
    Resource,
    ResourceState,
    Step,
)
from broker.setup.resources.iam import (
    NOT_FOUND,
    attached_policies,
    call_or_none,
    call_when_settled,
    compact,
    policy_in,
    role_not_found,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualAttachment:
    """A managed policy is attached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedPolicy(Resource[ActualAttachment]):
    """A managed policy, by its ARN, on a role."""

    role: str
    arn: str

    @property
    def title(self) -> str:
        return f"policy of {self.role}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualAttachment | None:
        attached = await attached_policies(clouds.aws, self.role)
        return ActualAttachment() if self.arn in attached else None

    def diff(self, actual: ActualAttachment | None) -> Step:
        if actual is None:
            return self.step("create", diff=(f"+ {self.arn}",))
        return self.step("keep", self.arn)

    def removal(
        self, actual: ActualAttachment | None, others: Sequence[ResourceState[Any]]
    ) -> Step:
        if actual is None:
            return self.step("keep", f"{self.arn} is not attached")
        return self.step("remove", diff=(f"- {self.arn}",))

    async def create(self, clouds: CloudAccess) -> Outputs:
        try:
            await call_when_settled(
                lambda: clouds.aws.call(
                    "iam", "AttachRolePolicy", RoleName=self.role, PolicyArn=self.arn
                ),
                is_early=role_not_found,
                clock=clouds.clock,
            )
        except AwsRefused as error:
            if error.code != NOT_FOUND or role_not_found(error):
                raise
            raise Refused(
                f"there is no policy {self.arn} to attach (IAM: {error.words.rstrip('.')}); "
                "correct --policy-arn",
                word="not-found",
            ) from error
        return Outputs()

    async def delete(self, clouds: CloudAccess, actual: ActualAttachment) -> None:
        await call_or_none(clouds.aws, "DetachRolePolicy", RoleName=self.role, PolicyArn=self.arn)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredPermission:
    """One call that a policy has to allow. *context* holds condition keys."""

    action: str
    resource: str = "*"
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualInlinePolicy:
    """A role's own policy, as it exists."""

    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class InlinePolicy(Resource[ActualInlinePolicy]):
    """A policy of a role's own.

    One of that name that allows everything in *required* will do instead of *document*; with
    nothing required, only an equal one will.
    """

    role: str
    name: str
    document: Document
    required: tuple[RequiredPermission, ...] = ()

    @property
    def title(self) -> str:
        return f"policy {self.name} of {self.role}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualInlinePolicy | None:
        if Placeholder.POOL_GUID.value in self.name:
            return None  # the pool that it is named after does not exist yet
        response = await call_or_none(
            clouds.aws, "GetRolePolicy", RoleName=self.role, PolicyName=self.name
        )
        if response is None:
            return None
        return ActualInlinePolicy(document=policy_in(response.get("PolicyDocument")))

    def diff(self, actual: ActualInlinePolicy | None) -> Step:
        if actual is None:
            return self.step("create", diff=difference(None, self.document))
        if actual.document == self.document:
            return self.step("keep")
        if self.required and not self._obstacle(actual.document):
            return self.step("keep", "the existing policy differs, and allows what is needed")
        merged = self.merged_with(actual)
        return self.step(
            "keep" if merged == actual.document else "change",
            *self._notes(merged),
            diff=difference(actual.document, merged),
        )

    def merged_with(self, actual: ActualInlinePolicy) -> Document:
        """Return the existing document with our statements in it.

        Each replaces one that we made with other values, or else follows all others, which stay as
        they are and in order.
        """
        merged = actual.document
        for statement in self._statements():
            existing = statements_of(merged)
            if statement in existing:
                continue
            earlier = next((one for one in existing if self._is_earlier(one, statement)), None)
            if earlier is None:
                merged = with_statement(merged, statement)
            else:
                replaced = [statement if one is earlier else one for one in existing]
                merged = {**merged, "Statement": replaced}
        return merged

    def _is_earlier(self, one: object, statement: Document) -> bool:
        """Return whether it is *statement* with other values, as other flags make it.

        In a user's own policy (nothing is required of it) that cannot be told.
        """
        if not self.required or not isinstance(one, Mapping):
            return False
        shape = _shape_of(statement.get("Condition"))
        return (
            bool(shape)
            and one == {**statement, "Condition": one.get("Condition")}
            and (_shape_of(one.get("Condition")) == shape)
        )

    def _notes(self, merged: Document) -> list[str]:
        foreign = [one for one in statements_of(merged) if one not in self._statements()]
        notes = []
        if foreign:
            notes.append(
                "it also has a statement that is not ours, which stays"
                if len(foreign) == 1
                else f"it also has {len(foreign)} statements that are not ours, which stay"
            )
        obstacle = self._obstacle(merged)
        if obstacle:
            notes.append(f"even so, it may not be allowed: {obstacle}")
        return notes

    def _statements(self) -> list[Document]:
        return [one for one in statements_of(self.document) if isinstance(one, Mapping)]

    def _obstacle(self, document: Document) -> str:
        """Say why *document* does not allow everything required; empty where it does."""
        for permission in self.required:
            verdict = identity_may(
                {self.name: document},
                action=permission.action,
                resource=permission.resource,
                context=permission.context,
            )
            if not verdict:
                return verdict.reason
        return ""

    async def create(self, clouds: CloudAccess) -> Outputs:
        await self._put(clouds, self.document)
        return Outputs()

    async def update(self, clouds: CloudAccess, actual: ActualInlinePolicy) -> None:
        await self._put(clouds, self.merged_with(actual))

    async def _put(self, clouds: CloudAccess, document: Document) -> None:
        await call_when_settled(
            lambda: clouds.aws.call(
                "iam",
                "PutRolePolicy",
                RoleName=self.role,
                PolicyName=self.name,
                PolicyDocument=compact(document),
            ),
            is_early=role_not_found,
            clock=clouds.clock,
        )

    def removal(
        self, actual: ActualInlinePolicy | None, others: Sequence[ResourceState[Any]]
    ) -> Step:
        """Return what removes our statements: the policy itself, where it has no others."""
        if actual is None:
            return self.step("keep", "does not exist")
        remaining = self.document_without_us(actual)
        if remaining == actual.document:
            return self.step("keep", "the existing policy is not what these flags make")
        if not statements_of(remaining):
            return self.step("remove", diff=difference(actual.document, None))
        return self.step(
            "change",
            "it has statements that are not ours, which stay",
            diff=difference(actual.document, remaining),
        )

    def document_without_us(self, actual: ActualInlinePolicy) -> Document:
        """Return the existing document without the statements that equal ours."""
        remaining = actual.document
        for statement in self._statements():
            remaining = without_statement(remaining, statement)
        is_shorter = len(statements_of(remaining)) < len(statements_of(actual.document))
        return remaining if is_shorter else actual.document

    async def delete(self, clouds: CloudAccess, actual: ActualInlinePolicy) -> None:
        await call_or_none(clouds.aws, "DeleteRolePolicy", RoleName=self.role, PolicyName=self.name)

    async def revert(self, clouds: CloudAccess, actual: ActualInlinePolicy) -> None:
        await self._put(clouds, self.document_without_us(actual))


def _shape_of(conditions: object) -> set[tuple[str, str]]:
    """Return the operators and keys of a statement's conditions."""
    return {
        (str(operator), str(key))
        for operator, tests in (conditions if isinstance(conditions, Mapping) else {}).items()
        for key in (tests if isinstance(tests, Mapping) else {"?": tests})
    }
