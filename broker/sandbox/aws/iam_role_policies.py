"""IAM's operations on the policies of roles, inline and managed.

Source: aws-api.md 6.4; IAM API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from broker.sandbox.aws import iam_documents
from broker.sandbox.aws.accounts import Accounts
from broker.sandbox.aws.constraints import NAME, Params, named, sized
from broker.sandbox.aws.iam_paging import page
from broker.sandbox.aws.iam_roles import DOCUMENT_MAX_CHARACTERS, found, modifiable
from broker.sandbox.aws.operations import Operation, Signer, signed
from broker.sandbox.aws.query import ApiError, Result

_ATTACHED = 20
_POLICY_ARN = re.compile(r"arn:[a-z-]+:iam::(?:\d{12}|aws):policy/(?:[!-~]+/)?(?P<name>[^/\s]+)")


class RolePolicies:
    """The operations on policies of roles."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        answers: Mapping[str, Callable[[Params, Signer], Result | None]] = {
            "PutRolePolicy": self._put,
            "GetRolePolicy": self._get,
            "ListRolePolicies": self._list,
            "DeleteRolePolicy": self._delete,
            "AttachRolePolicy": self._attach,
            "DetachRolePolicy": self._detach,
            "ListAttachedRolePolicies": self._list_attached,
        }
        self.operations: Mapping[str, Operation] = {
            name: signed(answer) for name, answer in answers.items()
        }

    def _put(self, params: Params, signer: Signer) -> None:
        name = _policy_name(params)
        text = sized(params, "PolicyDocument", least=1, most=DOCUMENT_MAX_CHARACTERS)
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:PutRolePolicy")
            document = iam_documents.permission_policy(text)
            self._accounts.put_policy(role.arn, name, document)

    def _get(self, params: Params, signer: Signer) -> Result:
        name = _policy_name(params)
        role = found(self._accounts, params, signer, "iam:GetRolePolicy")
        if name not in role.policies:
            raise _no_such_policy(name)
        return {
            "RoleName": role.name,
            "PolicyName": name,
            "PolicyDocument": iam_documents.on_the_wire(role.policies[name]),
        }

    def _list(self, params: Params, signer: Signer) -> Result:
        role = found(self._accounts, params, signer, "iam:ListRolePolicies")
        return page(params, "PolicyNames", sorted(role.policies))

    def _delete(self, params: Params, signer: Signer) -> None:
        name = _policy_name(params)
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:DeleteRolePolicy")
            if name not in role.policies:
                raise _no_such_policy(name)
            self._accounts.put_policy(role.arn, name, None)

    def _attach(self, params: Params, signer: Signer) -> None:
        arn = _policy_arn(params)
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:AttachRolePolicy")
            if self._accounts.managed_policy(arn) is None:
                raise ApiError("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.")
            attached = tuple(dict.fromkeys((*role.attached, arn)))
            if len(attached) > _ATTACHED:
                raise ApiError(
                    "LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {_ATTACHED}"
                )
            self._accounts.put_role(replace(role, attached=attached))

    def _detach(self, params: Params, signer: Signer) -> None:
        arn = _policy_arn(params)
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:DetachRolePolicy")
            if arn not in role.attached:
                raise ApiError("NoSuchEntity", f"Policy {arn} was not found.")
            left = tuple(one for one in role.attached if one != arn)
            self._accounts.put_role(replace(role, attached=left))

    def _list_attached(self, params: Params, signer: Signer) -> Result:
        role = found(self._accounts, params, signer, "iam:ListAttachedRolePolicies")
        attached = [
            {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in role.attached
        ]
        return page(params, "AttachedPolicies", attached)


def _policy_name(params: Params) -> str:
    return named(params, "PolicyName", least=1, most=128, pattern=NAME)


def _policy_arn(params: Params) -> str:
    arn = sized(params, "PolicyArn", least=20, most=2048)
    if not _POLICY_ARN.fullmatch(arn):
        raise ApiError("InvalidInput", f"ARN {arn} is not valid.")
    return arn


def _no_such_policy(name: str) -> ApiError:
    return ApiError("NoSuchEntity", f"The role policy with name {name} cannot be found.")
