"""Evaluate whether a policy admits an identity, and if not, which condition fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from broker.policy.evaluate import Policy, PolicyRequest, evaluate
from broker.policy.operators import is_operator
from broker.policy.relationships import relationship_admits, relationships_admit
from broker.policy.texts import quoted, texts
from broker.policy.verdict import Check, StatementVerdict, Verdict, refused

__all__ = [
    "Check",
    "Claims",
    "Policy",
    "StatementVerdict",
    "Verdict",
    "identity_may",
    "is_operator",
    "relationship_admits",
    "relationships_admit",
    "role_admits_principal",
    "role_admits_web_identity",
]

Claims = Mapping[str, object]

_READ_CLAIMS = frozenset({"amr", "aud", "azp", "email", "sub"})


def role_admits_web_identity(
    policy: Policy,
    *,
    provider_arn: str,
    claims: Claims,
    context: Mapping[str, object] | None = None,
    context_is_whole: bool = False,
) -> Verdict:
    """Evaluate a role's trust policy for the holder of an ID token.

    *claims* are those of a token that the OIDC provider *provider_arn* vouches for; *context*
    adds condition keys that do not come from the token, such as ``sts:RoleSessionName``. Unless
    it is whole, a condition on another of AWS's own keys is unknown: it admits nobody, and
    ``Verdict.undecided`` says so. Never raises: a policy that cannot be read admits nobody.

    Source: aws-api.md 6.3; IAM reference, "IAM JSON policy elements: Condition operators" and
    "Available keys for AWS OIDC federation".
    """
    provider = provider_arn.partition(":oidc-provider/")[2] or provider_arn
    issuer = str(claims.get("iss", "")).removeprefix("https://")
    if issuer and issuer != provider:
        return refused(f"the token is from {quoted(issuer)}, the provider is {quoted(provider)}")
    request = PolicyRequest(
        action="sts:AssumeRoleWithWebIdentity",
        kind="Federated",
        names=frozenset({provider_arn}),
        keys=_lowered(_keys_of(claims, provider)) | _lowered(context or {}),
        holder="the token",
        is_whole=context_is_whole,
        unread=frozenset(f"{provider}:{one}".lower() for one in claims if one not in _READ_CLAIMS),
    )
    return evaluate({"": policy}, request)


def role_admits_principal(
    policy: Policy,
    *,
    principal_arns: Iterable[str],
    action: str = "sts:AssumeRole",
    context: Mapping[str, object] | None = None,
    context_is_whole: bool = False,
) -> Verdict:
    """Evaluate a role's trust policy for an AWS principal that requests *action*.

    *principal_arns* are all the names it goes by: a role session has its own ARN and its
    role's. Its account (as id and as ``root``) is read from them. *context* as above.
    """
    request = PolicyRequest(
        action=action,
        kind="AWS",
        names=frozenset(name for arn in principal_arns for name in _names_of(arn)),
        keys=_lowered(context or {}),
        holder="the request",
        is_whole=context_is_whole,
    )
    return evaluate({"": policy}, request)


def identity_may(
    policies: Mapping[str, Policy],
    *,
    action: str,
    resource: str = "*",
    context: Mapping[str, object] | None = None,
    context_is_whole: bool = False,
) -> Verdict:
    """Evaluate the *policies* of an identity, by name, for *action* on *resource*.

    *resource* is an ARN, or ``*`` for an action that AWS defines on no resource: a statement
    then has to name ``*`` itself. Without an Allow nothing is allowed. *context* as above.

    Source: IAM user guide, "Policy evaluation logic"; aws-api.md 5.
    """
    request = PolicyRequest(
        action=action,
        resource=resource,
        keys=_lowered(context or {}),
        holder="the request",
        is_whole=context_is_whole,
    )
    return evaluate(policies, request)


def _keys_of(claims: Claims, provider: str) -> Iterator[tuple[str, object]]:
    """Yield the condition keys that AWS makes of a token's claims.

    A token with ``azp`` shows that as ``aud``, and its own ``aud`` as ``oaud``.
    """
    has_azp = "azp" in claims
    for claim in sorted(_READ_CLAIMS & claims.keys() - {"azp"}):
        yield f"{provider}:{'oaud' if has_azp and claim == 'aud' else claim}", claims[claim]
    if has_azp:
        yield f"{provider}:aud", claims["azp"]


def _lowered(
    keys: Mapping[str, object] | Iterable[tuple[str, object]],
) -> dict[str, tuple[str, ...]]:
    pairs = keys.items() if isinstance(keys, Mapping) else keys
    return {str(key).lower(): texts(value) for key, value in pairs}


def _names_of(arn: str) -> Iterator[str]:
    yield arn
    parts = arn.split(":")
    if len(parts) >= 6:
        yield parts[4]
        yield f"arn:{parts[1]}:iam::{parts[4]}:root"
