"""Decide by the configured rules what a caller may have, and explain the decision."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from broker.access.caller import NO_GRANT, PLAIN_TOKEN, Caller, Grant
from broker.access.match import Facts, Mismatch, Who
from broker.access.rule_index import RuleIndex
from broker.access.users import has_name


class Rules(Protocol):
    """Decide what a caller may have, on every surface alike."""

    @property
    def decide_by_process(self) -> bool:
        """Whether two processes of one caller may get different grants."""

    def grant_for(self, caller: Caller) -> Grant: ...


class ExplainedRules(Rules, Protocol):
    """Rules that can also explain a decision."""

    def explain(self, caller: Caller) -> "Explanation": ...

    def may_grant(self, caller: Caller) -> bool:
        """Return whether *caller* could be granted something, with some token."""


def limited(caller: Caller, rules: ExplainedRules) -> Caller:
    """Return *caller*, marked if no rule grants it anything: all such callers share one limit."""
    return caller if rules.may_grant(caller) else replace(caller, is_ungranted=True)


@dataclass(frozen=True, slots=True)
class RuleResult:
    """How one rule came out.

    It was the first to match, some key did not hold, it could not be decided, or an earlier rule
    had decided.
    """

    rule: str
    outcome: Literal["matched", "missed", "not known", "not reached"]
    mismatches: tuple[Mismatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a caller would get, and how each rule came out."""

    grant: Grant
    results: tuple[RuleResult, ...]

    @property
    def rule(self) -> str | None:
        """The rule that matched, by name."""
        return next((each.rule for each in self.results if each.outcome == "matched"), None)


