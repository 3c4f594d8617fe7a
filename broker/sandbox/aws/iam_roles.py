"""IAM's operations on roles.

Source: aws-api.md 6.3; IAM API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from broker.sandbox.aws import constraints, iam_documents
from broker.sandbox.aws.accounts import Accounts
from broker.sandbox.aws.constraints import Params, named, sized
from broker.sandbox.aws.iam_paging import page, tag_list, wire_time
from broker.sandbox.aws.iam_records import RoleRecord
from broker.sandbox.aws.operations import Operation, Signer, signed
from broker.sandbox.aws.query import ApiError, Result, members

ROLE_NAME = r"[\w+=,.@-]+"
DOCUMENT_MAX_CHARACTERS = 131_072

_PATH = r"/|/[!-\x7f]+/"
_PATH_PREFIX = r"/[!-\x7f]*"
_DESCRIPTION = r"[\t\n\r -~\xa1-\xff]*"
_DURATION_MIN_S, _DURATION_MAX_S = 3600, 43200
_TAGS = 50


class Roles:
    """The operations on roles themselves."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        answers: Mapping[str, Callable[[Params, Signer], Result | None]] = {
            "CreateRole": self._create,
            "GetRole": self._get,
            "ListRoles": self._list,
            "UpdateRole": self._update,
            "UpdateAssumeRolePolicy": self._update_trust,
            "TagRole": self._tag,
            "UntagRole": self._untag,
            "ListRoleTags": self._list_tags,
            "DeleteRole": self._delete,
        }
        self.operations: Mapping[str, Operation] = {
            name: signed(answer) for name, answer in answers.items()
        }

    def _create(self, params: Params, signer: Signer) -> Result:
        name = role_name(params)
        path = named(params, "Path", least=1, most=512, pattern=_PATH) if "Path" in params else "/"
        duration_s = _max_session_duration(params) or _DURATION_MIN_S
        description = _description(params) or ""
        tags = constraints.tags(params)
        account = signer.identity.account
        made = self._accounts.new_role(name, account=account, path=path, trust_policy={})
        signer.require("iam:CreateRole", resource=made.arn)
        if tags:
            signer.require("iam:TagRole", resource=made.arn)
        with self._accounts.lock:
            taken = {one.name.lower() for one in self._accounts.roles(account)}
            if name.lower() in taken:
                raise ApiError("EntityAlreadyExists", f"Role with name {name} already exists.")
            made = replace(
                made,
                trust_policy=self._trust_policy(params, "AssumeRolePolicyDocument"),
                max_session_duration_s=duration_s,
                description=description,
                tags=tags,
            )
            self._accounts.put_role(made)
        return {"Role": _described(made)}

    def _get(self, params: Params, signer: Signer) -> Result:
        role = found(self._accounts, params, signer, "iam:GetRole")
        return {"Role": _described(role)}

    def _list(self, params: Params, signer: Signer) -> Result:
        """List without tags, as IAM does."""
        prefix = "/"
        if "PathPrefix" in params:
            prefix = named(params, "PathPrefix", least=1, most=512, pattern=_PATH_PREFIX)
        account = signer.identity.account
        below = f"arn:{self._accounts.partition}:iam::{account}:role{prefix}"
        signer.require("iam:ListRoles", resource=below)
        listed = sorted(self._accounts.roles(account), key=lambda role: (role.path, role.name))
        described = [
            _described(replace(one, tags={})) for one in listed if one.path.startswith(prefix)
        ]
        return page(params, "Roles", described)

    def _update(self, params: Params, signer: Signer) -> Result:
        """Change a role; a duration that is not given is set to its default, as IAM does."""
        duration_s, description = _max_session_duration(params), _description(params)
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:UpdateRole")
            if description is not None:
                role = replace(role, description=description)
            self._accounts.put_role(
                replace(role, max_session_duration_s=duration_s or _DURATION_MIN_S)
            )
        return {}

    def _update_trust(self, params: Params, signer: Signer) -> None:
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:UpdateAssumeRolePolicy")
            policy = self._trust_policy(params, "PolicyDocument")
            self._accounts.put_role(replace(role, trust_policy=policy))

    def _tag(self, params: Params, signer: Signer) -> None:
        tags = constraints.tags(params)
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:TagRole")
            together = {**role.tags, **tags}
            if len(together) > _TAGS:
                raise ApiError("LimitExceeded", f"Cannot exceed quota for TagsPerRole: {_TAGS}")
            self._accounts.put_role(replace(role, tags=together))

    def _untag(self, params: Params, signer: Signer) -> None:
        gone = members(params, "TagKeys")
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:UntagRole")
            left = {key: value for key, value in role.tags.items() if key not in gone}
            self._accounts.put_role(replace(role, tags=left))

    def _list_tags(self, params: Params, signer: Signer) -> Result:
        role = found(self._accounts, params, signer, "iam:ListRoleTags")
        return page(params, "Tags", tag_list(role.tags))

    def _delete(self, params: Params, signer: Signer) -> None:
        with self._accounts.lock:
            role = modifiable(self._accounts, params, signer, "iam:DeleteRole")
            if role.attached:
                raise ApiError(
                    "DeleteConflict", "Cannot delete entity, must detach all policies first."
                )
            if role.policies:
                raise ApiError(
                    "DeleteConflict", "Cannot delete entity, must delete policies first."
                )
            self._accounts.remove_role(role.arn)

    def _trust_policy(self, params: Params, name: str) -> Mapping[str, object]:
        text = sized(params, name, least=1, most=DOCUMENT_MAX_CHARACTERS)
        return iam_documents.trust_policy(
            text, partition=self._accounts.partition, exists=self._exists
        )

    def _exists(self, arn: str) -> bool:
        accounts = self._accounts
        session = re.fullmatch(r"arn:[\w-]+:sts::(\d{12}):assumed-role/([^/]+)/.+", arn, re.ASCII)
        if session is not None:
            return any(one.name == session[2] for one in accounts.roles(session[1]))
        return (
            arn.endswith(":root")
            or accounts.provider(arn) is not None
            or accounts.role(arn) is not None
            or accounts.has_user(arn)
        )


