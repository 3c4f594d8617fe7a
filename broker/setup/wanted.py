"""What a direction of trust consists of: frozen values, one for each thing that is to stand in a
cloud. Pure; says neither how a thing is made nor what stands already.

A direction is a tuple of these, in the order in which they are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from broker import aws

Document = Mapping[str, object]
"""A JSON object, such as an IAM policy."""

W = TypeVar("W")

TAG_KEY, TAG_VALUE = "managed-by", "namespace-broker"
"""On every provider, role and pool that we make: by it we know what is ours to take back."""

ISSUER_OF_THE_ACCOUNT = "<issuer of the account>"
POOL_ID = "<id of the pool>"
"""Stand in texts of a wanted value, documents included, for what only AWS can say, until it has;
see `knowing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where trust is set up. ``workspace`` is an id, ``account`` twelve digits."""

    account: str
    partition: str
    region: str
    workspace: str

    def role_arn(self, name: str) -> str:
        return aws.role_arn(name, account=self.account, partition=self.partition)

    def provider_arn(self, url: str) -> str:
        """Return the ARN of the OIDC provider for the issuer *url*. Source: aws-api 6.2."""
        return aws.oidc_provider_arn(url, account=self.account, partition=self.partition)

    def pool_arn(self, pool_id: str) -> str:
        """Return the ARN of the identity pool ``region:guid``."""
        region = pool_id.partition(":")[0] if ":" in pool_id else self.region
        return (
            f"arn:{self.partition}:cognito-identity:{region}:{self.account}:identitypool/{pool_id}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What only AWS can say, once the thing stands; None until then. ``pool_id`` is
    ``region:guid``."""

    issuer: str | None = None
    pool_id: str | None = None

    def and_also(self, more: Known) -> Known:
        return Known(issuer=more.issuer or self.issuer, pool_id=more.pool_id or self.pool_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """That the account takes ID tokens of the issuer *url* for *audiences*."""

    arn: str
    url: str
    audiences: tuple[str, ...]
    thumbprints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role whose trust policy has (or does as well as) *trust_statement*.

    ``max_session_duration_s`` None: AWS's own when it is made (3600), else as it is.
    """

    arn: str
    name: str
    trust_statement: Document
    max_session_duration_s: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedPolicy:
    """A managed policy, by its ARN, on a role."""

    role: str
    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """One thing that a policy is there to allow. *context* holds condition keys."""

    action: str
    resource: str = "*"
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InlinePolicy:
    """A policy of a role's own. One of that name that allows all of *allowances* does as well as
    *document*; without any, only an equal one does."""

    role: str
    name: str
    document: Document
    allowances: tuple[Allowance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFederation:
    """That the account issues web identity tokens."""

    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPool:
    """A Cognito identity pool with a developer provider: the one with *pool_id* where that is
    said, else one of that name, which is not unique."""

    name: str
    region: str
    developer_provider: str = "namespace.so"
    pool_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StsTrust:
    """A trust relationship at Namespace. Without *grants* (JSON objects) it gives full access."""

    workspace: str
    issuer: str
    subject_match: str
    audience: str | None = None
    grants: tuple[Document, ...] = ()
    token_duration_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CognitoTrust:
    """That a workspace trusts a Cognito identity pool. *guid* is the pool's, without region."""

    workspace: str
    region: str
    guid: str


Wanted = (
    OidcProvider
    | Role
    | AttachedPolicy
    | InlinePolicy
    | OutboundFederation
    | IdentityPool
    | StsTrust
    | CognitoTrust
)


def knowing(wanted: W, known: Known) -> W:
    """Return *wanted* with what is known in the place of what stands for it."""
    texts = {
        stand_in: text
        for stand_in, text in (
            (ISSUER_OF_THE_ACCOUNT, known.issuer),
            (POOL_ID, known.pool_id),
            (GUID_OF_THE_POOL, (known.pool_id or "").partition(":")[2]),
        )
        if text
    }
    changed = {
        name: _filled(value, texts)
        for name in (each.name for each in fields(wanted))  # type: ignore[arg-type]
        if (value := getattr(wanted, name)) is not None
    }
    return replace(wanted, **changed)  # type: ignore[type-var]


GUID_OF_THE_POOL = "<guid of the pool>"


def _filled(value: object, texts: Mapping[str, str]) -> object:
    if isinstance(value, str):
        for stand_in, text in texts.items():
            value = value.replace(stand_in, text)
        return value
    if isinstance(value, Mapping):
        return {key: _filled(one, texts) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_filled(one, texts) for one in value)
    if isinstance(value, list):
        return [_filled(one, texts) for one in value]
    if isinstance(value, Allowance):
        return knowing_allowance(value, texts)
    return value


def knowing_allowance(allowance: Allowance, texts: Mapping[str, str]) -> Allowance:
    return replace(allowance, resource=str(_filled(allowance.resource, texts)))
