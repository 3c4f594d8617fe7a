"""What tests of setting up begin with: a place, what is wanted there, and a cloud in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from broker.setup import policies, providers, roles, to_aws
from broker.setup.clouds import OpenedAws
from broker.setup.documents import policy_of
from broker.setup.policies import FoundAttached, FoundInline
from broker.setup.providers import FoundProvider
from broker.setup.roles import FoundRole
from broker.setup.to_aws import ToAws
from broker.setup.wanted import (
    AttachedPolicy,
    Document,
    InlinePolicy,
    Known,
    OidcProvider,
    Place,
    Role,
)
from tests.support.fakes import FakeClock

Open = Callable[..., AbstractAsyncContextManager[OpenedAws]]
"""Opens the sandbox's AWS as its administrator; see the fixture `opened`."""

PLACE = Place(account="123456789012", partition="aws", region="eu-central-1", workspace="ws_1")
HOST = "federation.namespaceapis.com"
PROVIDER = f"arn:aws:iam::123456789012:oidc-provider/{HOST}"
READ_ONLY = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"

FOREIGN: Document = {
    "Sid": "Machines",
    "Effect": "Allow",
    "Principal": {"Service": "ec2.amazonaws.com"},
    "Action": "sts:AssumeRole",
}


def statement(
    *,
    operator: str = "StringLike",
    sub: object = "ws_1/*",
    aud: object = "sts.amazonaws.com",
    effect: str = "Allow",
    **more: object,
) -> dict[str, object]:
    """Return a trust statement like the guide's."""
    return {
        "Effect": effect,
        "Principal": {"Federated": PROVIDER},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {operator: {f"{HOST}:aud": aud, f"{HOST}:sub": sub}},
        **more,
    }


def wanted_role(asked: ToAws | None = None) -> Role:
    wanted = to_aws.wanted_of(asked or ToAws(role_name="deploy"), PLACE)[1]
    assert isinstance(wanted, Role)
    return wanted


def wanted_provider() -> OidcProvider:
    wanted = to_aws.wanted_of(ToAws(role_name="deploy"), PLACE)[0]
    assert isinstance(wanted, OidcProvider)
    return wanted


def found_role(*statements: object, **more: Any) -> FoundRole:
    return FoundRole(
        arn=PLACE.role_arn("deploy"),
        trust_policy={"Version": "2012-10-17", "Statement": list(statements)},
        **more,
    )


@dataclass(kw_only=True)
class Account:
    """An account in memory, and what is done to it. ``roles`` are by name, policies by role."""

    provider: FoundProvider | None = None
    roles: dict[str, FoundRole] = field(default_factory=dict)
    attached: dict[str, set[str]] = field(default_factory=dict)
    inline: dict[str, dict[str, Document]] = field(default_factory=dict)

    def cloud(self) -> Mapping[type, Any]:
        return {
            OidcProvider: _Providers(self),
            Role: _Roles(self),
            AttachedPolicy: _Attached(self),
            InlinePolicy: _Inline(self),
        }


class _Hands:
    def __init__(self, account: Account) -> None:
        self.account = account


class _Providers(_Hands):
    async def read(self, wanted: OidcProvider, *, deeply: bool) -> FoundProvider | None:
        found = self.account.provider
        if found is None or not deeply:
            return found
        trusting = {
            name: role.trust_policy
            for name, role in self.account.roles.items()
            if providers.names(role.trust_policy, wanted.arn)
        }
        return replace(found, trusted_by=trusting)

    async def create(self, wanted: OidcProvider) -> Known:
        self.account.provider = FoundProvider(audiences=wanted.audiences, is_ours=True)
        return Known()

    async def change(self, wanted: OidcProvider, found: FoundProvider) -> None:
        lacking = providers.audiences_lacking(wanted, found)
        self.account.provider = replace(found, audiences=(*found.audiences, *lacking))

    async def remove(self, wanted: OidcProvider, found: FoundProvider) -> None:
        self.account.provider = None


class _Roles(_Hands):
    async def read(self, wanted: Role, *, deeply: bool) -> FoundRole | None:
        found = self.account.roles.get(wanted.name)
        if found is None or not deeply:
            return found
        return replace(
            found,
            attached=tuple(sorted(self.account.attached.get(wanted.name, ()))),
            inline=tuple(self.account.inline.get(wanted.name, {})),
        )

    async def create(self, wanted: Role) -> Known:
        self.account.roles[wanted.name] = FoundRole(
            arn=wanted.arn,
            trust_policy=policy_of(wanted.trust_statement),
            max_session_duration_s=wanted.max_session_duration_s or 3600,
            is_ours=True,
        )
        return Known()

    async def change(self, wanted: Role, found: FoundRole) -> None:
        policy = roles.trust_wanted(wanted, found) or found.trust_policy
        duration_s = roles.duration_wanted(wanted, found) or found.max_session_duration_s
        self.account.roles[wanted.name] = replace(
            found, trust_policy=policy, max_session_duration_s=duration_s
        )

    async def take_back(self, wanted: Role, found: FoundRole) -> None:
        policy = roles.trust_without_us(wanted, found)
        self.account.roles[wanted.name] = replace(
            found, trust_policy=policy, attached=None, inline=None
        )

    async def remove(self, wanted: Role, found: FoundRole) -> None:
        assert not self.account.attached.get(wanted.name), "IAM would say DeleteConflict"
        assert not self.account.inline.get(wanted.name), "IAM would say DeleteConflict"
        del self.account.roles[wanted.name]


class _Attached(_Hands):
    def _arns(self, wanted: AttachedPolicy) -> set[str]:
        return self.account.attached.setdefault(wanted.role, set())

    async def read(self, wanted: AttachedPolicy, *, deeply: bool) -> FoundAttached | None:
        return FoundAttached() if wanted.arn in self._arns(wanted) else None

    async def create(self, wanted: AttachedPolicy) -> Known:
        self._arns(wanted).add(wanted.arn)
        return Known()

    async def remove(self, wanted: AttachedPolicy, found: FoundAttached) -> None:
        self._arns(wanted).remove(wanted.arn)


class _Inline(_Hands):
    def _documents(self, wanted: InlinePolicy) -> dict[str, Document]:
        return self.account.inline.setdefault(wanted.role, {})

    async def read(self, wanted: InlinePolicy, *, deeply: bool) -> FoundInline | None:
        document = self._documents(wanted).get(wanted.name)
        return None if document is None else FoundInline(document=document)

    async def create(self, wanted: InlinePolicy) -> Known:
        self._documents(wanted)[wanted.name] = wanted.document
        return Known()

    async def change(self, wanted: InlinePolicy, found: FoundInline) -> None:
        self._documents(wanted)[wanted.name] = policies.merged_with(wanted, found)

    async def take_back(self, wanted: InlinePolicy, found: FoundInline) -> None:
        self._documents(wanted)[wanted.name] = policies.document_without_us(wanted, found)

    async def remove(self, wanted: InlinePolicy, found: FoundInline) -> None:
        del self._documents(wanted)[wanted.name]


class Impatient(FakeClock):
    """A clock on which every pause is over at once, and noted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
