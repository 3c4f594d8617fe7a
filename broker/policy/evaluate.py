"""IAM policies held against one request, statement by statement. Knows no cloud's tokens.

Source: IAM user guide, "Policy evaluation logic".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.policy import operators
from broker.policy.texts import like, listed, listing, shown, texts
from broker.policy.verdict import Check, StatementVerdict, Verdict, refused

Policy = Mapping[str, object]

_VARIABLE = re.compile(r"\$\{(?![*?$]\})[^}]*\}")
_WITH_VARIABLES = "2012-10-17"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked, with which condition keys (lower case) and their values.

    A trust policy asks by whom (``kind`` and ``names``), an identity's policy on what
    (``resource``). ``is_whole`` says that ``keys`` are all there are; else a key of AWS's own
    that is not there is one that nothing is known about. ``unread`` are keys (lower case) that
    a policy may hope for in vain: AWS does not take such claims from a token.
    """

    action: str
    keys: Mapping[str, tuple[str, ...]]
    holder: str
    is_whole: bool
    kind: str = ""
    names: frozenset[str] = frozenset()
    resource: str | None = None
    unread: frozenset[str] = frozenset()

    def knows(self, key: str) -> bool:
        """Return whether the value of *key*, or its absence, is known. A claim's key begins with
        the host of its issuer, AWS's own with the name of a service."""
        return self.is_whole or key in self.keys or "." in key.partition(":")[0]


def judge(policies: Mapping[str, Policy], asked: Asked) -> Verdict:
    """Apply every statement: one Deny that applies wins, else one Allow must apply.

    What cannot be evaluated is taken for the worse: no admission, but a denial.
    """
    statements = tuple(
        _statement(place, statement, version, asked)
        for place, statement, version in _statements(policies)
    )
    for one in statements:
        if one.effect == "Deny" and one.applies:
            return refused(f"{one.place} denies it", *statements)
    for one in statements:
        if one.effect == "Deny" and one.may_apply:
            return refused(f"{one.place} may deny it: {_unknown_of(one)}", *statements)
    for one in statements:
        if one.effect == "Allow" and one.applies:
            return Verdict(admitted=True, reason=f"{one.place} admits it", statements=statements)
    others = [one for one in statements if one.effect != "Deny"]
    # Where a statement is about this very thing, what else the policy is about is not the reason.
    about_this = [one for one in others if one.checks and not _elsewhere(one)]
    refusals = [f"{one.place}: {_objection(one)}" for one in about_this or others]
    return refused("; ".join(refusals) or f"no statement allows {asked.action}", *statements)


def _statements(policies: Mapping[str, Policy]) -> Iterator[tuple[str, object, object]]:
    """Yield each statement, its place and its policy's version; a policy without a name is the
    only one."""
    for name, policy in policies.items():
        if not isinstance(policy, Mapping):
            continue
        for number, statement in enumerate(listed(policy.get("Statement")), start=1):
            yield f"{name} statement {number}".lstrip(), statement, policy.get("Version")


def _statement(place: str, statement: object, version: object, asked: Asked) -> StatementVerdict:
    effect = statement.get("Effect") if isinstance(statement, Mapping) else None
    if not isinstance(statement, Mapping) or effect not in ("Allow", "Deny"):
        return StatementVerdict(place=place, effect="", checks=())
    with_variables = version == _WITH_VARIABLES
    about = _principal if asked.resource is None else _resource
    return StatementVerdict(
        place=place,
        effect=effect,
        checks=(
            _action(statement, asked.action),
            about(statement, asked, with_variables),
            *_conditions(statement.get("Condition"), asked, with_variables),
        ),
    )


def _objection(statement: StatementVerdict) -> str:
    """Say why a statement does not apply: whose it is not comes before what fails in it."""
    if not statement.checks:
        return "is no statement with Effect Allow or Deny"
    if elsewhere := _elsewhere(statement):
        return elsewhere[0]
    failing = [check.told for check in statement.checks if check.holds is False]
    return " and ".join(failing) or _unknown_of(statement)


def _elsewhere(statement: StatementVerdict) -> list[str]:
    """Return by what a statement is not about this at all, its conditions left aside."""
    return [
        check.told
        for check in statement.checks
        if check.holds is False and check.element != "Condition"
    ]


def _unknown_of(statement: StatementVerdict) -> str:
    return " and ".join(check.told for check in statement.checks if check.holds is None)


# The elements of a statement.


