"""Write the credential documents and error bodies that each surface's clients read."""

import json
import re
from base64 import b32encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from broker import aws
from broker.clock import rfc3339
from broker.credentials import AwsCredentials
from broker.http.message import Answer, Attempt, Issued, Kind, Pending
from broker.lease import Lease, NotReady

T_co = TypeVar("T_co", covariant=True)


class LeaseHolder(Protocol[T_co]):
    """What the surfaces need of a keeper: the newest lease, from memory."""

    def current(self, *, now: datetime | None = None) -> Lease[T_co]: ...

    def attempt(self, *, now: datetime) -> Attempt | None: ...


def live_lease(holder: LeaseHolder[T_co] | None, *, now: datetime) -> Lease[T_co] | None:
    """Return the newest lease if it is live, also by its end as we write it, in whole seconds."""
    if holder is None:
        return None
    try:
        lease = holder.current(now=now)
    except NotReady:
        return None
    if lease.expires_at is not None and lease.expires_at.replace(microsecond=0) <= now:
        return None
    return lease


def pending(
    holder: LeaseHolder[object] | None, *, within_s: float, now: datetime
) -> Pending | None:
    """Return the attempt to wait for where *holder* has no lease to serve, if one is under way."""
    attempt = None if holder is None else holder.attempt(now=now)
    return None if attempt is None else Pending(attempt, within_s)


def servable(holder: LeaseHolder[AwsCredentials], *, now: datetime) -> Lease[AwsCredentials] | None:
    """Return the lease to serve; None unless it is live, has an end and needs no escapes.

    Source: sdk-client-contract C-44, C-45, C-46, C-52.
    """
    lease = live_lease(holder, now=now)
    if lease is None or lease.expires_at is None:
        return None
    value = lease.value
    texts = (value.access_key_id, value.secret_access_key, value.session_token, value.role_arn)
    # Visible ASCII except the quote and the backslash.
    return lease if all(re.fullmatch(r"[!#-\[\]-~]+", text) for text in texts) else None


def issued(kind: Kind, lease: Lease[object]) -> Issued:
    """Describe the served *lease* for log, metrics and audit."""
    last4 = lease.value.access_key_id[-4:] if isinstance(lease.value, AwsCredentials) else None
    return Issued(kind=kind, key_id_last4=last4, expires_at=lease.expires_at)


def rfc3339_or_none(instant: datetime | None) -> str | None:
    return None if instant is None else rfc3339(instant)


def ec2_json(members: Mapping[str, object]) -> bytes:
    """Return *members* as EC2 formats JSON, which scripts read line by line.

    Source: sdk-client-contract C-40.
    """
    text = json.dumps(members, indent=2, separators=(",", " : "))
    return text.encode("ascii")


def imds_credentials(
    lease: Lease[AwsCredentials], *, now: datetime, with_account: bool = False
) -> bytes:
    """Return a role's document on IMDS; *with_account* for the extended path.

    ``LastUpdated`` is never in the future: s3cmd rejects that.

    Source: sdk-client-contract C-39 to C-46.
    """
    members = {
        "Code": "Success",
        "LastUpdated": rfc3339(min(lease.issued_at, now)),
        "Type": "AWS-HMAC",
        "AccessKeyId": lease.value.access_key_id,
        "SecretAccessKey": lease.value.secret_access_key,
        "Token": lease.value.session_token,
        "Expiration": _expiration(lease),
    }
    return ec2_json(members | {"AccountId": lease.value.account_id} if with_account else members)


def credentials_document(lease: Lease[AwsCredentials]) -> dict[str, str]:
    """Return the members of the container endpoint's document; s3fs-fuse needs the ``RoleArn``.

    Source: sdk-client-contract C-65.
    """
    return {
        "AccessKeyId": lease.value.access_key_id,
        "SecretAccessKey": lease.value.secret_access_key,
        "Token": lease.value.session_token,
        "Expiration": _expiration(lease),
        "AccountId": lease.value.account_id,
        "RoleArn": lease.value.role_arn,
    }


def iam_info(lease: Lease[AwsCredentials], *, role: str, now: datetime) -> bytes:
    """Return ``iam/info``: an instance profile for the role, with a stable, invented id.

    Source: sdk-client-contract C-16, C-60.
    """
    partition = aws.partition_of(lease.value.role_arn)
    profile = f"arn:{partition}:iam::{lease.value.account_id}:instance-profile/{role}"
    return ec2_json(
        {
            "Code": "Success",
            "LastUpdated": rfc3339(min(lease.issued_at, now)),
            "InstanceProfileArn": profile,
            "InstanceProfileId": "AIPA"
            + b32encode(sha256(profile.encode()).digest())[:17].decode(),
        }
    )


def _expiration(lease: Lease[AwsCredentials]) -> str:
    assert lease.expires_at is not None, "servable leases have an end"
    return rfc3339(lease.expires_at)


EC2_SERVER: Mapping[str, str] = MappingProxyType({"Server": "EC2ws"})
"""The header of every IMDS answer: some clients recognise the service by it (C-10)."""


def page(
    status: int, *, route: str = "other", role: str = "none", refusal: str | None = None
) -> Answer:
    """Return an error as EC2 does: an XHTML page.

    CRT takes the body of any status but 401 for a role list; the spaces in the page keep it from
    finding a role name there.

    Source: sdk-client-contract C-56, C-62.
    """
    title = f"{status} - {HTTPStatus(status).phrase}"
    text = (
        '<?xml version="1.0" encoding="iso-8859-1"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        f"<head><title>{title}</title></head>\n"
        f"<body><h1>{title}</h1></body>\n"
        "</html>\n"
    )
    return Answer(
        status=status,
        body=text.encode("ascii"),
        content_type="text/html",
        headers=EC2_SERVER,
        route=route,
        role=role,
        refusal=refusal,
    )


def not_allowed(allow: str, *, route: str) -> Answer:
    """Return 405 as EC2 does, without a body; *allow* is the ``Allow`` header.

    Source: sdk-client-contract C-27, C-35, C-62.
    """
    return Answer(status=405, headers={**EC2_SERVER, "Allow": allow}, route=route)


def problem(
    status: int,
    message: str,
    *,
    allow: str | None = None,
    route: str = "container",
    role: str = "none",
    refusal: str | None = None,
) -> Answer:
    """Return an error as JSON for both kinds of reader.

    Go and Java read the lower-case names, JavaScript the others.

    Source: sdk-client-contract C-63.
    """
    code = HTTPStatus(status).phrase.replace(" ", "")
    return json_answer(
        status,
        {"code": code, "message": message, "Code": code, "Message": message},
        headers={} if allow is None else {"Allow": allow},
        route=route,
        role=role,
        refusal=refusal,
    )


def json_answer(status: int, document: object, **fields: Any) -> Answer:
    """Return *document* as JSON; *fields* are others of `Answer`."""
    body = json.dumps(document).encode("ascii")
    return Answer(status=status, body=body, content_type="application/json", **fields)
