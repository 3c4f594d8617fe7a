"""Namespace's trust relationships held against a token's claims. Knows no policy of AWS's.

Source: namespace-api.md 6.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.policy.texts import listing, pattern, shown, text_of, texts
from broker.policy.verdict import Check, StatementVerdict, Verdict, refused

Relationship = Mapping[str, object]
Claims = Mapping[str, object]


def relationship_admits(relationship: Relationship, *, claims: Claims) -> Verdict:
    """Does one Namespace trust relationship admit *claims*?

    The issuer must be equal to the last character; ``*`` in ``subject_match`` stands for any
    text, ``/`` and ``:`` included; an ``audience`` counts only when it is set.
    """
    name = text_of(relationship.get("id"))
    return _judged(_statement(relationship, claims, f"trust relationship {name}".rstrip()))


def relationships_admit(relationships: Iterable[Relationship], *, claims: Claims) -> Verdict:
    """Does any of a workspace's trust relationships admit *claims*? The first that does says so."""
    statements = tuple(
        _statement(one, claims, f"trust relationship {text_of(one.get('id')) or number}")
        for number, one in enumerate(relationships, start=1)
    )
    verdicts = [(one, _judged(one)) for one in statements]
    for one, verdict in verdicts:
        if verdict:
            reason = f"{one.place}: {verdict.reason}"
            return Verdict(admitted=True, reason=reason, statements=statements)
    refusals = "; ".join(f"{one.place}: {verdict.reason}" for one, verdict in verdicts)
    return refused(refusals or "the workspace has no trust relationship", *statements)


def _judged(statement: StatementVerdict) -> Verdict:
    failing = [check.told for check in statement.checks if not check.holds]
    if failing:
        return refused(failing[0], statement)
    wanted = statement.checks[1].wanted[0]
    reason = f"subject_match {shown(wanted)} admits it"
    return Verdict(admitted=True, reason=reason, statements=(statement,))


def _statement(relationship: Relationship, claims: Claims, place: str) -> StatementVerdict:
    wanted = {
        key: text_of(relationship.get(key)) for key in ("issuer", "subject_match", "audience")
    }
    issuer, subject = text_of(claims.get("iss")), text_of(claims.get("sub"))
    audiences = texts(claims.get("aud"))
    checks = [
        _check("issuer", wanted["issuer"], (issuer,), holds=issuer == wanted["issuer"]),
        _check(
            "subject_match",
            wanted["subject_match"],
            (subject,),
            holds=pattern(wanted["subject_match"], "*").fullmatch(subject) is not None,
        ),
    ]
    if wanted["audience"]:
        holds = wanted["audience"] in audiences
        checks.append(_check("audience", wanted["audience"], audiences, holds=holds))
    return StatementVerdict(place=place, effect="Allow", checks=tuple(checks))


def _check(element: str, wanted: str, presented: tuple[str, ...], *, holds: bool) -> Check:
    has = tuple(one for one in presented if one)
    return Check(
        element=element,
        wanted=(wanted,),
        presented=has,
        holds=bool(wanted) and holds,
        told=f"{element} wants {shown(wanted)}, the token has {listing(has)}",
    )
