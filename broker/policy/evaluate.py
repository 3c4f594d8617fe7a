"""Evaluate IAM policies for one request, statement by statement.

Source: IAM user guide, "Policy evaluation logic".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.policy import operators
from broker.policy.texts import like, listed, listing, quoted, texts
from broker.policy.verdict import Check, StatementVerdict, Verdict, refused

Policy = Mapping[str, object]

_VARIABLE = re.compile(r"\$\{(?![*?$]\})[^}]*\}")
_WITH_VARIABLES = "2012-10-17"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRequest:
    """A request: its action, and its condition keys (lower case) with their values.

    A trust policy looks at the principal (``kind`` and ``names``), an identity's policy at the
    ``resource``. ``holder`` is who presents the keys, for messages. Where ``is_whole``, ``keys``
    are all there are; else nothing is known about a key of AWS's own that is missing. ``unread``
    are keys (lower case) of claims that AWS does not read from a token.
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
        """Return whether the value of *key*, or its absence, is known.

        A claim's key begins with the host of its issuer, AWS's own with the name of a service.
        """
        return self.is_whole or key in self.keys or "." in key.partition(":")[0]


def evaluate(policies: Mapping[str, Policy], request: PolicyRequest) -> Verdict:
    """Evaluate every statement: one Deny that applies wins, else one Allow must apply.

    What is unknown counts against the request: it fails an Allow and applies a Deny.
    """
    statements = tuple(
        _statement(place, statement, version, request)
        for place, statement, version in _statements(policies)
    )
    for one in statements:
        if one.effect == "Deny" and one.applies:
            return refused(f"{one.place} denies it", *statements)
    for one in statements:
        if one.effect == "Deny" and one.may_apply:
            return refused(f"{one.place} may deny it: {_unknown_checks(one)}", *statements)
    for one in statements:
        if one.effect == "Allow" and one.applies:
            return Verdict(admitted=True, reason=f"{one.place} admits it", statements=statements)
    others = [one for one in statements if one.effect != "Deny"]
    # Statements about another action, principal or resource are not the reason where one is about
    # this very request.
    about_this = [one for one in others if one.checks and not _about_something_else(one)]
    refusals = [f"{one.place}: {_why_not(one)}" for one in about_this or others]
    return refused("; ".join(refusals) or f"no statement allows {request.action}", *statements)


def _statements(policies: Mapping[str, Policy]) -> Iterator[tuple[str, object, object]]:
    """Yield each statement, its place and its policy's version; "" names the only policy."""
    for name, policy in policies.items():
        if not isinstance(policy, Mapping):
            continue
        for number, statement in enumerate(listed(policy.get("Statement")), start=1):
            yield f"{name} statement {number}".lstrip(), statement, policy.get("Version")


def _statement(
    place: str, statement: object, version: object, request: PolicyRequest
) -> StatementVerdict:
    effect = statement.get("Effect") if isinstance(statement, Mapping) else None
    if not isinstance(statement, Mapping) or effect not in ("Allow", "Deny"):
        return StatementVerdict(place=place, effect="", checks=())
    with_variables = version == _WITH_VARIABLES
    about = _principal if request.resource is None else _resource
    return StatementVerdict(
        place=place,
        effect=effect,
        checks=(
            _action(statement, request.action),
            about(statement, request, with_variables),
            *_conditions(statement.get("Condition"), request, with_variables),
        ),
    )


def _why_not(statement: StatementVerdict) -> str:
    """Return why a statement does not apply: what it is about, before which condition fails."""
    if not statement.checks:
        return "is no statement with Effect Allow or Deny"
    if elsewhere := _about_something_else(statement):
        return elsewhere[0]
    failing = [check.text for check in statement.checks if check.holds is False]
    return " and ".join(failing) or _unknown_checks(statement)


def _about_something_else(statement: StatementVerdict) -> list[str]:
    """Return the failed checks other than conditions: the statement is about something else."""
    return [
        check.text
        for check in statement.checks
        if check.holds is False and check.element != "Condition"
    ]


def _unknown_checks(statement: StatementVerdict) -> str:
    return " and ".join(check.text for check in statement.checks if check.holds is None)


# The elements of a statement.


