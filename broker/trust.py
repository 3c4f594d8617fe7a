"""Does this policy admit this identity, and if not, which condition fails. Fetches nothing."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

Claims = Mapping[str, object]
Policy = Mapping[str, object]

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a trust admits, and why, in one line; ``bool(verdict)`` is ``admitted``."""

    admitted: bool
    reason: str

    def __bool__(self) -> bool:
        return self.admitted


def role_admits_web_identity(
    policy: Policy,
    *,
    provider_arn: str,
    claims: Claims,
    context: Mapping[str, object] | None = None,
) -> Verdict:
    """Would this role trust policy let the holder of an ID token in?

    *claims* are those of a token that the OIDC provider *provider_arn* vouches for; *context*
    adds condition keys that do not come from the token, such as ``sts:RoleSessionName``.
    Never raises: what cannot be read admits nobody, and the reason says so.

    Source: aws-api.md 6.3; IAM reference, "IAM JSON policy elements: Condition operators".
    """
    provider = provider_arn.partition(":oidc-provider/")[2] or provider_arn
    issuer = str(claims.get("iss", "")).removeprefix("https://")
    if issuer and issuer != provider:
        return _refused(f"the token is from {_shown(issuer)}, the provider is {_shown(provider)}")
    asked = _Asked(
        action="sts:AssumeRoleWithWebIdentity",
        kind="Federated",
        names=frozenset({provider_arn}),
        keys=_lowered(_keys_of(claims, provider)) | _lowered(context or {}),
        holder="the token",
    )
    return _judge({"": policy}, asked)


def role_admits_principal(
    policy: Policy,
    *,
    principal_arns: Iterable[str],
    action: str = "sts:AssumeRole",
    context: Mapping[str, object] | None = None,
) -> Verdict:
    """Would this role trust policy let an AWS principal do *action*?

    *principal_arns* are all the names it goes by: a role session has its own ARN and its
    role's. Its account (as id and as ``root``) is read from them.
    """
    asked = _Asked(
        action=action,
        kind="AWS",
        names=frozenset(name for arn in principal_arns for name in _names_of(arn)),
        keys=_lowered(context or {}),
        holder="the request",
    )
    return _judge({"": policy}, asked)


def identity_may(
    policies: Mapping[str, Policy],
    *,
    action: str,
    resource: str = "*",
    context: Mapping[str, object] | None = None,
) -> Verdict:
    """Do the *policies* of an identity, by their names, let it do *action* on *resource*?

    *resource* is an ARN, or ``*`` for an action that AWS defines on no resource: a statement
    then has to name ``*`` itself. Without an Allow nothing is allowed.

    Source: IAM user guide, "Policy evaluation logic"; aws-api.md 5.
    """
    asked = _Asked(
        action=action,
        resource=resource,
        keys=_lowered(context or {}),
        holder="the request",
    )
    return _judge(policies, asked)


def relationship_admits(relationship: Mapping[str, object], *, claims: Claims) -> Verdict:
    """Does one Namespace trust relationship admit *claims*?

    The issuer must be equal to the last character; ``*`` in ``subject_match`` stands for any
    text, ``/`` and ``:`` included; an ``audience`` counts only when it is set.

    Source: namespace-api.md 6.7.
    """
    issuer, subject = _text(claims.get("iss")), _text(claims.get("sub"))
    audiences = _values(claims.get("aud"))
    wanted = {key: _text(relationship.get(key)) for key in ("issuer", "subject_match", "audience")}
    if not wanted["issuer"] or issuer != wanted["issuer"]:
        return _refused(_unlike("issuer", wanted["issuer"], issuer))
    pattern = wanted["subject_match"]
    if not pattern or not _pattern(pattern, "*").fullmatch(subject):
        return _refused(_unlike("subject_match", pattern, subject))
    if wanted["audience"] and wanted["audience"] not in audiences:
        return _refused(_unlike("audience", wanted["audience"], *audiences))
    return Verdict(admitted=True, reason=f"subject_match {_shown(pattern)} admits it")


