"""What tests of setup share: a target, desired resources, and IAM in memory."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from broker.lease import Unavailable
from broker.setup import to_aws
from broker.setup.aws import AwsAccount, AwsApi, AwsRefused, Target
from broker.setup.documents import Document
from broker.setup.resource import CloudAccess
from broker.setup.resources import IamRole, OidcProvider
from broker.setup.resources.oidc_provider import ActualProvider
from broker.setup.resources.role import ActualRole
from broker.setup.to_aws import ToAwsRequest
from broker.sources.aws.errors import AwsError
from tests.support.fakes import FakeClock

Open = Callable[..., AbstractAsyncContextManager[AwsAccount]]
"""Opens the sandbox's AWS as its administrator; see the fixture `opened`."""

PLACE = Target(account="123456789012", partition="aws", region="eu-central-1", workspace="ws_1")
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


def desired_role(asked: ToAwsRequest | None = None) -> IamRole:
    wanted = to_aws.desired_resources(asked or ToAwsRequest(role_name="deploy"), PLACE)[1]
    assert isinstance(wanted, IamRole)
    return wanted


def desired_provider() -> OidcProvider:
    wanted = to_aws.desired_resources(ToAwsRequest(role_name="deploy"), PLACE)[0]
    assert isinstance(wanted, OidcProvider)
    return wanted


def actual_role(*statements: object, **more: Any) -> ActualRole:
    return ActualRole(
        arn=PLACE.role_arn("deploy"),
        trust_policy={"Version": "2012-10-17", "Statement": list(statements)},
        **more,
    )


class Impatient(FakeClock):
    """A clock on which every pause is over at once, and noted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass(kw_only=True)
class Account:
    """An account in memory.

    ``roles`` are by name, policies by role; operations that are ``failing`` are answered by nobody.
    """

    provider: ActualProvider | None = None
    roles: dict[str, ActualRole] = field(default_factory=dict)
    attached: dict[str, set[str]] = field(default_factory=dict)
    inline: dict[str, dict[str, Document]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    def access(self) -> CloudAccess:
        return CloudAccess(aws=cast(AwsApi, InMemoryIam(self)), clock=Impatient())


TAGS = [{"Key": "managed-by", "Value": "namespace-broker"}]


class InMemoryIam:
    """IAM's answers, of the operations that `setup to-aws` calls."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def call(
        self, service: str, operation: str, *, attempts: int = 1, **parameters: Any
    ) -> Mapping[str, Any]:
        if operation in self._account.failing:
            raise Unavailable("IAM is down")
        answer: Mapping[str, Any] | None = getattr(self, f"_{operation}")(parameters)
        return copy.deepcopy(answer or {})

    def _GetOpenIDConnectProvider(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        provider = self._account.provider
        if provider is None:
            raise not_found("OpenIDConnect Provider not found")
        return {"ClientIDList": provider.audiences, "Tags": TAGS if provider.is_ours else []}

    def _CreateOpenIDConnectProvider(self, parameters: Mapping[str, Any]) -> None:
        audiences = tuple(parameters["ClientIDList"])
        self._account.provider = ActualProvider(audiences=audiences, is_ours=True)

    def _AddClientIDToOpenIDConnectProvider(self, parameters: Mapping[str, Any]) -> None:
        provider = self._account.provider
        assert provider is not None
        audiences = (*provider.audiences, parameters["ClientID"])
        self._account.provider = replace(provider, audiences=audiences)

    def _DeleteOpenIDConnectProvider(self, _: Mapping[str, Any]) -> None:
        self._account.provider = None

    def _ListRoles(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Roles": [self._described(name) for name in self._account.roles]}

    def _GetRole(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if parameters["RoleName"] not in self._account.roles:
            raise not_found("The role with name deploy cannot be found")
        return {"Role": self._described(parameters["RoleName"])}

    def _described(self, name: str) -> Mapping[str, Any]:
        role = self._account.roles[name]
        return {
            "RoleName": name,
            "Arn": role.arn,
            "AssumeRolePolicyDocument": role.trust_policy,
            "MaxSessionDuration": role.max_session_duration_s,
            "Tags": TAGS if role.is_ours else [],
        }

    def _CreateRole(self, parameters: Mapping[str, Any]) -> None:
        name = parameters["RoleName"]
        self._account.roles[name] = ActualRole(
            arn=PLACE.role_arn(name),
            trust_policy=json.loads(parameters["AssumeRolePolicyDocument"]),
            max_session_duration_s=parameters.get("MaxSessionDuration", 3600),
            is_ours=True,
        )

    def _UpdateAssumeRolePolicy(self, parameters: Mapping[str, Any]) -> None:
        self._change(parameters, trust_policy=json.loads(parameters["PolicyDocument"]))

    def _UpdateRole(self, parameters: Mapping[str, Any]) -> None:
        self._change(parameters, max_session_duration_s=parameters["MaxSessionDuration"])

    def _change(self, parameters: Mapping[str, Any], **changes: Any) -> None:
        name = parameters["RoleName"]
        self._account.roles[name] = replace(self._account.roles[name], **changes)

    def _DeleteRole(self, parameters: Mapping[str, Any]) -> None:
        name = parameters["RoleName"]
        assert not self._account.attached.get(name), "IAM would say DeleteConflict"
        assert not self._account.inline.get(name), "IAM would say DeleteConflict"
        del self._account.roles[name]

    def _attached(self, parameters: Mapping[str, Any]) -> set[str]:
        return self._account.attached.setdefault(parameters["RoleName"], set())

    def _ListAttachedRolePolicies(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        arns = sorted(self._attached(parameters))
        return {"AttachedPolicies": [{"PolicyArn": arn} for arn in arns]}

    def _AttachRolePolicy(self, parameters: Mapping[str, Any]) -> None:
        self._attached(parameters).add(parameters["PolicyArn"])

    def _DetachRolePolicy(self, parameters: Mapping[str, Any]) -> None:
        self._attached(parameters).remove(parameters["PolicyArn"])

    def _inline(self, parameters: Mapping[str, Any]) -> dict[str, Document]:
        return self._account.inline.setdefault(parameters["RoleName"], {})

    def _ListRolePolicies(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"PolicyNames": list(self._inline(parameters))}

    def _GetRolePolicy(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        document = self._inline(parameters).get(parameters["PolicyName"])
        if document is None:
            raise not_found("The role policy cannot be found")
        return {"PolicyDocument": document}

    def _PutRolePolicy(self, parameters: Mapping[str, Any]) -> None:
        document = json.loads(parameters["PolicyDocument"])
        self._inline(parameters)[parameters["PolicyName"]] = document

    def _DeleteRolePolicy(self, parameters: Mapping[str, Any]) -> None:
        del self._inline(parameters)[parameters["PolicyName"]]


def not_found(message: str) -> AwsRefused:
    fault = AwsError(code="NoSuchEntity", message=message, status=404)
    return AwsRefused(message, fault=fault, word="not-found")
