"""The values that leases hold: tokens, keys and roles. Secrets stay out of their repr."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from broker import aws


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceToken:
    """A bearer token for Namespace's APIs, with its prefix (``nsct_``, ``nscw_``, ``nsrt_``).

    A claim is None if the token is opaque (``nsrt_``) or does not carry it.
    """

    bearer: str = field(repr=False)
    tenant_id: str | None = None
    instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdToken:
    """An OIDC ID token that Namespace issued, and its claims."""

    jwt: str = field(repr=False)
    issuer: str
    subject: str
    audience: str
    session_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCredentials:
    """One set of temporary AWS credentials, as STS issues them."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    role_arn: str

    @property
    def account_id(self) -> str:
        return aws.account_of(self.role_arn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role to assume, with every parameter of the call; two that differ never share a session.

    ``duration_s`` is None for the longest that the role allows, found by trying.
    """

    name: str
    arn: str
    region: str
    duration_s: int | None = 3600
    session_name: str | None = None
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()


def session_name_for(*, instance_id: str | None, tenant_id: str | None) -> str:
    """Return the session name that Namespace's own tools use: the instance, else the workspace.

    Source: namespace-api 7.
    """
    if instance_id:
        return legal_session_name(f"nsc.instance={instance_id}")
    if tenant_id:
        return legal_session_name(f"nsc.tenant={tenant_id}")
    return "namespace-broker"


def legal_session_name(text: str) -> str:
    """Return *text* as a role session name: 2 to 64 of the characters that AWS allows.

    A name that is too long ends in a hash of the whole, so that two of them stay different.

    Source: aws-api 3; namespace-api 7 (trimming).
    """
    name = re.sub(r"[^\w+=,.@-]", "-", text, flags=re.ASCII)
    if len(name) > aws.SESSION_NAME_MAX:
        mark = f"-{_short_hash(text)}"
        return name[: aws.SESSION_NAME_MAX - len(mark)] + mark
    return name.ljust(2, "-")


def _short_hash(text: str) -> str:
    # Late: this module is imported by commands that start with every SDK call.
    from hashlib import sha256

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


# What a token says of itself, unverified. Imports are late: commands that start with every SDK call
# read this module.

_LATEST_S = 221845392000  # the year 9000


def jwt_payload(jwt: str) -> Mapping[str, object] | None:
    """Return the claims of a JWT of three parts, unverified; None for everything else.

    Source: namespace-api 3.1, 4.2, 12.
    """
    from base64 import urlsafe_b64decode

    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[!-~]*", jwt, re.ASCII):
        return None
    part = jwt.split(".")[1]
    try:
        return json_object(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return None


def json_object(text: bytes | str) -> Mapping[str, object] | None:
    """Return the JSON object in *text*; None for anything else, bottomless nesting included."""
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def numeric_date(value: object) -> datetime | None:
    """Return the instant of a JWT's NumericDate, also a fractional or quoted one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        since_1970_s = float(value)
    except (ValueError, OverflowError):
        return None
    if not abs(since_1970_s) < float("inf"):
        return None
    return datetime.fromtimestamp(min(max(since_1970_s, 0.0), _LATEST_S), UTC)
