"""``[[rules]]``: which callers get which roles and tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from broker.access.match import InvalidWho, Who, who_of
from broker.access.rules import Rule, unreachable
from broker.config import validate
from broker.config.errors import ConfigError, shown
from broker.config.file import below, kind_of, read
from broker.config.model import (
    IdTokenConfig,
    NamespaceTokenConfig,
    RoleConfig,
    RuleTable,
    WhoTable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grantable:
    """What rules may name: roles, identities whose token is exported, and audiences."""

    roles: dict[str, RoleConfig]
    namespace_tokens: tuple[str, ...]
    id_token_audiences: tuple[str, ...]

    @classmethod
    def of(
        cls,
        roles: Iterable[RoleConfig],
        namespace_tokens: Iterable[NamespaceTokenConfig],
        id_tokens: Iterable[IdTokenConfig],
    ) -> "Grantable":
        return cls(
            roles={role.role.name: role for role in roles},
            namespace_tokens=tuple(token.identity for token in namespace_tokens),
            id_token_audiences=tuple(token.audience for token in id_tokens),
        )


def rules_of(tables: object, grantable: Grantable) -> tuple[Rule, ...]:
    """Return the rules in the order of the file.

    Raises:
        ConfigError: A rule is wrong, names what does not exist, or is never reached.
    """
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise ConfigError("rules", f"is {kind_of(tables)}", "write each rule as [[rules]]")
    rules = tuple(
        _rule_of(number, table, grantable) for number, table in enumerate(tables, start=1)
    )
    for found in unreachable(rules):
        what, _, next_step = found.reason.partition("; ")
        raise ConfigError(found.rule, what, next_step)
    return rules


def _rule_of(number: int, table: object, grantable: Grantable) -> Rule:
    place = f"rules[{number}]"
    if not isinstance(table, dict):
        raise ConfigError(place, f"is {kind_of(table)}", "write each rule as [[rules]]")
    keys = read(RuleTable, table, place=place)
    roles = _roles_named(keys.roles or [], grantable, place=f"{place}.roles")
    rule = Rule(
        number=number,
        who=_who_in(keys.who, place=f"{place}.who"),
        roles=roles,
        default_role=_default_role_of(keys.default_role, roles, place=f"{place}.default_role"),
        policy=_policy_of(keys.policy, roles, grantable, place=f"{place}.policy"),
        tags=_tags_of(keys.tags, roles, place=f"{place}.tags"),
        namespace_tokens=_tokens_named(keys, grantable, place=f"{place}.namespace_tokens"),
        id_token_audiences=_audiences_named(keys, grantable, place=f"{place}.id_token_audiences"),
    )
    if keys.roles is None and not rule.grant.any:
        raise ConfigError(place, "grants nothing", "name roles; roles = [] refuses all on purpose")
    return rule


def _who_in(table: object, *, place: str) -> Who:
    if table is None:
        raise ConfigError(place, "is missing", 'say who, as in who = { user = "ci" }')
    if not isinstance(table, dict):
        raise ConfigError(
            place, f"is {kind_of(table)}", 'write a table, as in who = { user = "ci" }'
        )
    keys = msgspec.structs.asdict(read(WhoTable, table, place=place))
    try:
        who = who_of(keys)
    except InvalidWho as bad:
        what, _, next_step = str(bad).partition("; ")
        raise ConfigError(f"{place}.{bad.key}" if bad.key else place, what, next_step) from bad
    if who.token is not None:
        validate.token_name(who.token, place=f"{place}.token")
    return who


def _roles_named(names: list[str], grantable: Grantable, *, place: str) -> tuple[str, ...]:
    for name in names:
        known = ", ".join(grantable.roles) or "none"
        _require_known(
            name, grantable.roles, "no role", place=place, next_step=f"the roles are {known}"
        )
    return _once_each(names, place=place)


def _default_role_of(name: str | None, roles: Sequence[str], *, place: str) -> str | None:
    if name is not None and name not in roles:
        raise ConfigError(
            place,
            f"is {shown(name)}, which the rule does not grant",
            f"its roles are {', '.join(roles) or 'none'}",
        )
    return name


def _policy_of(
    text: str | None, roles: Sequence[str], grantable: Grantable, *, place: str
) -> str | None:
    """Return the session policy that narrows every role of a rule."""
    if text is None:
        return None
    if not roles:
        raise ConfigError(place, "narrows no role", "name roles beside it, or leave it out")
    for name in roles:
        # STS takes one, and ours in place of the role's could allow more.
        if grantable.roles[name].role.policy is not None:
            raise ConfigError(
                place,
                f"stands beside {below('roles', name)}.policy, and STS takes one",
                "make a role of the same ARN without a policy, for this rule",
            )
    return text


def _tags_of(
    tags: tuple[tuple[str, str], ...], roles: Sequence[str], *, place: str
) -> tuple[tuple[str, str], ...]:
    """Return the session tags of a rule.

    Source: aws-api 3: with a web identity they can only come from claims in its token.
    """
    if tags and not roles:
        raise ConfigError(place, "mark no role", "name roles beside them, or leave them out")
    if tags:
        raise ConfigError(
            place,
            f"cannot be set: {below('roles', roles[0])} is assumed by web identity, with"
            " which STS takes none",
            "leave them out; policy narrows such a role",
        )
    return tags


def _tokens_named(keys: RuleTable, grantable: Grantable, *, place: str) -> frozenset[str]:
    for name in keys.namespace_tokens:
        _require_known(
            name,
            grantable.namespace_tokens,
            "no identity whose token is exported",
            place=place,
            next_step=f"add [{below('namespace_tokens', name)}] with file or http, or leave it out",
        )
    return frozenset(_once_each(keys.namespace_tokens, place=place))


def _audiences_named(keys: RuleTable, grantable: Grantable, *, place: str) -> frozenset[str]:
    for audience in keys.id_token_audiences:
        _require_known(
            audience,
            grantable.id_token_audiences,
            "no audience of id_tokens",
            place=place,
            next_step="add [id_tokens.NAME] with that audience, or leave it out",
        )
    return frozenset(_once_each(keys.id_token_audiences, place=place))


def _require_known(
    text: str, known: Iterable[str], what: str, *, place: str, next_step: str
) -> None:
    if text not in known:
        raise ConfigError(place, f"has {shown(text)}, which is {what}", next_step)


def _once_each(texts: Sequence[Any], *, place: str) -> tuple[str, ...]:
    for index, text in enumerate(texts):
        if text in texts[:index]:
            raise ConfigError(place, f"has {text} twice", "name each once")
    return tuple(texts)
