"""What an evaluation finds, check by check. Evaluates nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a statement asks for, held against what was presented.

    ``element`` is the part of the statement (``Action``, ``NotPrincipal``, ``Condition``, …; of
    a trust relationship ``issuer``, ``subject_match``, ``audience``). A condition has its
    ``operator`` and ``key``, a principal its kind as ``key``. ``holds`` is None where that cannot
    be told here. ``told`` is all of it in words.
    """

    element: str
    wanted: tuple[str, ...]
    presented: tuple[str, ...]
    holds: bool | None
    told: str
    operator: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementVerdict:
    """One statement of a policy, or one trust relationship; ``place`` says which.

    A statement that is none, or whose ``effect`` is neither Allow nor Deny, has no checks.
    """

    place: str
    effect: str
    checks: tuple[Check, ...]

    @property
    def applies(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def may_apply(self) -> bool:
        """Return whether nothing is known to stand against it."""
        return bool(self.checks) and all(check.holds is not False for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a trust admits, and why, in one line; ``bool(verdict)`` is ``admitted``.

    ``statements`` are all that were looked at, with every check of each.
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
        """Return whether it was refused only because something could not be evaluated here."""
        if self.admitted or self.denied:
            return False
        return any(one.effect == "Allow" and one.may_apply for one in self.statements)


def refused(reason: str, *statements: StatementVerdict) -> Verdict:
    return Verdict(admitted=False, reason=reason, statements=statements)
