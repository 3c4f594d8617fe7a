"""Check what exists in the clouds against an identity: would it be admitted, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker import policy
from broker.policy import StatementVerdict, Verdict
from broker.setup.aws import AwsApi, Target
from broker.setup.documents import Document
from broker.setup.namespace import Entry
from broker.setup.resources.federation import ActualFederation
from broker.setup.resources.iam import attached_policies, inline_policies
from broker.setup.resources.identity_pool import ActualPool
from broker.setup.resources.oidc_provider import ActualProvider, OidcProvider
from broker.setup.resources.pool_trust import ActualPoolTrust
from broker.setup.resources.role import ActualRole, IamRole
from broker.setup.resources.trust_relationship import in_our_spelling
from broker.setup.to_namespace import (
    GET_DEVELOPER_TOKEN,
    GET_WEB_IDENTITY_TOKEN,
    CognitoRequest,
    StsRequest,
    context_of,
)


def aws_admits(
    provider: tuple[OidcProvider, ActualProvider | None],
    role: tuple[IamRole, ActualRole | None],
    *,
    claims: Mapping[str, object],
) -> Verdict:
    """Judge the claims of an ID token, in the order in which STS does."""
    desired, actual = provider
    if actual is None:
        return _no(f"the account has no OIDC provider for {desired.url}")
    if claims.get("iss") != desired.url:
        return _no(f"the token's issuer is {claims.get('iss')}, the OIDC provider's {desired.url}")
    presented = claims.get("aud")
    audiences = presented if isinstance(presented, list) else [presented]
    if not any(audience in actual.audiences for audience in audiences):
        accepted = ", ".join(actual.audiences) or "none"
        return _no(f"the OIDC provider accepts the audiences {accepted}, the token has {presented}")
    desired_role, actual_role = role
    if actual_role is None:
        return _no(f"there is no role {desired_role.name}")
    return policy.role_admits_web_identity(
        actual_role.trust_policy, provider_arn=desired.arn, claims=claims
    )


def _no(reason: str) -> Verdict:
    return Verdict(admitted=False, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One thing that has to hold.

    ``holds`` None: it is not known. ``verdict`` has every check, where there was something to
    check.
    """

    what: str
    holds: bool | None
    reason: str
    verdict: Verdict | None = None

    @property
    def relevant_statements(self) -> tuple[StatementVerdict, ...]:
        """The statements about the action in question, and every trust relationship."""
        return tuple(
            statement
            for statement in (self.verdict.statements if self.verdict else ())
            if all(one.holds for one in statement.checks if one.element in ("Action", "NotAction"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePermissions:
    """A role's policies as far as they are read.

    Its own by name, and the ARNs of managed ones, whose text is not read.
    """

    inline: Mapping[str, Document] = field(default_factory=dict)
    managed: tuple[str, ...] = ()


async def permissions_of(aws: AwsApi, role_name: str) -> RolePermissions:
    """Read a role's policies. Raises as `AwsApi.call`."""
    documents = {}
    for name in await inline_policies(aws, role_name):
        response = await aws.call("iam", "GetRolePolicy", RoleName=role_name, PolicyName=name)
        document = response.get("PolicyDocument")
        documents[name] = document if isinstance(document, dict) else {}
    return RolePermissions(inline=documents, managed=await attached_policies(aws, role_name))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustList:
    """A workspace's trust relationships, or why they could not be read.

    ``proven``: a token was exchanged all the same.
    """

    entries: Sequence[Entry] = ()
    unreadable: str = ""
    proven: bool = False


def requirements_by_sts(
    request: StsRequest,
    *,
    role_arn: str,
    federation: ActualFederation | None,
    permissions: RolePermissions,
    trusted: TrustList,
) -> tuple[Requirement, ...]:
    """Check whether the workload gets a token of STS, and whether the workspace accepts it."""
    permitted = _permitted(permissions, action=GET_WEB_IDENTITY_TOKEN, context=context_of(request))
    issues = Requirement(
        what="the account issues web identity tokens",
        holds=federation is not None,
        reason=federation.issuer if federation else "outbound web identity federation is off",
    )
    return (issues, permitted, _trusted_by_workspace(request, role_arn, federation, trusted))


def requirements_by_cognito(
    request: CognitoRequest,
    target: Target,
    *,
    pool: ActualPool | None,
    permissions: RolePermissions,
    trusted: ActualPoolTrust,
) -> tuple[Requirement, ...]:
    """Check the same by Cognito, where only an exchange can tell whether a pool is trusted."""
    exists = Requirement(
        what="there is an identity pool with the developer provider namespace.so",
        holds=pool is not None,
        reason=pool.pool_id if pool else f"none is found in {target.region}",
    )
    is_trusted = Requirement(
        what=f"workspace {target.workspace} trusts the pool",
        holds=True if trusted.proven else None,
        reason="a token of the pool was exchanged"
        if trusted.proven
        else "Namespace does not list it, and accepted no token of it",
    )
    if pool is None:
        return (exists, is_trusted)
    resource = target.pool_arn(pool.pool_id)
    permitted = _permitted(permissions, action=GET_DEVELOPER_TOKEN, resource=resource)
    return (exists, permitted, is_trusted)


def _permitted(
    permissions: RolePermissions,
    *,
    action: str,
    resource: str = "*",
    context: Mapping[str, object] | None = None,
) -> Requirement:
    verdict = policy.identity_may(
        permissions.inline, action=action, resource=resource, context=context
    )
    what = f"the role may {action}"
    if verdict or verdict.denied:
        return Requirement(what=what, holds=bool(verdict), reason=verdict.reason, verdict=verdict)
    if verdict.undecided or permissions.managed:
        managed = ", ".join(permissions.managed)
        reason = f"{managed} may allow it, and is not read" if managed else verdict.reason
        return Requirement(what=what, holds=None, reason=reason, verdict=verdict)
    return Requirement(what=what, holds=False, reason=verdict.reason, verdict=verdict)


def _trusted_by_workspace(
    request: StsRequest, role_arn: str, federation: ActualFederation | None, trusted: TrustList
) -> Requirement:
    what = "the workspace trusts the role"
    if trusted.proven:
        return Requirement(what=what, holds=True, reason="a token of the role was exchanged")
    if trusted.unreadable:
        return Requirement(what=what, holds=None, reason=trusted.unreadable)
    issuer = federation.issuer if federation else "unknown: the account has no issuer yet"
    entries = [in_our_spelling(entry) for entry in trusted.entries]
    of_issuer = [entry for entry in entries if entry.get("issuer") == issuer]
    verdict = policy.relationships_admit(
        of_issuer or entries, claims={"iss": issuer, "sub": role_arn, "aud": request.audience}
    )
    return Requirement(what=what, holds=bool(verdict), reason=verdict.reason, verdict=verdict)
