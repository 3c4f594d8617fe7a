"""Write the credential documents and error bodies that each surface's clients read."""

import json
import re
from base64 import b32encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol

from broker import aws
from broker.clock import rfc3339
from broker.credentials import AwsCredentials
from broker.http.message import Answer, Issued
from broker.lease import Lease, NotReady


class CredentialHolder(Protocol):
    """What the surfaces need of a keeper: the newest lease, from memory."""

    def current(self, *, now: datetime | None = None) -> Lease[AwsCredentials]: ...


def servable(held: CredentialHolder, *, now: datetime) -> Lease[AwsCredentials] | None:
    """Return the lease to hand out, or None where there is none that every client can take:
    live by its expiry as we write it, and of characters that need no escape.

    Source: sdk-client-contract C-44, C-45, C-46, C-52.
    """
    try:
        lease = held.current(now=now)
    except NotReady:
        return None
    if lease.expires_at is None or lease.expires_at.replace(microsecond=0) <= now:
        return None
    value = lease.value
    texts = (value.access_key_id, value.secret_access_key, value.session_token, value.role_arn)
    # Visible ASCII but for the quote and the backslash.
    return lease if all(re.fullmatch(r"[!#-\[\]-~]+", text) for text in texts) else None


def handed_out(lease: Lease[AwsCredentials]) -> Issued:
    """Return what our own channels say of *lease* when it is handed out."""
    return Issued(
        kind="aws",
        key_id_last4=lease.value.access_key_id[-4:],
        expires_at=lease.expires_at,
    )


def ec2_json(members: Mapping[str, object]) -> bytes:
    """Return *members* laid out as EC2 does, which scripts read line by line.

    Source: sdk-client-contract C-40.
    """
    text = json.dumps(members, indent=2, separators=(",", " : "))
    return text.encode("ascii")


def imds_credentials(
    lease: Lease[AwsCredentials], *, now: datetime, with_account: bool = False
) -> bytes:
    """Return the document of a role on IMDS; *with_account* for the extended path.

    ``LastUpdated`` is never in the future: s3cmd minds.

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
    """Return ``iam/info``: an instance profile that would carry the role, with a stable made-up id.

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
"""The header of every IMDS answer: some clients know the service by it (C-10)."""


def page(
    status: int, *, route: str = "other", role: str = "none", refusal: str | None = None
) -> Answer:
    """Return an error as EC2 gives it: an XHTML page. Its spaces keep CRT, which takes the body of
    any status but 401 for a role list, from finding a role name in it.

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
    """Return 405 as EC2 gives it, without a body; *allow* is the ``Allow`` header.

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
    """Return an error as JSON, spelled for both readers: Go and Java read the lower-case names,
    JavaScript the others.

    Source: sdk-client-contract C-63.
    """
    code = HTTPStatus(status).phrase.replace(" ", "")
    body = {"code": code, "message": message, "Code": code, "Message": message}
    return Answer(
        status=status,
        body=json.dumps(body).encode("ascii"),
        content_type="application/json",
        headers={} if allow is None else {"Allow": allow},
        route=route,
        role=role,
        refusal=refusal,
    )
