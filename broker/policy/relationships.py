"""Evaluate Namespace's trust relationships for a token's claims.

Source: namespace-api.md 6.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.policy.texts import listing, pattern, quoted, text_of, texts
from broker.policy.verdict import Check, StatementVerdict, Verdict, refused

Relationship = Mapping[str, object]
Claims = Mapping[str, object]


def relationship_admits(relationship: Relationship, *, claims: Claims) -> Verdict:
    """Evaluate one trust relationship.

    The issuer must be equal to the last character; ``*`` in ``subject_match`` stands for any
    text, ``/`` and ``:`` included; an ``audience`` counts only when it is set.
    """
    name = text_of(relationship.get("id"))
    return _verdict(_statement(relationship, claims, f"trust relationship {name}".rstrip()))


def relationships_admit(relationships: Iterable[Relationship], *, claims: Claims) -> Verdict:
    """Evaluate all trust relationships of a workspace; one that admits is enough."""
    statements = tuple(
        _statement(one, claims, f"trust relationship {text_of(one.get('id')) or number}")
        for number, one in enumerate(relationships, start=1)
    )
    verdicts = [(one, _verdict(one)) for one in statements]
    for one, verdict in verdicts:
        if verdict:
            reason = f"{one.place}: {verdict.reason}"
            return Verdict(admitted=True, reason=reason, statements=statements)
    refusals = "; ".join(f"{one.place}: {verdict.reason}" for one, verdict in verdicts)
    return refused(refusals or "the workspace has no trust relationship", *statements)


def _verdict(statement: StatementVerdict) -> Verdict:
    failing = [check.text for check in statement.checks if not check.holds]
    if failing:
        return refused(failing[0], statement)
    expected = statement.checks[1].expected[0]
    reason = f"subject_match {quoted(expected)} admits it"
    return Verdict(admitted=True, reason=reason, statements=(statement,))


def _statement(relationship: Relationship, claims: Claims, place: str) -> StatementVerdict:
    expected = {
        key: text_of(relationship.get(key)) for key in ("issuer", "subject_match", "audience")
    }
    issuer, subject = text_of(claims.get("iss")), text_of(claims.get("sub"))
    audiences = texts(claims.get("aud"))
    checks = [
        _check("issuer", expected["issuer"], (issuer,), holds=issuer == expected["issuer"]),
        _check(
            "subject_match",
            expected["subject_match"],
            (subject,),
            holds=pattern(expected["subject_match"], "*").fullmatch(subject) is not None,
        ),
    ]
    if expected["audience"]:
        holds = expected["audience"] in audiences
        checks.append(_check("audience", expected["audience"], audiences, holds=holds))
    return StatementVerdict(place=place, effect="Allow", checks=tuple(checks))


def _check(element: str, expected: str, presented: tuple[str, ...], *, holds: bool) -> Check:
    has = tuple(one for one in presented if one)
    return Check(
        element=element,
        expected=(expected,),
        presented=has,
        holds=bool(expected) and holds,
        text=f"{element} wants {quoted(expected)}, the token has {listing(has)}",
    )