def relationships_admit(
    relationships: Iterable[Mapping[str, object]], *, claims: Claims
) -> Verdict:
    """Does any of a workspace's trust relationships admit *claims*? The first that does says so."""
    refusals = []
    for number, relationship in enumerate(relationships, start=1):
        name = _text(relationship.get("id")) or str(number)
        verdict = relationship_admits(relationship, claims=claims)
        if verdict:
            return Verdict(admitted=True, reason=f"trust relationship {name}: {verdict.reason}")
        refusals.append(f"trust relationship {name}: {verdict.reason}")
    return _refused("; ".join(refusals) or "the workspace has no trust relationship")


# One request, and the statements it is held against.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is asked, with which condition keys (lower case) and their values.

    A trust policy asks by whom (``kind`` and ``names``), an identity's policy on what
    (``resource``).
    """

    action: str
    keys: Mapping[str, tuple[str, ...]]
    holder: str
    kind: str = ""
    names: frozenset[str] = frozenset()
    resource: str | None = None


class _NotEvaluated(Exception):
    """The statement hangs on something that this module does not evaluate."""


def _judge(policies: Mapping[str, Policy], asked: _Asked) -> Verdict:
    """Apply every statement: one Deny that applies wins, else one Allow must apply."""
    allowed, denied, refusals = "", "", []
    for place, statement in _statements(policies):
        effect = statement.get("Effect") if isinstance(statement, Mapping) else None
        if not isinstance(statement, Mapping) or effect not in ("Allow", "Deny"):
            refusals.append(f"{place}: is no statement with Effect Allow or Deny")
            continue
        try:
            mismatch = _mismatch(statement, asked)
        except _NotEvaluated as error:
            # What cannot be judged is taken for the worse: no admission, but a denial.
            mismatch = str(error)
            denied = denied or (f"{place} may deny it: {error}" if effect == "Deny" else "")
        if mismatch is None and effect == "Deny":
            denied = denied or f"{place} denies it"
        elif mismatch is None:
            allowed = allowed or f"{place} admits it"
        elif effect == "Allow":
            refusals.append(f"{place}: {mismatch}")
    if denied or not allowed:
        return _refused(denied or "; ".join(refusals) or f"no statement allows {asked.action}")
    return Verdict(admitted=True, reason=allowed)


def _statements(policies: Mapping[str, Policy]) -> Iterator[tuple[str, object]]:
    """Yield each statement and its place; a policy without a name is the only one."""
    for name, policy in policies.items():
        listed = policy.get("Statement") if isinstance(policy, Mapping) else None
        for number, statement in enumerate(_listed(listed), start=1):
            yield f"{name} statement {number}".lstrip(), statement


def _mismatch(statement: Mapping[str, object], asked: _Asked) -> str | None:
    """Say why *statement* does not apply to what is asked; None when it does."""
    by_whom_or_on_what = _principal_mismatch if asked.resource is None else _resource_mismatch
    return (
        _action_mismatch(statement, asked.action)
        or by_whom_or_on_what(statement, asked)
        or _condition_mismatch(statement.get("Condition"), asked)
    )


def _action_mismatch(statement: Mapping[str, object], action: str) -> str | None:
    excluded = "NotAction" in statement
    element = "NotAction" if excluded else "Action"
    patterns = _values(statement.get(element))
    named = any(_like(pattern.lower(), action.lower()) for pattern in patterns)
    if named is not excluded:
        return None
    return f"{element} is {_listing(patterns)}, asked is {_shown(action)}"


def _principal_mismatch(statement: Mapping[str, object], asked: _Asked) -> str | None:
    excluded = "NotPrincipal" in statement
    element = "NotPrincipal" if excluded else "Principal"
    principal = statement.get(element)
    if isinstance(principal, Mapping):
        admitted = _values(principal.get(asked.kind))
        everybody = "*" in admitted or "*" in _values(principal.get("AWS"))
    else:
        admitted = _values(principal)
        everybody = "*" in admitted
    named = everybody or not asked.names.isdisjoint(admitted)
    if named is not excluded:
        return None
    asking = _listing(sorted(asked.names))
    return f"{element} {asked.kind} is {_listing(admitted)}, asking is {asking}"


def _resource_mismatch(statement: Mapping[str, object], asked: _Asked) -> str | None:
    excluded = "NotResource" in statement
    element = "NotResource" if excluded else "Resource"
    patterns = _values(statement.get(element))
    named = any(_like(pattern, asked.resource or "") for pattern in patterns)
    if named is not excluded:
        return None
    return f"{element} is {_listing(patterns)}, asked is {_shown(asked.resource or '')}"


def _condition_mismatch(conditions: object, asked: _Asked) -> str | None:
    """All operators and all keys must hold. Known ones are judged first, so that a statement
    that does not apply anyhow is not held up by one that is unknown."""
    if conditions is None:
        return None
    if not isinstance(conditions, Mapping):
        return "Condition is not an object"
    unknown: list[str] = []
    for name, tests in conditions.items():
        test = _operator(str(name))
        if test is None or not isinstance(tests, Mapping):
            unknown.append(str(name))
            continue
        for key, wanted in tests.items():
            has = asked.keys.get(str(key).lower(), ())
            wants = _values(wanted)
            if not test.holds(wants, has):
                return test.complaint(str(key), wants, has, asked.holder)
    if unknown:
        raise _NotEvaluated(f"condition operator {_listing(unknown)} is not evaluated here")
    return None


# Condition operators.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operator:
    """One condition operator: how values compare, and what an absent key means.

    Without a set prefix an absent key fails a positive test and passes a negated one; with
    ``IfExists`` it always passes. ``ForAllValues`` passes when there is no value at all,
    ``ForAnyValue`` does not. Source: IAM reference, "Multivalued context keys".
    """

    name: str
    compares: Callable[[str, str], bool]
    negated: bool = False
    if_exists: bool = False
    quantifier: str = ""

    def holds(self, wants: tuple[str, ...], has: tuple[str, ...]) -> bool:
        if not has:
            return self._holds_when_absent()
        passed = [any(self.compares(want, value) for want in wants) for value in has]
        if self.quantifier == "ForAllValues" or (self.negated and not self.quantifier):
            return all(one is not self.negated for one in passed)
        return any(one is not self.negated for one in passed)

    def _holds_when_absent(self) -> bool:
        if self.if_exists or self.quantifier == "ForAllValues":
            return True
        return self.negated and not self.quantifier

    def complaint(self, key: str, wants: tuple[str, ...], has: tuple[str, ...], holder: str) -> str:
        verb = "refuses" if self.negated else "wants"
        found = f"has {_listing(has)}" if has else "has none"
        told = f"{self.name} {key} {verb} {_listing(wants)}, {holder} {found}"
        literal = self.compares in (_equal, _equal_ignoring_case)
        if literal and not self.negated and any("*" in want or "?" in want for want in wants):
            told += " (wildcards need StringLike)"
        return told


@dataclass(frozen=True, slots=True)
class _NullOperator:
    """``Null``: "true" wants the key absent, "false" wants it there."""

    name: str = "Null"

    def holds(self, wants: tuple[str, ...], has: tuple[str, ...]) -> bool:
        return ("true" if not has else "false") in {want.lower() for want in wants}

    def complaint(self, key: str, wants: tuple[str, ...], has: tuple[str, ...], holder: str) -> str:
        found = f"has {_listing(has)}" if has else "has none"
        return f"Null {key} wants {_listing(wants)}, {holder} {found}"


def _equal(want: str, value: str) -> bool:
    return want == value


def _equal_ignoring_case(want: str, value: str) -> bool:
    return want.lower() == value.lower()


def _matches(want: str, value: str) -> bool:
    return _like(want, value)


def _numbers(compares: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    """Compare as numbers; a value that is none holds for nothing, a policy's is not judged."""

    def compared(want: str, value: str) -> bool:
        if not _NUMBER.fullmatch(want):
            raise _NotEvaluated(f"{_shown(want)} is not a number")
        return _NUMBER.fullmatch(value) is not None and compares(float(value), float(want))

    return compared