def _action(statement: Mapping[str, object], action: str) -> Check:
    excluded = "NotAction" in statement
    element = "NotAction" if excluded else "Action"
    patterns = texts(statement.get(element))
    named = any(like(pattern.lower(), action.lower()) for pattern in patterns)
    return Check(
        element=element,
        expected=patterns,
        presented=(action,),
        holds=named is not excluded,
        text=f"{element} is {listing(patterns)}, the request is for {quoted(action)}",
    )


def _principal(statement: Mapping[str, object], request: PolicyRequest, _: bool) -> Check:
    excluded = "NotPrincipal" in statement
    element = "NotPrincipal" if excluded else "Principal"
    principal = statement.get(element)
    if isinstance(principal, Mapping):
        admitted = texts(principal.get(request.kind))
        everybody = "*" in admitted or "*" in texts(principal.get("AWS"))
    else:
        admitted = texts(principal)
        everybody = "*" in admitted
    named = everybody or not request.names.isdisjoint(admitted)
    callers = tuple(sorted(request.names))
    return Check(
        element=element,
        key=request.kind,
        expected=admitted,
        presented=callers,
        holds=named is not excluded,
        text=f"{element} {request.kind} is {listing(admitted)}, the caller is {listing(callers)}",
    )


def _resource(
    statement: Mapping[str, object], request: PolicyRequest, with_variables: bool
) -> Check:
    excluded = "NotResource" in statement
    element = "NotResource" if excluded else "Resource"
    patterns = texts(statement.get(element))
    resource = request.resource or ""
    with_variable = [one for one in patterns if with_variables and _VARIABLE.search(one)]
    named = any(like(pattern, resource) for pattern in patterns if pattern not in with_variable)
    text = f"{element} is {listing(patterns)}, the request is for {quoted(resource)}"
    unknown = with_variable and not named
    return Check(
        element=element,
        expected=patterns,
        presented=(resource,),
        holds=None if unknown else named is not excluded,
        text=text + (_not_evaluated("policy variables") if unknown else ""),
    )


def _conditions(
    conditions: object, request: PolicyRequest, with_variables: bool
) -> Iterator[Check]:
    """Yield a check for each key of each operator; all must hold."""
    if conditions is None:
        return
    if not isinstance(conditions, Mapping):
        text = "Condition is not an object"
        yield Check(element="Condition", expected=(), presented=(), holds=False, text=text)
        return
    for name, tests in conditions.items():
        if isinstance(tests, Mapping):
            for key, expected in tests.items():
                yield _condition(str(name), str(key), texts(expected), request, with_variables)
        else:
            text = f"condition {quoted(str(name))} is not an object"
            yield Check(
                element="Condition",
                operator=str(name),
                expected=(),
                presented=(),
                holds=False,
                text=text,
            )


def _condition(
    name: str, key: str, expected: tuple[str, ...], request: PolicyRequest, with_variables: bool
) -> Check:
    operator = operators.parse_operator(name)
    lowered = key.lower()
    has = request.keys.get(lowered, ())
    text = f"condition {name} {key} wants {listing(expected)}"
    holds: bool | None = None
    if operator is None:
        text = f"condition operator {quoted(name)} is not evaluated here"
    elif not request.knows(lowered):
        text += f", {key} is not known here"
    else:
        plain = tuple(one for one in expected if not (with_variables and _VARIABLE.search(one)))
        holds = operator.holds(plain, has)
        if len(plain) < len(expected) and has:
            holds = holds if holds is not operator.negated else None
        text = _condition_text(operator, key, expected, has, request)
        if holds is None:
            hangs = len(plain) < len(expected)
            text += _not_evaluated("policy variables" if hangs else "such a value")
    return Check(
        element="Condition",
        operator=name,
        key=key,
        expected=expected,
        presented=has,
        holds=holds,
        text=text,
    )


def _condition_text(
    operator: operators.Operator,
    key: str,
    expected: tuple[str, ...],
    has: tuple[str, ...],
    request: PolicyRequest,
) -> str:
    verb = "refuses" if operator.negated else "wants"
    found = f"has {listing(has)}" if has else "has none"
    text = f"condition {operator.name} {key} {verb} {listing(expected)}, {request.holder} {found}"
    if key.lower() in request.unread:
        text += " that AWS reads (of a token it reads only amr, aud, azp, email and sub)"
    if (
        operator.is_literal
        and not operator.negated
        and any(set(want) & set("*?") for want in expected)
    ):
        text += " (wildcards need StringLike)"
    return text


def _not_evaluated(what: str) -> str:
    return f" ({what}: not evaluated here)"
