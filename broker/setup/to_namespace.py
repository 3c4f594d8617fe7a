"""What AWS workloads need to use Namespace, by STS or by Cognito.

The request, its resources in both clouds, and the configuration.

Source: guide-flows.md, first two tables; aws-api.md 5 and 7.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from broker import policy
from broker.config.errors import ConfigError
from broker.setup.aws import Target
from broker.setup.documents import Document, policy_of
from broker.setup.resource import Placeholder
from broker.setup.resources import DesiredResource
from broker.setup.resources.federation import OutboundFederation
from broker.setup.resources.identity_pool import (
    DEFAULT_POOL_NAME,
    POOL_POLICY_NAME,
    IdentityPool,
)
from broker.setup.resources.policies import InlinePolicy, RequiredPermission
from broker.setup.resources.pool_trust import PoolTrust
from broker.setup.resources.trust_relationship import TrustRelationship
from broker.sources.aws.web_identity import ALGORITHM, AUDIENCE, DEVELOPER_PROVIDER, DURATION_S

STS_POLICY_NAME = "allow-get-web-identity-token"
"""The guide's, so that one made by hand is recognised."""

GET_WEB_IDENTITY_TOKEN = "sts:GetWebIdentityToken"  # noqa: S105 - an action
GET_DEVELOPER_TOKEN = "cognito-identity:GetOpenIdTokenForDeveloperIdentity"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class StsRequest:
    """What the flags ask for.

    ``issuer`` None is the account's own, ``subject_match`` None the role itself; ``duration_s`` is
    the longest life of a token of STS, ``token_duration_s`` the life of Namespace's.
    """

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
class CognitoRequest:
    """What the flags ask for.

    ``pool_id`` is ``region:guid``; without one a pool is looked up by its name and provider, and
    made where there is none.
    """

    role_name: str
    pool_id: str | None = None
    pool_name: str = DEFAULT_POOL_NAME


def desired_by_sts(
    request: StsRequest, target: Target, *, role_arn: str
) -> tuple[DesiredResource, ...]:
    """Return the desired resources. *role_arn* is the role's own, with its path, as AWS has it.

    Raises:
        ConfigError: The subject match does not match the role.
    """
    subject_match = request.subject_match or role_arn
    check_matches(subject_match, role_arn=role_arn)
    return (
        OutboundFederation(account=target.account),
        InlinePolicy(
            role=request.role_name,
            name=STS_POLICY_NAME,
            document=policy_of(web_identity_statement(request)),
            required=_required_permissions(request),
        ),
        TrustRelationship(
            workspace=target.workspace,
            issuer=request.issuer or Placeholder.ISSUER.value,
            subject_match=subject_match,
            audience=request.audience,
            grants=request.grants,
            token_duration_s=request.token_duration_s,
        ),
    )


def desired_by_cognito(request: CognitoRequest, target: Target) -> tuple[DesiredResource, ...]:
    """Return the desired resources. The pool gets no role: none is used."""
    pool_id = request.pool_id or Placeholder.POOL_ID.value
    region, _, guid = request.pool_id.partition(":") if request.pool_id else (target.region, "", "")
    guid = guid or Placeholder.POOL_GUID.value
    pool_arn = target.pool_arn(pool_id)
    statement = {"Effect": "Allow", "Action": GET_DEVELOPER_TOKEN, "Resource": pool_arn}
    return (
        IdentityPool(
            name=request.pool_name,
            region=region,
            developer_provider=DEVELOPER_PROVIDER,
            pool_id=request.pool_id,
        ),
        InlinePolicy(
            role=request.role_name,
            name=POOL_POLICY_NAME.replace(Placeholder.POOL_GUID.value, guid),
            document=policy_of(statement),
            required=(RequiredPermission(action=GET_DEVELOPER_TOKEN, resource=pool_arn),),
        ),
        PoolTrust(workspace=target.workspace, region=region, guid=guid),
    )


