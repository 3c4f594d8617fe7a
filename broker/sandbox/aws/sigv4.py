"""Verify AWS Signature Version 4 on a request as it arrived.

The canonical request, the string to sign and the signature are botocore's; what AWS checks around
them is here. Source: IAM user guide, "Create a signed AWS API request"; for S3's payload forms,
"Authenticating Requests: Using the Authorization Header".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
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

_MAX_SKEW = timedelta(minutes=15)
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
class WireRequest:
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
    """The content of the Authorization header."""

    scope: Scope
    signed_headers: tuple[str, ...]
    signature: str


def scope_of(request: WireRequest) -> Scope | None:
    """Return the credential scope, to route by, when there is a readable one."""
    try:
        return read(request).scope
    except SignatureError:
        return None


def read(request: WireRequest) -> Signature:
    """Parse the Authorization header.

    Raises:
        SignatureError: ``missing``, or ``incomplete`` when it is no such header.
    """
    authorization = request.headers.get("authorization")
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
    request: WireRequest, signature: Signature, *, secret: str, region: str | None, now: datetime
) -> None:
    """Recompute the signature as AWS does.

    Raises:
        SignatureError: It differs, is more than 15 minutes off, is scoped to another region
            than *region* (None takes any), leaves a header unsigned, or the body is not the
            one that was hashed.
    """
    scope = signature.scope
    stamp = _stamp(request, scope, now)
    if region is not None and scope.region != region:
        raise SignatureError("scope", f"the region '{scope.region}' is wrong; expecting '{region}'")
    _check_signed_headers(request, signature)
    _check_payload_hash(request, scope.service)
    recomputed = _recomputed(request, signature, stamp=stamp, secret=secret)
    if not hmac.compare_digest(recomputed, signature.signature):
        raise SignatureError(
            "mismatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
        )


def _recomputed(request: WireRequest, signature: Signature, *, stamp: str, secret: str) -> str:
    # Slow to import, and a sandbox without signed requests needs none of it.
    from botocore.auth import S3SigV4Auth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    scope, names = signature.scope, signature.signed_headers
    signed = AWSRequest(
        method=request.method,
        url=f"http://signed{_canonical_target(request)}",
        headers={name: request.headers.get(name, "") for name in names},
        data=request.body,
    )
    signed.context["timestamp"] = stamp
    # S3 encodes its paths once, every other service twice.
    kind = S3SigV4Auth if scope.service == "s3" else SigV4Auth
    auth: Any = kind(Credentials(scope.access_key_id, secret), scope.service, scope.region)
    auth.headers_to_sign = lambda one: one.headers  # those that the client chose, and no others
    to_sign = auth.string_to_sign(signed, auth.canonical_request(signed))
    return str(auth.signature(to_sign, signed))


def _canonical_target(request: WireRequest) -> str:
    """Return path and query in the one encoding that is signed, whatever was on the wire."""
    pairs = (pair.partition("=") for pair in request.query.split("&") if pair)
    query = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, _, value in pairs)
    return f"{quote(unquote(request.path), safe='/~')}?{query}"


def _encoded(text: str) -> str:
    return quote(unquote_plus(text), safe="~")


def _stamp(request: WireRequest, scope: Scope, now: datetime) -> str:
    stamp = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureError("incomplete", "X-Amz-Date is missing or malformed") from None
    if stamp[:8] != scope.date:
        raise SignatureError("mismatch", "Date in Credential scope does not match YYYYMMDD")
    if abs(now - signed_at) > _MAX_SKEW:
        raise SignatureError("skewed", f"Signature expired: {stamp} is too far from {now:%FT%TZ}")
    return stamp


def _check_signed_headers(request: WireRequest, signature: Signature) -> None:
    must = {name for name in request.headers if name.startswith("x-amz-")}
    if signature.scope.service != "s3":
        must &= {"x-amz-date", "x-amz-security-token"}
    unsigned = sorted((must | {"host"}) - set(signature.signed_headers))
    if unsigned:
        raise SignatureError(
            "unsigned-header",
            f"There were headers present in the request which were not signed: {unsigned}",
        )


def _check_payload_hash(request: WireRequest, service: str) -> None:
    """Check the hash that the client sent of the body: S3 needs one, and takes none instead."""
    is_s3 = service == "s3"
    sent = request.headers.get("x-amz-content-sha256", "" if is_s3 else None)
    if sent is None or (is_s3 and _UNHASHED_PAYLOADS.fullmatch(sent)):
        return
    if sent != hashlib.sha256(request.body).hexdigest():
        raise SignatureError("body", "The provided 'x-amz-content-sha256' does not match the body")
