"""Sort AWS's refusals to be set up: what happened, and what to do. Pure: knows codes, no library.

Source: aws-api 6, 7, 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from broker.lease import Refused, SourceError
from broker.sources.aws.errors import AwsError, caller_has_expired, describe, transient_error


class AwsRefused(Refused):
    """AWS said no, by *code* (without the ending "Exception"), in these *words* of its own."""

    def __init__(self, message: str, *, fault: AwsError, word: str) -> None:
        super().__init__(message, word=word)
        self.code = fault.plain_code
        self.words = fault.message


def sorted_setup_fault(
    fault: AwsError, of: str, *, action: str, endpoint_named_by: str
) -> SourceError:
    """Return the error for a refused call, to be raised. *of* names the call ("CreateRole (IAM)"),
    *action* the permission that it takes ("iam:CreateRole")."""
    what, code = describe(fault, of=of), fault.plain_code
    passing = transient_error(fault, what, of=of, endpoint_named_by=endpoint_named_by)
    if passing is not None:
        return passing
    if caller_has_expired(fault):
        return AwsRefused(f"{what}; {_RENEW}", fault=fault, word="expired-token")
    if code.startswith(("AccessDenied", "UnauthorizedOperation")):
        return AwsRefused(
            f"{what}; allow {_denied(fault) or action} to this AWS identity, or name another by "
            "--profile",
            fault=fault,
            word="access-denied",
        )
    word, next_step = _NEXT_STEPS.get(code, ("bad-request", "correct the flags"))
    return AwsRefused(f"{what}; {next_step}", fault=fault, word=word)


def _denied(fault: AwsError) -> str:
    """Return the permission that AWS itself names, "" where it names none: making a thing with
    tags takes two."""
    named = re.search(r"not authorized to perform: ([\w-]+:\w+)", fault.message)
    return named[1] if named else ""


_RENEW: Final = "renew this machine's AWS credentials (`aws sso login`, or as you got them)"
_CLOCK: Final = "check this machine's clock, and that its AWS secret key belongs to its key id"
_AGAIN: Final = "somebody else changed it meanwhile; run the command again"
_QUOTA: Final = "a quota of the account is used up; remove what nobody needs, or have it raised"
_GONE: Final = "it is gone, or never was there; run the command again"

_NEXT_STEPS: Final[Mapping[str, tuple[str, str]]] = {
    "EntityAlreadyExists": ("conflict", _AGAIN),
    "DeleteConflict": (
        "conflict",
        "something still hangs on it (an instance profile, a policy); take that away first",
    ),
    "DuplicateProvider": ("conflict", _AGAIN),
    "ResourceConflict": ("conflict", _AGAIN),
    "FeatureEnabled": ("conflict", _AGAIN),
    "FeatureDisabled": ("federation-disabled", "switch it on: setup to-namespace --via sts"),
    "NoSuchEntity": ("not-found", _GONE),
    "ResourceNotFound": ("not-found", _GONE),
    "MalformedPolicyDocument": (
        "bad-policy",
        "correct the policy; of a trust policy, also that its principals are there",
    ),
    "LimitExceeded": ("quota", _QUOTA),
    "UnmodifiableEntity": (
        "access-denied",
        "the role belongs to an AWS service, which alone may change it; choose another role",
    ),
    "InvalidInput": ("bad-request", "correct the flag that says so"),
    "InvalidParameter": ("bad-request", "correct the flag that says so"),
    "ValidationError": ("bad-request", "correct the flag that says so"),
    "PolicyNotAttachable": ("bad-policy", "it is made for an AWS service; choose another policy"),
    "NotAuthorized": ("access-denied", "name an AWS identity that may, by --profile"),
    "RegionDisabled": ("region-disabled", "activate STS in that region, or give another --region"),
    "SignatureDoesNotMatch": ("access-denied", _CLOCK),
    "InvalidSignature": ("access-denied", _CLOCK),
    "IncompleteSignature": ("access-denied", _CLOCK),
}
