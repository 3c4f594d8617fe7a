"""Say why a role did not admit a token, once the role was read. Pure: reads none."""

from collections.abc import Mapping

from broker import policy
from broker.credentials import IdToken, Role, jwt_payload
from broker.lease import Refused
from broker.sources.aws.errors import RoleRefused, presented, provider_arn
from broker.sources.aws.explain import RoleDocument
from broker.sources.redact import redacted

_LONGEST = 1200


def explained(refused: RoleRefused, found: RoleDocument, *, role: Role, token: IdToken) -> Refused:
    """Return the refusal, with what was found out about the role in place of what may be."""
    return Refused(
        f"role {role.arn} does not admit this identity ({refused.what}). "
        f"Presented: {presented(token)}. {_why(found, role, token)}",
        word=refused.word,
    )


def _why(found: RoleDocument, role: Role, token: IdToken) -> str:
    if found.arn is None or found.trust_policy is None:
        return f"There is no such role in the account; correct roles.{role.name}, or create it"
    if found.arn != role.arn:
        return f"The role of that name is {redacted(found.arn)}; correct roles.{role.name}"
    verdict = policy.role_admits_web_identity(
        found.trust_policy,
        provider_arn=provider_arn(role, token),
        claims=_claims(token),
        context={"sts:RoleSessionName": role.session_name or token.session_name},
    )
    if verdict:
        return (
            "Its trust policy, read just now, admits it: a change takes up to some minutes to be "
            "in force, so wait for that"
        )
    reason = _cut(verdict.reason)
    if verdict.undecided:
        return f"Whether its trust policy admits it hangs on more than the token says: {reason}"
    return f"Its trust policy does not: {reason}; change that, or what is presented"


def _claims(token: IdToken) -> Mapping[str, object]:
    known = {"iss": token.issuer, "sub": token.subject, "aud": token.audience}
    return {**known, **(jwt_payload(token.jwt) or {})}


def _cut(reason: str) -> str:
    return reason if len(reason) <= _LONGEST else reason[: _LONGEST - 1] + "…"
