"""What the resources in IAM share: lists, absence, tags, and waiting until IAM has caught up.

Source: aws-api 6.2 to 6.5.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from broker.clock import Clock
from broker.lease import Unavailable
from broker.setup.aws import AwsApi, AwsRefused
from broker.setup.documents import Document
from broker.setup.resource import TAG_KEY, TAG_VALUE

TAGS = ({"Key": TAG_KEY, "Value": TAG_VALUE},)
NOT_FOUND = "NoSuchEntity"

SETTLING_PAUSES_S = (5.0, 10.0, 20.0)
"""Between attempts to use what was just made: it takes time to be known everywhere in IAM."""


async def call_or_none(aws: AwsApi, operation: str, **parameters: Any) -> Mapping[str, Any] | None:
    """Call *operation*; None where what it is about does not exist."""
    try:
        return await aws.call("iam", operation, **parameters)
    except AwsRefused as error:
        if error.code != NOT_FOUND:
            raise
        return None


async def listed(aws: AwsApi, operation: str, member: str, **parameters: Any) -> AsyncIterator[Any]:
    """Yield the entries of every page; nothing where what it is about does not exist."""
    marker: dict[str, Any] = {}
    while True:
        page = await call_or_none(aws, operation, **parameters, **marker)
        for entry in (page or {}).get(member) or ():
            yield entry
        if not page or not page.get("IsTruncated") or not page.get("Marker"):
            return
        marker = {"Marker": page["Marker"]}


async def attached_policies(aws: AwsApi, role: str) -> tuple[str, ...]:
    """Return the ARNs of the managed policies on *role*; none where it does not exist."""
    entries = listed(aws, "ListAttachedRolePolicies", "AttachedPolicies", RoleName=role)
    return tuple([str(entry.get("PolicyArn")) async for entry in entries])


async def inline_policies(aws: AwsApi, role: str) -> tuple[str, ...]:
    """Return the names of the role's own policies; none where it does not exist."""
    names = listed(aws, "ListRolePolicies", "PolicyNames", RoleName=role)
    return tuple([str(name) async for name in names])


async def call_when_settled(
    call: Callable[[], Awaitable[object]],
    *,
    is_early: Callable[[AwsRefused], bool],
    clock: Clock,
) -> None:
    """Make *call*, again after a pause where it was refused for coming too early."""
    for pause_s in SETTLING_PAUSES_S:
        try:
            await call()
        except AwsRefused as error:
            if not is_early(error):
                raise
            await clock.sleep(pause_s)
        else:
            return
    await call()


def role_not_found(error: AwsRefused) -> bool:
    return error.code == NOT_FOUND and "role with name" in error.words.lower()


def is_tagged(response: Mapping[str, Any]) -> bool:
    return any(
        tag.get("Key") == TAG_KEY and tag.get("Value") == TAG_VALUE
        for tag in response.get("Tags") or ()
    )


def policy_in(document: object) -> Document:
    """Return a policy as botocore has parsed it.

    Raises:
        Unavailable: It is none: what cannot be read must not be overwritten.
    """
    if not isinstance(document, dict):
        raise Unavailable("IAM returned a policy that is not a JSON object", word="bad-answer")
    return document


def compact(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))
