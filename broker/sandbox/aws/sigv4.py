"""Verify AWS Signature Version 4 on a request as it arrived. Knows no service's errors.

Source: IAM user guide, "Create a signed AWS API request"; for S3's payload forms,
"Authenticating Requests: Using the Authorization Header".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote, unquote_plus

Reason = Literal[
    "missing",
    "incomplete",
    "unknown-key",
    "expired",
    "mismatch",
    "skewed",
    "body",
    "scope",
    "unsigned-header",
]

_MOST_SKEW = timedelta(minutes=15)
_ALGORITHM = "AWS4-HMAC-SHA256"
_UNHASHED_PAYLOADS = re.compile(
    r"UNSIGNED-PAYLOAD|STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    r"|STREAMING-AWS4-HMAC-SHA256-PAYLOAD(?:-TRAILER)?"
)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^,\s]+)\s*,"
    r"\s*SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})\s*"
)


class SignatureError(Exception):
    """The signature is not good; *reason* is the class, the text says what exactly."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Scope(NamedTuple):
    """The credential scope: whose key, for which day, region and service."""

    access_key_id: str
    date: str
    region: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A request as it was on the wire; ``target`` is path and query, still encoded."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)  # lower-case names, repeated ones joined
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def session_token(self) -> str | None:
        return self.headers.get("x-amz-security-token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What the Authorization header says."""

    scope: Scope
    signed_headers: tuple[str, ...]
    signature: str


def scope_of(arrived: Arrived) -> Scope | None:
    """Return the credential scope, to route by, when there is a readable one."""
    try:
        return read(arrived).scope
    except SignatureError:
        return None


def read(arrived: Arrived) -> Signature:
    """Raises:
    SignatureError: ``missing``, or ``incomplete`` when it is no such header.
    """
    authorization = arrived.headers.get("authorization")
    if authorization is None:
        raise SignatureError("missing", "Request is missing Authentication Token")
    parts = _AUTHORIZATION.fullmatch(authorization)
    credential = parts["credential"].split("/") if parts else []
    if parts is None or len(credential) != 5 or credential[4] != "aws4_request":
        raise SignatureError("incomplete", "Authorization header is not a valid SigV4 header")
    return Signature(
        scope=Scope(*credential[:4]),
        signed_headers=tuple(parts["headers"].split(";")),
        signature=parts["signature"],
    )


def verify(
    arrived: Arrived, signature: Signature, *, secret: str, region: str | None, now: datetime
) -> None:
    """Recompute the signature as AWS does.

    Raises:
        SignatureError: It differs, is more than 15 minutes off, is scoped to another region
            than *region* (None takes any), leaves a header unsigned, or the body is not the
            one that was hashed.
    """
    scope = signature.scope
    stamp = _stamp(arrived, scope, now)
    if region is not None and scope.region != region:
        raise SignatureError("scope", f"the region '{scope.region}' is wrong; expecting '{region}'")
    _check_signed_headers(arrived, signature)
    payload_hash = _payload_hash(arrived, scope.service)
    canonical = _canonical_request(arrived, signature, payload_hash)
    to_sign = "\n".join(
        (
            _ALGORITHM,
            stamp,
            f"{scope.date}/{scope.region}/{scope.service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    key = f"AWS4{secret}".encode()
    for part in (scope.date, scope.region, scope.service, "aws4_request", to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(key.hex(), signature.signature):
        raise SignatureError(
            "mismatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
        )


def _stamp(arrived: Arrived, scope: Scope, now: datetime) -> str:
    stamp = arrived.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureError("incomplete", "X-Amz-Date is missing or malformed") from None
    if stamp[:8] != scope.date:
        raise SignatureError("mismatch", "Date in Credential scope does not match YYYYMMDD")
    if abs(now - signed_at) > _MOST_SKEW:
        raise SignatureError("skewed", f"Signature expired: {stamp} is too far from {now:%FT%TZ}")
    return stamp


def _check_signed_headers(arrived: Arrived, signature: Signature) -> None:
    must = {name for name in arrived.headers if name.startswith("x-amz-")}
    if signature.scope.service != "s3":
        must &= {"x-amz-date", "x-amz-security-token"}
    unsigned = sorted((must | {"host"}) - set(signature.signed_headers))
    if unsigned:
        raise SignatureError(
            "unsigned-header",
            f"There were headers present in the request which were not signed: {unsigned}",
        )


def _payload_hash(arrived: Arrived, service: str) -> str:
    """Return what the client signed for the body; S3 says so itself and may leave it open."""
    actual = hashlib.sha256(arrived.body).hexdigest()
    if service != "s3":
        return actual
    told = arrived.headers.get("x-amz-content-sha256", "")
    if told != actual and not _UNHASHED_PAYLOADS.fullmatch(told):
        raise SignatureError("body", "The provided 'x-amz-content-sha256' does not match the body")
    return told


def _canonical_request(arrived: Arrived, signature: Signature, payload_hash: str) -> str:
    path = quote(unquote(arrived.path), safe="/~")
    if signature.scope.service != "s3":
        path = quote(path, safe="/~")
    pairs = (pair.partition("=") for pair in arrived.query.split("&") if pair)
    query = "&".join(
        f"{name}={value}"
        for name, value in sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    )
    headers = "".join(
        f"{name}:{' '.join(arrived.headers.get(name, '').split())}\n"
        for name in signature.signed_headers
    )
    names = ";".join(signature.signed_headers)
    return "\n".join((arrived.method, path, query, headers, names, payload_hash))


def _encoded(text: str) -> str:
    return quote(unquote_plus(text), safe="~")
