"""Roles and their trust policies.

A trust policy is added to, never overwritten; of a role that is not ours nothing else changes.
Source: aws-api 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.lease import Refused
from broker.policy import Verdict, role_admits_web_identity
from broker.setup.aws import AwsRefused
from broker.setup.documents import (
    Document,
    admits_as_much,
    difference,
    policy_of,
    statements_of,
    wider_patterns,
    with_statement,
    without_statement,
)
from broker.setup.resource import CloudAccess, Outputs, Resource, ResourceState, Step
from broker.setup.resources.iam import (
    TAGS,
    attached_policies,
    call_or_none,
    call_when_settled,
    compact,
    inline_policies,
    is_tagged,
    policy_in,
)
from broker.setup.resources.policies import AttachedPolicy, InlinePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualRole:
    """A role that exists.

    ``is_ours``: it has our tag. ``attached`` (ARNs) and ``inline`` (names) are its policies, None
    unless it was read deep.
    """

    arn: str
    trust_policy: Document = field(repr=False)
    max_session_duration_s: int = 3600
    is_ours: bool = False
    attached: tuple[str, ...] | None = None
    inline: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IamRole(Resource[ActualRole]):
    """A role whose trust policy has *trust_statement*, or another that admits as much.

    ``max_session_duration_s`` None: AWS's default (3600) for a new role, else unchanged.
    """

    arn: str
    name: str
    trust_statement: Document
    max_session_duration_s: int | None = None
    description: str = ""

    @property
    def title(self) -> str:
        return f"role {self.name}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualRole | None:
        response = await call_or_none(clouds.aws, "GetRole", RoleName=self.name)
        if response is None:
            return None
        role = response.get("Role", {})
        return ActualRole(
            arn=str(role.get("Arn", "")),
            trust_policy=policy_in(role.get("AssumeRolePolicyDocument")),
            max_session_duration_s=int(role.get("MaxSessionDuration", 3600)),
            is_ours=is_tagged(role),
            attached=await attached_policies(clouds.aws, self.name) if deep else None,
            inline=await inline_policies(clouds.aws, self.name) if deep else None,
        )

    def diff(self, actual: ActualRole | None) -> Step:
        if actual is None:
            trust = difference(None, policy_of(self.trust_statement))
            return self.step("create", diff=[*_session(self.max_session_duration_s), *trust])
        policy, duration_s = self.desired_trust(actual), self.desired_duration_s(actual)
        diff = [] if policy is None else list(difference(actual.trust_policy, policy))
        if duration_s is not None:
            old = f"- maximum session duration {actual.max_session_duration_s} s"
            diff = [old, *_session(duration_s), *diff]
        return self.step("change" if diff else "keep", *self._notes(actual), diff=diff)

    def desired_trust(self, actual: ActualRole) -> Document | None:
        """Return the trust policy with our statement in it, None where it admits as much now."""
        if self._sufficient_statement(actual) is not None:
            return None
        return with_statement(actual.trust_policy, self.trust_statement)

    def desired_duration_s(self, actual: ActualRole) -> int | None:
        """Return the maximum session duration to set, in seconds; None: leave it."""
        desired_s = self.max_session_duration_s
        if desired_s == actual.max_session_duration_s or not actual.is_ours:
            return None
        return desired_s

    def _sufficient_statement(self, actual: ActualRole) -> object | None:
        for statement in statements_of(actual.trust_policy):
            if admits_as_much(statement, self.trust_statement):
                return statement
        return None

    def _notes(self, actual: ActualRole) -> list[str]:
        notes = []
        if not actual.is_ours:
            notes.append("not made by us: only our statement is added to its trust policy")
        wider = wider_patterns(self._sufficient_statement(actual), self.trust_statement)
        if wider:
            notes.append(f"its trust policy admits more: {', '.join(wider)}")
        desired_s = self.max_session_duration_s
        if not actual.is_ours and desired_s not in (None, actual.max_session_duration_s):
            notes.append(
                f"its maximum session duration stays {actual.max_session_duration_s} s: "
                f"aws iam update-role --role-name {self.name} --max-session-duration {desired_s}"
            )
        denial = self._denial(actual)
        if denial:
            notes.append(f"even so, access will be refused: {denial}")
        return notes

    def _denial(self, actual: ActualRole) -> str:
        """Say which statement denies what ours allows, where one does."""
        policy = self.desired_trust(actual) or actual.trust_policy
        if all(
            not isinstance(one, dict) or one.get("Effect") != "Deny"
            for one in statements_of(policy)
        ):
            return ""
        verdict = _verdict_on_a_sample(policy, self.trust_statement)
        return "" if verdict else verdict.reason

    async def create(self, clouds: CloudAccess) -> Outputs:
        parameters: dict[str, Any] = {
            "RoleName": self.name,
            "AssumeRolePolicyDocument": compact(policy_of(self.trust_statement)),
            "Tags": list(TAGS),
        }
        if self.max_session_duration_s is not None:
            parameters["MaxSessionDuration"] = self.max_session_duration_s
        if self.description:
            parameters["Description"] = self.description
        try:
            await _call_with_trust(clouds, "CreateRole", **parameters)
        except AwsRefused as error:
            if error.code != "EntityAlreadyExists":
                raise
            await self._accept_existing(clouds, error)
        return Outputs()

    async def _accept_existing(self, clouds: CloudAccess, error: AwsRefused) -> None:
        """Accept a role that was made by an attempt whose answer was lost.

        Raises:
            Refused: It is another one.
        """
        actual = await self.read(clouds)
        if actual is None:
            raise Refused(
                f"the account has a role {self.name} that differs only in upper and lower case, "
                "which AWS treats as the same name; give --role-name as it is spelled there "
                "(`aws iam list-roles`), or another",
                word="conflict",
            ) from error
        if not actual.is_ours or self.desired_trust(actual) is not None:
            raise error

    async def update(self, clouds: CloudAccess, actual: ActualRole) -> None:
        policy = self.desired_trust(actual)
        if policy is not None:
            await self._put_trust(clouds, policy)
        duration_s = self.desired_duration_s(actual)
        if duration_s is not None:
            await clouds.aws.call(
                "iam", "UpdateRole", RoleName=self.name, MaxSessionDuration=duration_s
            )

    async def _put_trust(self, clouds: CloudAccess, policy: Document) -> None:
        await _call_with_trust(
            clouds, "UpdateAssumeRolePolicy", RoleName=self.name, PolicyDocument=compact(policy)
        )

    def removal(self, actual: ActualRole | None, others: Sequence[ResourceState[Any]]) -> Step:
        if actual is None:
            return self.step("keep", "does not exist")
        remaining = self.remaining_trust(actual, others)
        if remaining is None:
            return self.step("remove", diff=difference(actual.trust_policy, None))
        reason = self._why_it_stays(actual, others)
        if remaining != actual.trust_policy:
            diff = difference(actual.trust_policy, remaining)
            return self.step("change", f"the role stays: {reason}", diff=diff)
        return self.step("keep", reason)

    def remaining_trust(
        self, actual: ActualRole, others: Sequence[ResourceState[Any]]
    ) -> Document | None:
        """Return the role's trust policy without us, None where the role itself is deleted."""
        return self.trust_without_us(actual) if self._why_it_stays(actual, others) else None

    def trust_without_us(self, actual: ActualRole) -> Document:
        """Return the trust policy of a role that stays.

        Our statement is left where it is the only one: IAM takes no policy without any.
        """
        remaining = without_statement(actual.trust_policy, self.trust_statement)
        return remaining if statements_of(remaining) else actual.trust_policy

    def _why_it_stays(self, actual: ActualRole, others: Sequence[ResourceState[Any]]) -> str:
        """Say why the role is not deleted; empty where it is."""
        statements = statements_of(actual.trust_policy)
        foreign = [one for one in statements if one != self.trust_statement]
        if not actual.is_ours:
            if not foreign:
                return (
                    "it does not have our tag, and a trust policy cannot be empty; if nobody else "
                    f"needs it: aws iam delete-role --role-name {self.name}"
                )
            if self.trust_statement not in statements:
                return "it does not have our tag, and has no statement of ours"
            return "it does not have our tag"
        if foreign:
            return "its trust policy has statements that are not ours"
        policies = _policies_of_others(actual, others)
        if policies:
            return (
                f"it has policies that stay: {', '.join(policies)}; name those to remove with it "
                "by --policy-arn and --policy-file"
            )
        return ""

    async def delete(self, clouds: CloudAccess, actual: ActualRole) -> None:
        await call_or_none(clouds.aws, "DeleteRole", RoleName=self.name)

    async def revert(self, clouds: CloudAccess, actual: ActualRole) -> None:
        await self._put_trust(clouds, self.trust_without_us(actual))