_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?", re.ASCII)

_COMPARISONS: Mapping[str, tuple[Callable[[str, str], bool], bool]] = {
    "stringequals": (_equal, False),
    "stringnotequals": (_equal, True),
    "stringequalsignorecase": (_equal_ignoring_case, False),
    "stringnotequalsignorecase": (_equal_ignoring_case, True),
    "stringlike": (_matches, False),
    "stringnotlike": (_matches, True),
    "numericequals": (_numbers(operator.eq), False),
    "numericnotequals": (_numbers(operator.eq), True),
    "numericlessthan": (_numbers(operator.lt), False),
    "numericlessthanequals": (_numbers(operator.le), False),
    "numericgreaterthan": (_numbers(operator.gt), False),
    "numericgreaterthanequals": (_numbers(operator.ge), False),
}

_OPERATOR_NAME = re.compile(
    r"(?:(?P<quantifier>ForAllValues|ForAnyValue):)?(?P<base>[A-Za-z]+?)(?P<if_exists>IfExists)?",
    re.IGNORECASE,
)
_QUANTIFIERS = {"forallvalues": "ForAllValues", "foranyvalue": "ForAnyValue"}


def _operator(name: str) -> _Operator | _NullOperator | None:
    """Read an operator's name; None when it is not one that is evaluated here.

    ``NullIfExists`` does not exist: AWS takes IfExists on every operator except Null.
    """
    parts = _OPERATOR_NAME.fullmatch(name)
    if name.lower() == "null":
        return _NullOperator()
    if parts is None or parts["base"].lower() not in _COMPARISONS:
        return None
    compares, negated = _COMPARISONS[parts["base"].lower()]
    return _Operator(
        name=name,
        compares=compares,
        negated=negated,
        if_exists=parts["if_exists"] is not None,
        quantifier=_QUANTIFIERS.get((parts["quantifier"] or "").lower(), ""),
    )


