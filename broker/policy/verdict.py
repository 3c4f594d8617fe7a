"""The result of an evaluation, check by check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One requirement of a statement, compared with what was presented.

    ``element`` is the part of the statement (``Action``, ``NotPrincipal``, ``Condition``, …; of
    a trust relationship ``issuer``, ``subject_match``, ``audience``). A condition has its
    ``operator`` and ``key``, a principal its kind as ``key``. ``holds`` is None where that is
    unknown here. ``text`` is all of it for a message.
    """

    element: str
    expected: tuple[str, ...]
    presented: tuple[str, ...]
    holds: bool | None
    text: str
    operator: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementVerdict:
    """The checks of one statement of a policy, or of one trust relationship, at ``place``.

    What is no statement, or whose ``effect`` is neither Allow nor Deny, has no checks.
    """

    place: str
    effect: str
    checks: tuple[Check, ...]

    @property
    def applies(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def may_apply(self) -> bool:
        """Return whether no check is known to fail."""
        return bool(self.checks) and all(check.holds is not False for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a policy admits, and why, in one line; ``bool(verdict)`` is ``admitted``.

    ``statements`` are all that were evaluated.
    """

    admitted: bool
    reason: str
    statements: tuple[StatementVerdict, ...] = ()

    def __bool__(self) -> bool:
        return self.admitted

    @property
    def denied(self) -> bool:
        """Return whether a Deny applies."""
        return any(one.effect == "Deny" and one.applies for one in self.statements)

    @property
    def undecided(self) -> bool:
        """Return whether it was refused only because something is unknown here."""
        if self.admitted or self.denied:
            return False
        return any(one.effect == "Allow" and one.may_apply for one in self.statements)


def refused(reason: str, *statements: StatementVerdict) -> Verdict:
    return Verdict(admitted=False, reason=reason, statements=statements)
