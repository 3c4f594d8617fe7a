"""Policy documents as IAM reads, checks and writes them.

Source: aws-api.md 6.3 and 6.4; IAM reference, "Grammar of the IAM JSON policy language".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from broker import policy
from broker.sandbox.aws.iam_records import Policy
from broker.sandbox.aws.query import ApiError
from broker.sandbox.keys import compact_json

TRUST_MAX_CHARACTERS = 2048
INLINE_MAX_CHARACTERS = 10_240
"""Quotas; white space does not count. Source: IAM user guide, "IAM and AWS STS quotas"."""

_VERSIONS = ("2012-10-17", "2008-10-17")
_TRUST_ACTIONS = frozenset(
    {
        "sts:*",
        "sts:AssumeRole",
        "sts:AssumeRoleWithSAML",
        "sts:AssumeRoleWithWebIdentity",
        "sts:SetContext",
        "sts:SetSourceIdentity",
        "sts:TagSession",
    }
)
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.ASCII)
_FEDERATED_ARN = re.compile(r"arn:[a-z-]+:iam::\d{12}:(?P<kind>oidc|saml)-provider/.+", re.ASCII)
_AWS_ARN = re.compile(
    r"arn:[a-z-]+:(?:iam::\d{12}:(?:root|user/.+|role/.+)|sts::\d{12}:[a-z-]+/.+)", re.ASCII
)


def on_the_wire(document: Policy) -> str:
    """Return it as IAM answers it: JSON, percent-encoded.

    Source: RFC 3986, as IAM's API reference says of GetRole.
    """
    return quote(compact_json(document), safe="")


def trust_policy(text: str, *, partition: str, exists: Callable[[str], bool]) -> Policy:
    """Return the trust policy in *text* as IAM stores it: an account's id becomes its root's ARN.

    *exists* tells whether there is a provider, role or user of that ARN.

    Raises:
        ApiError: MalformedPolicyDocument, LimitExceeded.
    """
    document = _document(text)
    for statement in _statements(document):
        _check_elements(statement, prohibited=("Resource", "NotResource"))
        if not {"Principal", "NotPrincipal"} & statement.keys():
            raise _malformed("Missing required field Principal cannot be empty!")
        if not set(_texts(statement, "Action")) <= _TRUST_ACTIONS:
            raise _malformed("AssumeRole policy may only specify STS AssumeRole actions.")
        for element in ("Principal", "NotPrincipal"):
            _check_principal(statement.get(element, "*"), exists)
    _check_size(document, TRUST_MAX_CHARACTERS, "Cannot exceed quota for ACLSizePerRole: 2048")
    return _with_roots(document, partition)


def permission_policy(text: str) -> Policy:
    """Return the permission policy in *text*.

    Raises:
        ApiError: MalformedPolicyDocument, LimitExceeded.
    """
    document = _document(text)
    for statement in _statements(document):
        _check_elements(statement, prohibited=())
        if {"Principal", "NotPrincipal"} & statement.keys():
            raise _malformed("Policy document should not specify a principal.")
        if not {"Resource", "NotResource"} & statement.keys():
            raise _malformed("Policy statement must contain resources.")
        for action in _texts(statement, "Action") + _texts(statement, "NotAction"):
            if action != "*" and not re.fullmatch(r"[\w-]+:[\w*?-]+", action, re.ASCII):
                raise _malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb.")
        for resource in _texts(statement, "Resource") + _texts(statement, "NotResource"):
            if resource != "*" and not re.match(r"arn:[\w*-]+:", resource, re.ASCII):
                raise _malformed(f'Resource {resource} must be in ARN format or "*".')
    _check_size(document, INLINE_MAX_CHARACTERS, "Maximum policy size of 10240 bytes exceeded")
    return document


def _malformed(message: str) -> ApiError:
    return ApiError("MalformedPolicyDocument", message)


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        raise _malformed("This policy contains invalid Json") from None
    if not isinstance(document, dict) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise _malformed("Syntax errors in policy.")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise _malformed("Syntax errors in policy.")
    return document


def _statements(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = document.get("Statement")
    statements = listed if isinstance(listed, list) else [listed]
    if not statements:
        raise _malformed("Syntax errors in policy.")
    for statement in statements:
        if not isinstance(statement, dict):
            raise _malformed("Syntax errors in policy.")
        yield statement


def _check_elements(statement: Mapping[str, Any], *, prohibited: Iterable[str]) -> None:
    pairs = ("Principal", "Action", "Resource")
    known = {"Sid", "Effect", "Condition", *pairs, *(f"Not{name}" for name in pairs)}
    if not statement.keys() <= known or statement.get("Effect") not in ("Allow", "Deny"):
        raise _malformed("Syntax errors in policy.")
    for name in prohibited:
        if name in statement:
            raise _malformed(f"Has prohibited field {name}")
    if any({name, f"Not{name}"} <= statement.keys() for name in pairs):
        raise _malformed("Syntax errors in policy.")
    if not {"Action", "NotAction"} & statement.keys():
        raise _malformed("Policy statement must contain actions.")
    _check_condition(statement.get("Condition", {}))


def _check_condition(condition: object) -> None:
    if not isinstance(condition, dict):
        raise _malformed("Syntax errors in policy.")
    for operator, tests in condition.items():
        if not policy.is_operator(operator):
            raise _malformed(f"Invalid Condition type : {operator}.")
        if not isinstance(tests, dict):
            raise _malformed("Syntax errors in policy.")
        for values in tests.values():
            listed = values if isinstance(values, list) else [values]
            if not all(isinstance(one, (str, int, float, bool)) for one in listed):
                raise _malformed("Syntax errors in policy.")


def _texts(statement: Mapping[str, Any], element: str) -> list[str]:
    value = statement.get(element, [])
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) and one for one in listed):
        raise _malformed("Syntax errors in policy.")
    return listed


def _check_principal(principal: object, exists: Callable[[str], bool]) -> None:
    if principal == "*":
        return
    kinds = {"AWS", "Federated", "Service", "CanonicalUser"}
    if not isinstance(principal, dict) or not principal or not principal.keys() <= kinds:
        raise _malformed("Syntax errors in policy.")
    for federated in _texts(principal, "Federated"):
        _check_federated(federated, exists)
    for named in _texts(principal, "AWS"):
        if named == "*" or re.fullmatch(r"\d{12}", named, re.ASCII):
            continue
        if not _AWS_ARN.fullmatch(named) or not exists(named):
            raise _malformed(f'Invalid principal in policy: "AWS":"{named}"')
    for service in _texts(principal, "Service"):
        if not _DOMAIN.fullmatch(service):
            raise _malformed(f'Invalid principal in policy: "SERVICE":"{service}"')


def _check_federated(federated: str, exists: Callable[[str], bool]) -> None:
    arn = _FEDERATED_ARN.fullmatch(federated)
    if arn is None and not _DOMAIN.fullmatch(federated):
        raise _malformed("Federated principals must be valid domain names or SAML metadata ARNs")
    if arn and arn["kind"] == "oidc" and not exists(federated):
        raise _malformed(f'Invalid principal in policy: "FEDERATED":"{federated}"')


def _check_size(document: Policy, most: int, message: str) -> None:
    if len(compact_json(document)) > most:
        raise ApiError("LimitExceeded", message)


def _with_roots(document: Mapping[str, Any], partition: str) -> Policy:
    """Replace account ids by their roots' ARNs, as IAM does."""

    def kept(statement: Mapping[str, Any]) -> Mapping[str, Any]:
        principal = statement.get("Principal")
        if not isinstance(principal, dict) or "AWS" not in principal:
            return statement
        named = principal["AWS"]
        listed = [
            _root_of(one, partition) for one in (named if isinstance(named, list) else [named])
        ]
        aws = listed if isinstance(named, list) else listed[0]
        return {**statement, "Principal": {**principal, "AWS": aws}}

    statements = document["Statement"]
    if isinstance(statements, list):
        return {**document, "Statement": [kept(one) for one in statements]}
    return {**document, "Statement": kept(statements)}


def _root_of(named: str, partition: str) -> str:
    is_account = re.fullmatch(r"\d{12}", named, re.ASCII)
    return f"arn:{partition}:iam::{named}:root" if is_account else named