def role_name(params: Params) -> str:
    return named(params, "RoleName", least=1, most=64, pattern=ROLE_NAME)


def found(accounts: Accounts, params: Params, signer: Signer, action: str) -> RoleRecord:
    """Return the signer's role of that name, once the signer may do *action* with it.

    Raises:
        ApiError: AccessDenied, NoSuchEntity.
    """
    name, account = role_name(params), signer.identity.account
    role = next((one for one in accounts.roles(account) if one.name == name), None)
    resource = role.arn if role else f"arn:{accounts.partition}:iam::{account}:role/{name}"
    signer.require(action, resource=resource)
    if role is None:
        raise ApiError("NoSuchEntity", f"The role with name {name} cannot be found.")
    return role


def modifiable(accounts: Accounts, params: Params, signer: Signer, action: str) -> RoleRecord:
    """Do the same for a change.

    Raises:
        ApiError: UnmodifiableEntity too.
    """
    role = found(accounts, params, signer, action)
    if role.is_service_linked:
        raise ApiError(
            "UnmodifiableEntity",
            f"Cannot perform the operation on the protected role '{role.name}' - this role is "
            "only modifiable by AWS",
        )
    return role


def _described(role: RoleRecord) -> Result:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.role_id,
        "Arn": role.arn,
        "CreateDate": wire_time(role.created_at),
        "AssumeRolePolicyDocument": iam_documents.on_the_wire(role.trust_policy),
        "Description": role.description or None,
        "MaxSessionDuration": role.max_session_duration_s,
        "Tags": tag_list(role.tags) or None,
    }


def _max_session_duration(params: Params) -> int | None:
    if "MaxSessionDuration" not in params:
        return None
    return constraints.whole(
        params, "MaxSessionDuration", least=_DURATION_MIN_S, most=_DURATION_MAX_S, default=0
    )


def _description(params: Params) -> str | None:
    if "Description" not in params:
        return None
    return named(params, "Description", least=0, most=1000, pattern=_DESCRIPTION)