def web_identity_statement(request: StsRequest) -> Document:
    """Return the statement that lets a role have the tokens that we ask for.

    Unless *unconditional*, it allows no others: for no other audience, and no longer.

    Source: aws-api.md 5.
    """
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Action": GET_WEB_IDENTITY_TOKEN,
        "Resource": "*",
    }
    if not request.unconditional:
        statement["Condition"] = {
            "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": [request.audience]},
            "StringEquals": {"sts:SigningAlgorithm": request.algorithm},
            "NumericLessThanEquals": {"sts:DurationSeconds": request.duration_s},
        }
    return statement


def context_of(request: StsRequest) -> Mapping[str, object]:
    """Return the condition keys of the call that the daemon makes."""
    return _context(request.audience, request.algorithm, request.duration_s)


def _context(audience: str, algorithm: str, duration_s: int) -> Mapping[str, object]:
    return {
        "sts:IdentityTokenAudience": [audience],
        "sts:SigningAlgorithm": algorithm,
        "sts:DurationSeconds": duration_s,
    }


def _required_permissions(request: StsRequest) -> tuple[RequiredPermission, ...]:
    """Return what another policy has to allow to be as good as ours: the daemon's call.

    If *unconditional*, also calls that differ from it in everything.
    """
    contexts = [context_of(request)]
    if request.unconditional:
        other = "RS256" if request.algorithm == "ES384" else "ES384"
        contexts += [
            _context("https://example.com", other, 3600),
            _context("https://example.com", other, 60),
        ]
    return tuple(
        RequiredPermission(action=GET_WEB_IDENTITY_TOKEN, context=each) for each in contexts
    )


def check_matches(subject_match: str, *, role_arn: str) -> None:
    """Raise where the role would not be admitted by its own trust relationship."""
    relationship = {"issuer": "any", "subject_match": subject_match}
    if not policy.relationship_admits(relationship, claims={"iss": "any", "sub": role_arn}):
        raise ConfigError(
            "--subject-match",
            f"is {subject_match}, which does not match the role {role_arn}",
            "leave it out for this role alone, or give a pattern that does",
        )


def snippet(
    request: StsRequest | CognitoRequest, target: Target, *, pool_id: str | None = None
) -> str:
    """Return the configuration of a broker that runs as the workload.

    *pool_id* is Cognito's.
    """
    keys: dict[str, object] = {
        "source": "cognito" if isinstance(request, CognitoRequest) else "sts",
        "workspace": target.workspace,
        "region": target.region,
    }
    if isinstance(request, CognitoRequest):
        keys["region"] = (pool_id or target.region).partition(":")[0]
        keys["identity_pool"] = pool_id
    else:
        options = {
            "audience": (request.audience, AUDIENCE),
            "algorithm": (request.algorithm, ALGORITHM),
            "duration_s": (request.duration_s, DURATION_S),
        }
        keys |= {name: value for name, (value, default) in options.items() if value != default}
    # All of these were checked to be visible ASCII, which TOML and JSON quote alike.
    lines = [f"{name} = {json.dumps(value)}" for name, value in keys.items()]
    return "\n".join(
        ["[identities.default]", *lines, "", "[namespace_tokens.default]", "http = true", ""]
    )


def login_line(
    request: StsRequest | CognitoRequest, target: Target, *, pool_id: str | None = None
) -> str:
    """Return the command that signs in once, where the workload runs."""
    words = ["namespace-broker", "login", "--via"]
    if isinstance(request, CognitoRequest):
        words += ["cognito", "--workspace", target.workspace, "--identity-pool", pool_id or ""]
        return shlex.join(words)
    words += ["sts", "--workspace", target.workspace, "--region", target.region]
    if request.audience != AUDIENCE:
        words += ["--audience", request.audience]
    if request.algorithm != ALGORITHM:
        words += ["--algorithm", request.algorithm]
    return shlex.join(words)