# Condition keys, names and texts.


def _keys_of(claims: Claims, provider: str) -> Iterator[tuple[str, object]]:
    """Yield the condition keys that AWS makes of a token's claims.

    A token with ``azp`` shows that as ``aud``, and its own ``aud`` as ``oaud``.
    Source: IAM reference, "Available keys for AWS OIDC federation".
    """
    has_azp = "azp" in claims
    for claim, value in claims.items():
        yield f"{provider}:{'oaud' if has_azp and claim == 'aud' else claim}", value
    if has_azp:
        yield f"{provider}:aud", claims["azp"]


def _lowered(
    keys: Mapping[str, object] | Iterable[tuple[str, object]],
) -> dict[str, tuple[str, ...]]:
    pairs = keys.items() if isinstance(keys, Mapping) else keys
    return {str(key).lower(): _values(value) for key, value in pairs}


def _names_of(arn: str) -> Iterator[str]:
    yield arn
    parts = arn.split(":")
    if len(parts) >= 6:
        yield parts[4]
        yield f"arn:{parts[1]}:iam::{parts[4]}:root"


@lru_cache(maxsize=256)
def _pattern(text: str, wildcards: str) -> re.Pattern[str]:
    """Compile a pattern in which ``*`` is any text and, where *wildcards* has it, ``?`` any
    one character; IAM's ``${*}`` and ``${?}`` are then the plain characters.

    Each part after a star is matched at its first place and never given back, so that no
    pattern takes longer than its length times the text's.
    """
    escapes = r"\$\{[*?$]\}|." if "?" in wildcards else "."
    segments = [""]
    for piece in re.findall(escapes, text, re.DOTALL):
        if piece == "*":
            segments.append("")
        elif piece in wildcards:
            segments[-1] += "."
        else:
            segments[-1] += re.escape(piece.removeprefix("${").removesuffix("}") or piece)
    first, *rest = segments
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    atomic = "".join(f"(?>.*?{segment})" for segment in middle)
    return re.compile(f"{first}{atomic}.*{last}", re.DOTALL)


def _like(text: str, value: str) -> bool:
    return _pattern(text, "*?").fullmatch(value) is not None


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _values(value: object) -> tuple[str, ...]:
    """Return what JSON holds as texts; what has no text (an object, null) is left out."""
    return tuple(_text(one) for one in _listed(value) if isinstance(one, (str, int, float)))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else ""


def _refused(reason: str) -> Verdict:
    return Verdict(admitted=False, reason=reason)


def _unlike(condition: str, wants: str, *has: str) -> str:
    return f"{condition} wants {_shown(wants)}, the token has {_listing([h for h in has if h])}"


def _listing(values: Iterable[str]) -> str:
    shown = [_shown(value) for value in values]
    if len(shown) <= 1:
        return shown[0] if shown else "none"
    return f"one of {', '.join(shown)}"


def _shown(value: str) -> str:
    """Quote a foreign text: control characters escaped, the end of a long one left off."""
    cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
    return repr(cut)
