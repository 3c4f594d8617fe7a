"""Would what stands in both clouds let the workload in, check by check. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker import policy
from broker.policy import StatementVerdict, Verdict
from broker.setup.to_namespace import (
    GET_DEVELOPER_TOKEN,
    GET_WEB_IDENTITY_TOKEN,
    ByCognito,
    BySts,
    context_of,
)
from broker.setup.to_namespace_federation import FoundFederation
from broker.setup.to_namespace_pool_trust import FoundPoolTrust
from broker.setup.to_namespace_pools import FoundPool
from broker.setup.to_namespace_relationships import Entry, in_our_spelling
from broker.setup.wanted import Document, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One thing that has to hold. ``holds`` None: it could not be told. ``verdict`` has every
    check, where there was something to check."""

    what: str
    holds: bool | None
    reason: str
    verdict: Verdict | None = None

    @property
    def about_it(self) -> tuple[StatementVerdict, ...]:
        """The statements that speak of what is asked, and every trust relationship."""
        return tuple(
            statement
            for statement in (self.verdict.statements if self.verdict else ())
            if all(one.holds for one in statement.checks if one.element in ("Action", "NotAction"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a role may, as far as it was read: its own policies by name, and the ARNs of managed
    ones, whose text is not read."""

    inline: Mapping[str, Document] = field(default_factory=dict)
    managed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustList:
    """A workspace's trust relationships, or why they could not be read. ``proven``: a token was
    exchanged all the same."""

    entries: Sequence[Entry] = ()
    unread: str = ""
    proven: bool = False


def judged_by_sts(
    asked: BySts,
    *,
    role_arn: str,
    federation: FoundFederation | None,
    permissions: Permissions,
    trusted: TrustList,
) -> tuple[Judged, ...]:
    """Judge the token that the workload would present: with which claims, and whether it gets
    one at all."""
    may = _may(permissions, action=GET_WEB_IDENTITY_TOKEN, context=context_of(asked))
    issues = Judged(
        what="the account issues web identity tokens",
        holds=federation is not None,
        reason=federation.issuer if federation else "outbound web identity federation is off",
    )
    return (issues, may, _admitted(asked, role_arn, federation, trusted))


def judged_by_cognito(
    asked: ByCognito,
    place: Place,
    *,
    pool: FoundPool | None,
    permissions: Permissions,
    trusted: FoundPoolTrust,
) -> tuple[Judged, ...]:
    """Judge the same by Cognito, where only an exchange can tell whether a pool is trusted."""
    stands = Judged(
        what="there is an identity pool with the developer provider namespace.so",
        holds=pool is not None,
        reason=pool.pool_id if pool else f"none is found in {place.region}",
    )
    takes = Judged(
        what=f"workspace {place.workspace} trusts the pool",
        holds=True if trusted.proven else None,
        reason="a token of the pool was exchanged"
        if trusted.proven
        else "Namespace does not tell, and took no token of it",
    )
    if pool is None:
        return (stands, takes)
    resource = place.pool_arn(pool.pool_id)
    return (stands, _may(permissions, action=GET_DEVELOPER_TOKEN, resource=resource), takes)


def _may(
    permissions: Permissions,
    *,
    action: str,
    resource: str = "*",
    context: Mapping[str, object] | None = None,
) -> Judged:
    verdict = policy.identity_may(
        permissions.inline, action=action, resource=resource, context=context
    )
    what = f"the role may {action}"
    if verdict or verdict.denied:
        return Judged(what=what, holds=bool(verdict), reason=verdict.reason, verdict=verdict)
    if verdict.undecided or permissions.managed:
        managed = ", ".join(permissions.managed)
        reason = f"{managed} may allow it, and is not read" if managed else verdict.reason
        return Judged(what=what, holds=None, reason=reason, verdict=verdict)
    return Judged(what=what, holds=False, reason=verdict.reason, verdict=verdict)


def _admitted(
    asked: BySts, role_arn: str, federation: FoundFederation | None, trusted: TrustList
) -> Judged:
    what = "the workspace trusts the role"
    if trusted.proven:
        return Judged(what=what, holds=True, reason="a token of the role was exchanged")
    if trusted.unread:
        return Judged(what=what, holds=None, reason=trusted.unread)
    issuer = federation.issuer if federation else "unknown: the account has no issuer yet"
    entries = [in_our_spelling(entry) for entry in trusted.entries]
    of_the_issuer = [entry for entry in entries if entry.get("issuer") == issuer]
    verdict = policy.relationships_admit(
        of_the_issuer or entries,
        claims={"iss": issuer, "sub": role_arn, "aud": asked.audience},
    )
    return Judged(what=what, holds=bool(verdict), reason=verdict.reason, verdict=verdict)