def _action(statement: Mapping[str, object], action: str) -> Check:
    excluded = "NotAction" in statement
    element = "NotAction" if excluded else "Action"
    patterns = texts(statement.get(element))
    named = any(like(pattern.lower(), action.lower()) for pattern in patterns)
    return Check(
        element=element,
        wanted=patterns,
        presented=(action,),
        holds=named is not excluded,
        told=f"{element} is {listing(patterns)}, asked is {shown(action)}",
    )


def _principal(statement: Mapping[str, object], asked: Asked, _: bool) -> Check:
    excluded = "NotPrincipal" in statement
    element = "NotPrincipal" if excluded else "Principal"
    principal = statement.get(element)
    if isinstance(principal, Mapping):
        admitted = texts(principal.get(asked.kind))
        everybody = "*" in admitted or "*" in texts(principal.get("AWS"))
    else:
        admitted = texts(principal)
        everybody = "*" in admitted
    named = everybody or not asked.names.isdisjoint(admitted)
    asking = tuple(sorted(asked.names))
    return Check(
        element=element,
        key=asked.kind,
        wanted=admitted,
        presented=asking,
        holds=named is not excluded,
        told=f"{element} {asked.kind} is {listing(admitted)}, asking is {listing(asking)}",
    )


def _resource(statement: Mapping[str, object], asked: Asked, with_variables: bool) -> Check:
    excluded = "NotResource" in statement
    element = "NotResource" if excluded else "Resource"
    patterns = texts(statement.get(element))
    resource = asked.resource or ""
    hanging = [one for one in patterns if with_variables and _VARIABLE.search(one)]
    named = any(like(pattern, resource) for pattern in patterns if pattern not in hanging)
    told = f"{element} is {listing(patterns)}, asked is {shown(resource)}"
    unknown = hanging and not named
    return Check(
        element=element,
        wanted=patterns,
        presented=(resource,),
        holds=None if unknown else named is not excluded,
        told=told + (_not_evaluated("policy variables") if unknown else ""),
    )


def _conditions(conditions: object, asked: Asked, with_variables: bool) -> Iterator[Check]:
    """All operators and all keys must hold."""
    if conditions is None:
        return
    if not isinstance(conditions, Mapping):
        told = "Condition is not an object"
        yield Check(element="Condition", wanted=(), presented=(), holds=False, told=told)
        return
    for name, tests in conditions.items():
        if isinstance(tests, Mapping):
            for key, wanted in tests.items():
                yield _condition(str(name), str(key), texts(wanted), asked, with_variables)
        else:
            told = f"condition {shown(str(name))} is not an object"
            yield Check(
                element="Condition",
                operator=str(name),
                wanted=(),
                presented=(),
                holds=False,
                told=told,
            )


def _condition(
    name: str, key: str, wants: tuple[str, ...], asked: Asked, with_variables: bool
) -> Check:
    operator = operators.named(name)
    lowered = key.lower()
    has = asked.keys.get(lowered, ())
    told = f"condition {name} {key} wants {listing(wants)}"
    holds: bool | None = None
    if operator is None:
        told = f"condition operator {shown(name)} is not evaluated here"
    elif not asked.knows(lowered):
        told += f", {key} is not known here"
    else:
        plain = tuple(one for one in wants if not (with_variables and _VARIABLE.search(one)))
        holds = operator.holds(plain, has)
        if len(plain) < len(wants) and has:
            holds = holds if holds is not operator.negated else None
        told = _told(operator, key, wants, has, asked)
        if holds is None:
            hangs = len(plain) < len(wants)
            told += _not_evaluated("policy variables" if hangs else "such a value")
    return Check(
        element="Condition",
        operator=name,
        key=key,
        wanted=wants,
        presented=has,
        holds=holds,
        told=told,
    )


def _told(
    operator: operators.Operator,
    key: str,
    wants: tuple[str, ...],
    has: tuple[str, ...],
    asked: Asked,
) -> str:
    verb = "refuses" if operator.negated else "wants"
    found = f"has {listing(has)}" if has else "has none"
    told = f"condition {operator.name} {key} {verb} {listing(wants)}, {asked.holder} {found}"
    if key.lower() in asked.unread:
        told += " that AWS reads (of a token it reads only amr, aud, azp, email and sub)"
    if (
        operator.is_literal
        and not operator.negated
        and any(set(want) & set("*?") for want in wants)
    ):
        told += " (wildcards need StringLike)"
    return told


def _not_evaluated(what: str) -> str:
    return f" ({what}: not evaluated here)"
