"""What AWS workloads need to use Namespace, by STS or by Cognito: as it was asked for, as what is
to stand in both clouds. Pure.

Source: guide-flows.md, first two tables; aws-api.md 5 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker import policy
from broker.config.errors import ConfigError
from broker.setup.documents import policy_of
from broker.setup.wanted import (
    GUID_OF_THE_POOL,
    ISSUER_OF_THE_ACCOUNT,
    POOL_ID,
    Allowance,
    CognitoTrust,
    Document,
    IdentityPool,
    InlinePolicy,
    OutboundFederation,
    Place,
    StsTrust,
    Wanted,
)
from broker.sources.aws.web_identity import ALGORITHM, AUDIENCE, DEVELOPER_PROVIDER, DURATION_S

STS_POLICY_NAME = "allow-get-web-identity-token"
"""The guide's, so that one made by hand is recognised."""

COGNITO_POLICY_NAME = f"allow-developer-tokens-{GUID_OF_THE_POOL}"
"""One for each pool: a role may use several."""

POOL_NAME = "namespace"
GET_WEB_IDENTITY_TOKEN = "sts:GetWebIdentityToken"  # noqa: S105 - an action
GET_DEVELOPER_TOKEN = "cognito-identity:GetOpenIdTokenForDeveloperIdentity"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class BySts:
    """What was asked for. ``issuer`` None is the one that AWS tells, ``subject_match`` None the
    role itself; ``duration_s`` is the most that one of STS's tokens lives, ``token_duration_s``
    what Namespace's then do."""

    role_name: str
    issuer: str | None = None
    subject_match: str | None = None
    audience: str = AUDIENCE
    algorithm: str = ALGORITHM
    duration_s: int = DURATION_S
    unconditional: bool = False
    grants: tuple[Document, ...] = ()
    token_duration_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCognito:
    """What was asked for. ``pool_id`` is ``region:guid``; without one a pool is looked up by its
    name and provider, and made where there is none."""

    role_name: str
    pool_id: str | None = None
    pool_name: str = POOL_NAME


def wanted_by_sts(asked: BySts, place: Place, *, role_arn: str) -> tuple[Wanted, ...]:
    """Return what is to stand. *role_arn* is the role's own, with its path: what AWS says of it.

    Raises:
        ConfigError: The subject match does not match the role.
    """
    subject_match = asked.subject_match or role_arn
    check_matches(subject_match, role_arn=role_arn)
    return (
        OutboundFederation(account=place.account),
        InlinePolicy(
            role=asked.role_name,
            name=STS_POLICY_NAME,
            document=policy_of(web_identity_statement(asked)),
            allowances=_allowances(asked),
        ),
        StsTrust(
            workspace=place.workspace,
            issuer=asked.issuer or ISSUER_OF_THE_ACCOUNT,
            subject_match=subject_match,
            audience=asked.audience,
            grants=asked.grants,
            token_duration_s=asked.token_duration_s,
        ),
    )


def wanted_by_cognito(asked: ByCognito, place: Place) -> tuple[Wanted, ...]:
    """Return what is to stand. There is no role of the pool's: this way never uses one."""
    pool_id = asked.pool_id or POOL_ID
    region, _, guid = asked.pool_id.partition(":") if asked.pool_id else (place.region, "", "")
    guid = guid or GUID_OF_THE_POOL
    pool_arn = place.pool_arn(pool_id)
    statement = {"Effect": "Allow", "Action": GET_DEVELOPER_TOKEN, "Resource": pool_arn}
    return (
        IdentityPool(
            name=asked.pool_name,
            region=region,
            developer_provider=DEVELOPER_PROVIDER,
            pool_id=asked.pool_id,
        ),
        InlinePolicy(
            role=asked.role_name,
            name=COGNITO_POLICY_NAME.replace(GUID_OF_THE_POOL, guid),
            document=policy_of(statement),
            allowances=(Allowance(action=GET_DEVELOPER_TOKEN, resource=pool_arn),),
        ),
        CognitoTrust(workspace=place.workspace, region=region, guid=guid),
    )


def web_identity_statement(asked: BySts) -> Document:
    """Return what lets a role have the tokens that we ask for, and unless *unconditional* no
    others: for no other audience, and no longer. Source: aws-api.md 5."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Action": GET_WEB_IDENTITY_TOKEN,
        "Resource": "*",
    }
    if not asked.unconditional:
        statement["Condition"] = {
            "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": [asked.audience]},
            "StringEquals": {"sts:SigningAlgorithm": asked.algorithm},
            "NumericLessThanEquals": {"sts:DurationSeconds": asked.duration_s},
        }
    return statement


def context_of(asked: BySts) -> Mapping[str, object]:
    """Return the condition keys of the very call that the daemon makes."""
    return _context(asked.audience, asked.algorithm, asked.duration_s)


def _context(audience: str, algorithm: str, duration_s: int) -> Mapping[str, object]:
    return {
        "sts:IdentityTokenAudience": [audience],
        "sts:SigningAlgorithm": algorithm,
        "sts:DurationSeconds": duration_s,
    }


def _allowances(asked: BySts) -> tuple[Allowance, ...]:
    """Return what a policy has to allow that is to do as well as ours: the daemon's call; of the
    plain form any other call too, such as one that differs from it in everything."""
    contexts = [context_of(asked)]
    if asked.unconditional:
        other = "RS256" if asked.algorithm == "ES384" else "ES384"
        contexts += [
            _context("https://example.com", other, 3600),
            _context("https://example.com", other, 60),
        ]
    return tuple(Allowance(action=GET_WEB_IDENTITY_TOKEN, context=each) for each in contexts)


def check_matches(subject_match: str, *, role_arn: str) -> None:
    """Raise where the role would not be admitted by its own trust relationship."""
    relationship = {"issuer": "any", "subject_match": subject_match}
    if not policy.relationship_admits(relationship, claims={"iss": "any", "sub": role_arn}):
        raise ConfigError(
            "--subject-match",
            f"is {subject_match}, which does not match the role {role_arn}",
            "leave it out for this role alone, or give a pattern that does",
        )