async def _call_with_trust(clouds: CloudAccess, operation: str, **parameters: Any) -> None:
    """Call an operation that takes a trust policy, whose provider may be too new for IAM."""
    await call_when_settled(
        lambda: clouds.aws.call("iam", operation, **parameters),
        is_early=lambda error: (
            error.code == "MalformedPolicyDocument" and ":oidc-provider/" in error.words
        ),
        clock=clouds.clock,
    )


def _session(duration_s: int | None) -> tuple[str, ...]:
    return () if duration_s is None else (f"+ maximum session duration {duration_s} s",)


def _verdict_on_a_sample(policy: Document, statement: Document) -> Verdict:
    """Judge a token that just fulfils *statement*, which is one of `to_aws.trust_statement`."""
    principal, conditions = statement["Principal"], statement["Condition"]
    assert isinstance(principal, dict)
    assert isinstance(conditions, dict)
    keys = {key: str(value).replace("*", "x") for key, value in conditions["StringLike"].items()}
    host = str(principal["Federated"]).partition(":oidc-provider/")[2]
    claims = {"iss": f"https://{host}"}
    claims |= {key.removeprefix(f"{host}:"): value for key, value in keys.items()}
    return role_admits_web_identity(policy, provider_arn=principal["Federated"], claims=claims)


def _policies_of_others(actual: ActualRole, others: Sequence[ResourceState[Any]]) -> list[str]:
    """Return the role's policies that are not removed with it, by ARN or name."""
    arns = {one.desired.arn for one in others if isinstance(one.desired, AttachedPolicy)}
    names = {
        one.desired.name
        for one in others
        if isinstance(one.desired, InlinePolicy)
        and one.actual is not None
        and one.actual.document == one.desired.document
    }
    attached = [arn for arn in actual.attached or () if arn not in arns]
    return attached + [name for name in actual.inline or () if name not in names]
