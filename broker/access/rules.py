"""A caller and the rules give what the caller may have. Pure: what costs a look elsewhere is asked
of the `Facts` that are handed in."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from broker.access.caller import NOTHING, Caller, Grant
from broker.access.match import Facts, Missed, Who


class Rules(Protocol):
    """Decides once per caller, whatever surface the caller comes by."""

    def grant_for(self, caller: Caller) -> Grant: ...


class ExplainedRules(Rules, Protocol):
    """Rules that can also say why."""

    def explain(self, caller: Caller) -> "Explained": ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one rule: it was the first to match, a key or more did not hold, nobody could
    tell, or an earlier one had decided."""

    rule: str
    outcome: Literal["matched", "missed", "not known", "not reached"]
    missed: tuple[Missed, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """What a caller would get, and how each rule in turn came to it."""

    grant: Grant
    verdicts: tuple[Verdict, ...]

    @property
    def rule(self) -> str | None:
        """The rule that matched, by name."""
        return next((each.rule for each in self.verdicts if each.outcome == "matched"), None)


class OwnerOnly:
    """The floor, where no rules are configured: root, the uid that runs the broker, and whoever
    holds a container token. What the kernel could not tell is nobody."""

    def __init__(
        self,
        *,
        owner_uid: int,
        roles: Iterable[str],
        default_role: str | None,
        namespace_tokens: Iterable[str] = (),
        id_token_audiences: Iterable[str] = (),
    ) -> None:
        self._owners = {0, owner_uid}
        self._everything = Grant(
            roles=frozenset(roles),
            default_role=default_role,
            namespace_tokens=frozenset(namespace_tokens),
            id_token_audiences=frozenset(id_token_audiences),
            rule="owner",
        )

    def grant_for(self, caller: Caller) -> Grant:
        if caller.uid in self._owners or caller.token is not None:
            return self._everything
        return NOTHING

    def explain(self, caller: Caller) -> Explained:
        grant = self.grant_for(caller)
        if grant.any:
            return Explained(grant, (Verdict("owner", "matched"),))
        wanted = " or ".join(str(uid) for uid in sorted(self._owners))
        found = None if caller.uid is None else str(caller.uid)
        return Explained(grant, (Verdict("owner", "missed", (Missed("uid", wanted, found),)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What those whom ``who`` means may have: ``number`` counts from 1, in the order of the file.

    ``default_role`` is the first role unless it is named. With a ``policy`` or ``tags`` the leases
    are this rule's own.
    """

    number: int
    who: Who
    roles: tuple[str, ...] = ()
    default_role: str | None = None
    policy: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    namespace_tokens: frozenset[str] = field(default_factory=frozenset)
    id_token_audiences: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        return f"rules[{self.number}]"

    @property
    def grant(self) -> Grant:
        return Grant(
            roles=frozenset(self.roles),
            default_role=self.default_role or next(iter(self.roles), None),
            namespace_tokens=self.namespace_tokens,
            id_token_audiences=self.id_token_audiences,
            narrowed=self.policy is not None or bool(self.tags),
            rule=self.name,
        )


class FirstMatch:
    """The configured rules: the first that matches decides, and who matches none gets nothing,
    root and the broker's own uid included.

    Where it cannot be told whether a rule means a caller, that caller gets nothing either: a rule
    that refuses must not be passed by whoever hides from it, into a wider one below.
    """

    def __init__(self, rules: Iterable[Rule], *, facts: Facts) -> None:
        self.rules = tuple(rules)
        self._facts = facts
        self._granted = tuple((rule.who, rule.grant) for rule in self.rules)

    def grant_for(self, caller: Caller) -> Grant:
        for who, grant in self._granted:
            is_meant = who.means(caller, self._facts)
            if is_meant is None:
                return NOTHING
            if is_meant:
                return grant
        return NOTHING

    def explain(self, caller: Caller) -> Explained:
        """Return what *caller* would get, with every key that keeps a rule from matching."""
        grant, verdicts, decided = NOTHING, list[Verdict](), False
        for rule in self.rules:
            if decided:
                verdicts.append(Verdict(rule.name, "not reached"))
                continue
            is_meant = rule.who.means(caller, self._facts)
            decided = is_meant is not False
            if is_meant:
                grant = rule.grant
                verdicts.append(Verdict(rule.name, "matched"))
            else:
                missed = tuple(rule.who.missed_by(caller, self._facts))
                verdicts.append(Verdict(rule.name, "not known" if decided else "missed", missed))
        return Explained(grant, tuple(verdicts))
