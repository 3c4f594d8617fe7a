"""How a role that is wanted compares with one that stands. Pure.

A trust policy is added to, never written over; a role that is not ours is changed in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.policy import Verdict, role_admits_web_identity
from broker.setup.documents import (
    admits_as_much,
    difference,
    policy_of,
    statements_of,
    wider_patterns,
    with_statement,
    without_statement,
)
from broker.setup.steps import Standing, Step
from broker.setup.wanted import AttachedPolicy, Document, InlinePolicy, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRole:
    """A role that stands. ``is_ours``: it carries our tag. ``attached`` (ARNs) and ``inline``
    (names) are its policies, and None unless it was read deeply."""

    arn: str
    trust_policy: Document = field(repr=False)
    max_session_duration_s: int = 3600
    is_ours: bool = False
    attached: tuple[str, ...] | None = None
    inline: tuple[str, ...] | None = None


def step(wanted: Role, found: FoundRole | None) -> Step:
    title = f"role {wanted.name}"
    if found is None:
        return Step(
            kind="create",
            resource=wanted,
            title=title,
            diff=(
                *_session_line(wanted.max_session_duration_s),
                *difference(None, policy_of(wanted.trust_statement)),
            ),
        )
    policy, duration_s = trust_wanted(wanted, found), duration_wanted(wanted, found)
    diff = [] if policy is None else list(difference(found.trust_policy, policy))
    if duration_s is not None:
        diff = [
            f"- maximum session duration {found.max_session_duration_s} s",
            *_session_line(duration_s),
            *diff,
        ]
    return Step(
        kind="change" if diff else "keep",
        resource=wanted,
        title=title,
        diff=tuple(diff),
        note="; ".join(_notes(wanted, found)),
    )


def trust_wanted(wanted: Role, found: FoundRole) -> Document | None:
    """Return the trust policy with our statement in it, None where what stands does as well."""
    if _sufficient(wanted, found) is not None:
        return None
    return with_statement(found.trust_policy, wanted.trust_statement)


def duration_wanted(wanted: Role, found: FoundRole) -> int | None:
    """Return the maximum session duration to set, in seconds; None: leave it."""
    wants = wanted.max_session_duration_s
    if wants is None or wants == found.max_session_duration_s or not found.is_ours:
        return None
    return wants


def _sufficient(wanted: Role, found: FoundRole) -> object | None:
    for statement in statements_of(found.trust_policy):
        if admits_as_much(statement, wanted.trust_statement):
            return statement
    return None


def _session_line(duration_s: int | None) -> tuple[str, ...]:
    return () if duration_s is None else (f"+ maximum session duration {duration_s} s",)


def _notes(wanted: Role, found: FoundRole) -> list[str]:
    notes = []
    if not found.is_ours:
        notes.append("not made by us: only our statement is added to its trust policy")
    wider = wider_patterns(_sufficient(wanted, found), wanted.trust_statement)
    if wider:
        notes.append(f"what stands admits more: {', '.join(wider)}")
    wants = wanted.max_session_duration_s
    if not found.is_ours and wants not in (None, found.max_session_duration_s):
        notes.append(
            f"its maximum session duration stays {found.max_session_duration_s} s: "
            f"aws iam update-role --role-name {wanted.name} --max-session-duration {wants}"
        )
    denial = _denial(wanted, found)
    if denial:
        notes.append(f"it will not be admitted all the same: {denial}")
    return notes


def _denial(wanted: Role, found: FoundRole) -> str:
    """Say which statement denies what our own allows, where one does."""
    policy = trust_wanted(wanted, found) or found.trust_policy
    if all(
        not isinstance(one, dict) or one.get("Effect") != "Deny" for one in statements_of(policy)
    ):
        return ""
    verdict = _verdict_on_a_sample(policy, wanted.trust_statement)
    return "" if verdict else verdict.reason


def _verdict_on_a_sample(policy: Document, statement: Document) -> Verdict:
    """Judge a token that just fulfils *statement*, which is one of `to_aws.trust_statement`."""
    principal, conditions = statement["Principal"], statement["Condition"]
    assert isinstance(principal, dict)
    assert isinstance(conditions, dict)
    keys = {key: str(value).replace("*", "x") for key, value in conditions["StringLike"].items()}
    host = str(principal["Federated"]).partition(":oidc-provider/")[2]
    claims = {"iss": f"https://{host}"}
    claims |= {key.removeprefix(f"{host}:"): value for key, value in keys.items()}
    return role_admits_web_identity(policy, provider_arn=principal["Federated"], claims=claims)


# Taking it back.


def removal(wanted: Role, found: FoundRole | None, beside: Sequence[Standing]) -> Step:
    title = f"role {wanted.name}"
    if found is None:
        return Step(kind="keep", resource=wanted, title=title, note="is not there")
    left = trust_left(wanted, found, beside)
    if left is None:
        return Step(
            kind="remove",
            resource=wanted,
            title=title,
            diff=difference(found.trust_policy, None),
        )
    why = _why_it_stays(wanted, found, beside)
    if left != found.trust_policy:
        return Step(
            kind="change",
            resource=wanted,
            title=title,
            diff=difference(found.trust_policy, left),
            note=f"the role stays: {why}",
        )
    return Step(kind="keep", resource=wanted, title=title, note=why)


def trust_left(wanted: Role, found: FoundRole, beside: Sequence[Standing]) -> Document | None:
    """Return the trust policy that the role has without us, None where the role itself goes."""
    if not _why_it_stays(wanted, found, beside):
        return None
    return trust_without_us(wanted, found)


def trust_without_us(wanted: Role, found: FoundRole) -> Document:
    """Return the trust policy of a role that stays. Our statement is left where it is the only
    one: IAM takes no policy without any."""
    left = without_statement(found.trust_policy, wanted.trust_statement)
    return left if statements_of(left) else found.trust_policy


def _why_it_stays(wanted: Role, found: FoundRole, beside: Sequence[Standing]) -> str:
    """Say why the role is not taken away; empty where it is."""
    statements = statements_of(found.trust_policy)
    foreign = [one for one in statements if one != wanted.trust_statement]
    if not found.is_ours:
        if not foreign:
            return (
                "it does not carry our tag, and a trust policy cannot be empty; if nobody else "
                f"needs it: aws iam delete-role --role-name {wanted.name}"
            )
        if wanted.trust_statement not in statements:
            return "it does not carry our tag, and has no statement of ours"
        return "it does not carry our tag"
    if foreign:
        return "its trust policy has statements that are not ours"
    others = _policies_of_others(found, beside)
    if others:
        return (
            f"it has policies that stay: {', '.join(others)}; name those that go with it by "
            "--policy-arn and --policy-file"
        )
    return ""


def _policies_of_others(found: FoundRole, beside: Sequence[Standing]) -> list[str]:
    arns = {one.wanted.arn for one in beside if isinstance(one.wanted, AttachedPolicy)}
    names = {
        one.wanted.name
        for one in beside
        if isinstance(one.wanted, InlinePolicy)
        and one.found is not None
        and one.found.document == one.wanted.document
    }
    attached = [arn for arn in found.attached or () if arn not in arns]
    return attached + [name for name in found.inline or () if name not in names]