class OwnerOnly:
    """The rules where none are configured.

    They admit root, the uid that runs the broker, and holders of a container token; a caller of
    unknown uid is nobody.
    """

    decide_by_process = False

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
        return NO_GRANT

    def may_grant(self, caller: Caller) -> bool:
        return True  # any caller may hold a container token

    def explain(self, caller: Caller) -> Explanation:
        grant = self.grant_for(caller)
        if grant.any:
            return Explanation(grant, (RuleResult("owner", "matched"),))
        required = " or ".join(str(uid) for uid in sorted(self._owners))
        found = None if caller.uid is None else str(caller.uid)
        return Explanation(
            grant, (RuleResult("owner", "missed", (Mismatch("uid", required, found),)),)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What callers that match ``who`` may have; ``number`` counts from 1, as in the file.

    ``default_role`` is the first role unless it is set. With a ``policy`` or ``tags`` the rule has
    leases of its own.
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
    """The configured rules: the first that matches decides.

    A caller that matches none gets nothing, root and the broker's own uid included. So does one for
    whom a rule cannot be decided: whoever hides from a rule that refuses must not reach a wider one
    below.
    """

    def __init__(self, rules: Iterable[Rule], *, facts: Facts) -> None:
        self.rules = tuple(rules)
        self._facts = facts
        self._granted = tuple((rule.who, rule.grant) for rule in self.rules)
        self._index = RuleIndex([rule.who for rule in self.rules])
        self._by_token = [rule for rule in self.rules if rule.who.token and rule.grant.any]
        self.decide_by_process = any(rule.who.exe is not None for rule in self.rules)

    def grant_for(self, caller: Caller) -> Grant:
        for position in self._index.candidates(caller, self._facts):
            who, grant = self._granted[position]
            matches = who.matches(caller, self._facts)
            if matches is None:
                return NO_GRANT
            if matches:
                return grant
        return NO_GRANT

    def may_grant(self, caller: Caller) -> bool:
        return self.grant_for(caller).any or any(
            rule.who.matches(caller.with_token(rule.who.token), self._facts)
            for rule in self._by_token
        )

    def explain(self, caller: Caller) -> Explanation:
        """Return what *caller* would get, and every key that keeps a rule from matching."""
        grant, results, decided = NO_GRANT, list[RuleResult](), False
        for rule in self.rules:
            if decided:
                results.append(RuleResult(rule.name, "not reached"))
                continue
            matches = rule.who.matches(caller, self._facts)
            decided = matches is not False
            if matches:
                grant = rule.grant
                results.append(RuleResult(rule.name, "matched"))
            else:
                missed = tuple(rule.who.mismatches(caller, self._facts))
                results.append(RuleResult(rule.name, "not known" if decided else "missed", missed))
        return Explanation(grant, tuple(results))


LOCAL_KEYS = frozenset(
    {"any_local", "uid", "user", "unit", "user_unit", "container", "group", "exe"}
)
"""Keys that hold only for a caller with a uid; ``cidr`` holds only for one without."""


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule that does not do what it seems to, with a sentence that says why and what to do."""

    rule: str
    reason: str


def unreachable(
    rules: Iterable[Rule], *, is_user: Callable[[int], bool] = has_name
) -> tuple[RuleFinding, ...]:
    """Return the rules that match nobody, or only callers that an earlier rule matches.

    A rule that only a user's subordinate uids could reach counts as unreachable. *is_user* returns
    whether a uid has a name, and so is matched by ``any_local``.
    """
    found = []
    earlier: list[Rule] = []
    for rule in rules:
        first = next(
            (each for each in earlier if covers(each.who, rule.who, is_user=is_user)), None
        )
        if reason := contradiction(rule.who):
            found.append(RuleFinding(rule.name, reason))
        elif first is not None:
            reason = (
                f"never reached: {first.name} already matches everybody it matches; "
                f"put it before {first.name} or remove it"
            )
            found.append(RuleFinding(rule.name, reason))
        else:
            earlier.append(rule)
    return tuple(found)


def evadable(rules: Iterable[Rule]) -> Iterator[RuleFinding]:
    """Yield the rules that refuse users by uid before a rule that does not look at the uid.

    A user's subordinate uids are refused with it, but nobody can know which other uids a user gets
    by sudo, a set-uid program, or a container engine.
    """
    several = tuple(rules)
    for index, rule in enumerate(several):
        if rule.grant.any or (rule.who.user is None and rule.who.uid is None):
            continue
        refused = rule.who.user or f"uid {rule.who.uid}"
        wider = (each for each in several[index + 1 :] if each.grant.any and _is_by_place(each.who))
        if (found := next(wider, None)) is not None:
            yield RuleFinding(
                rule.name,
                f"refuses {refused}, but {found.name} admits programs that {refused} can start "
                "under another uid (sudo, set-uid programs, containers); name in "
                f"{found.name} whom it is for, by user or group",
            )


def _is_by_place(who: Who) -> bool:
    """Return whether *who* matches local callers whatever their uid."""
    return (
        who.user is None
        and who.uid is None
        and who.group is None
        and (who.any_local or who.unit is not None or who.container is not None)
    )


def contradiction(who: Who) -> str | None:
    """Return why nobody can match *who*; None where somebody could."""
    local = [key for key in who.keys if key in LOCAL_KEYS]
    if who.cidr is not None and local:
        return (
            f"matches nobody: cidr is for remote callers, which have no {local[0]}; "
            "split it into two rules"
        )
    if who.user is not None and who.uid not in (None, who.user.number):
        return f"matches nobody: {who.user} is uid {who.user.number}; leave out uid or user"
    if who.token == PLAIN_TOKEN:
        return f'matches nobody: token "{PLAIN_TOKEN}" names nobody; add one to container.tokens'
    return None


def covers(wide: Who, narrow: Who, *, is_user: Callable[[int], bool] = has_name) -> bool:
    """Return whether *wide* matches whatever *narrow* does."""
    if wide.any_local and not _has_name(narrow, is_user):
        return False
    keys = [key for key in wide.keys if key != "any_local"]
    return bool(wide.keys) and all(IMPLIED_BY[key](getattr(wide, key), narrow) for key in keys)


def _has_name(who: Who, is_user: Callable[[int], bool]) -> bool:
    if who.any_local or who.user is not None or who.group is not None:
        return True
    return who.uid is not None and is_user(who.uid)


def _uid_of(who: Who) -> int | None:
    return who.user.number if who.user is not None else who.uid


def _same(key: str) -> Callable[[Any, Who], bool]:
    return lambda required, narrow: bool(getattr(narrow, key) == required)


def _same_group(required: Any, narrow: Who) -> bool:
    return narrow.group is not None and bool(narrow.group.number == required.number)


def _longer_id(required: Any, narrow: Who) -> bool:
    return narrow.container is not None and narrow.container.startswith(required)


def _inner_network(required: Any, narrow: Who) -> bool:
    inner = narrow.cidr
    return inner is not None and inner.version == required.version and inner.subnet_of(required)


IMPLIED_BY: dict[str, Callable[[Any, Who], bool]] = {
    "uid": lambda uid, narrow: _uid_of(narrow) == uid,
    "user": lambda user, narrow: _uid_of(narrow) == user.number,
    "token": _same("token"),
    "unit": _same("unit"),
    "user_unit": _same("user_unit"),
    "container": _longer_id,
    "cidr": _inner_network,
    "group": _same_group,
    "exe": _same("exe"),
}
"""For each key but ``any_local``, whether the wide rule's value follows from the narrow rule."""
