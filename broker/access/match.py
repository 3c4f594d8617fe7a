"""Whom a rule means: keys that must all hold for a caller. Pure; decides nothing by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Protocol

from broker.access.caller import PLAIN_TOKEN, Caller


@dataclass(frozen=True, slots=True)
class Account:
    """A user or group, by the name in the rule and the number in the database."""

    name: str
    number: int

    def __str__(self) -> str:
        return self.name


class Facts(Protocol):
    """What there is to be known about a caller beyond its connection, asked for when a rule needs
    it. None: it is not known."""

    def groups_of(self, uid: int) -> frozenset[int] | None: ...

    def exe_of(self, caller: Caller) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Some callers: those for whom every key that is set holds.

    ``any_local`` is every program whose uid is known; ``cidr`` is by address, and only for
    callers from elsewhere: who is on this host is told by uid, or not at all. ``exe`` narrows:
    whoever may run a program may make it do anything. ``container`` is the first 12 digits of an
    id or more.
    """

    any_local: bool = False
    uid: int | None = None
    user: Account | None = None
    token: str | None = None
    unit: str | None = None
    user_unit: str | None = None
    container: str | None = None
    cidr: IPv4Network | IPv6Network | None = None
    group: Account | None = None
    exe: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the keys that are set, cheapest first."""
        return tuple(name for name in KEYS if _is_set(getattr(self, name)))

    def means(self, caller: Caller, facts: Facts) -> bool | None:
        """Say whether *caller* is meant, asking no more of *facts* than that takes; None where
        nobody can tell, because a fact could not be established and all other keys hold. Without
        any key nobody is meant."""
        is_unknown = False
        for name in self.keys:
            key, wanted = KEYS[name], getattr(self, name)
            found = key.fact(caller, facts)
            if key.holds_for(wanted, found):
                continue
            if not key.is_unknown(caller, found):
                return False
            is_unknown = True
        if is_unknown:
            return None
        return bool(self.keys)

    def holds_for(self, caller: Caller, facts: Facts) -> bool:
        """Say whether *caller* is meant for certain."""
        return self.means(caller, facts) is True

    def missed_by(self, caller: Caller, facts: Facts) -> Iterator["Missed"]:
        """Yield each key that does not hold."""
        for name in self.keys:
            wanted, found = getattr(self, name), KEYS[name].fact(caller, facts)
            if not KEYS[name].holds_for(wanted, found):
                yield Missed(name, str(wanted), None if found is None else _shown(found))


@dataclass(frozen=True, slots=True)
class Missed:
    """A key that does not hold: what the rule wants and what was found, None if that is unknown."""

    key: str
    wanted: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """How a key is looked at: the caller's fact, and whether what is wanted holds for it."""

    fact: Callable[[Caller, Facts], object | None]
    compare: Callable[[Any, Any], bool]
    is_unknown: Callable[[Caller, object | None], bool] = lambda _, __: False
    """Whether the fact is there and could not be established, as against none being there."""

    def holds_for(self, wanted: object, found: object | None) -> bool:
        """What is not known never holds, whatever is wanted."""
        return found is not None and self.compare(wanted, found)


def _is_set(value: object) -> bool:
    # Not by truth, nor by equality: 0 is a uid.
    return value is not None and value is not False


def _equal(wanted: object, found: object) -> bool:
    return wanted == found


def _network_address(caller: Caller, _: Facts) -> object | None:
    if caller.uid is not None or not caller.elsewhere or caller.address is None:
        return None
    return ip_address(caller.address)


def _if_local(
    fact: Callable[[Caller, Facts], object | None],
) -> Callable[[Caller, Facts], object | None]:
    """Return the fact as one of a caller with a uid, and of no other."""
    return lambda caller, facts: None if caller.uid is None else fact(caller, facts)


def _groups(caller: Caller, facts: Facts) -> frozenset[int] | None:
    return None if caller.uid is None else facts.groups_of(caller.uid)


def _token(caller: Caller, _: Facts) -> str | None:
    return None if caller.token == PLAIN_TOKEN else caller.token


def _is_unplaced(caller: Caller, _: object | None) -> bool:
    return caller.uid is not None and not caller.is_placed


KEYS = {
    "any_local": Key(lambda caller, _: caller.uid, lambda _, __: True),
    "uid": Key(lambda caller, _: caller.uid, _equal),
    "user": Key(lambda caller, _: caller.uid, lambda wanted, uid: bool(wanted.number == uid)),
    "token": Key(_token, _equal),
    "unit": Key(_if_local(lambda caller, _: caller.unit), _equal, _is_unplaced),
    "user_unit": Key(_if_local(lambda caller, _: caller.user_unit), _equal, _is_unplaced),
    "container": Key(
        _if_local(lambda caller, _: caller.container),
        lambda wanted, container: bool(container.startswith(wanted)),
        _is_unplaced,
    ),
    "cidr": Key(_network_address, lambda wanted, address: address in wanted),
    "group": Key(
        _groups,
        lambda wanted, gids: wanted.number in gids,
        lambda caller, gids: caller.uid is not None and gids is None,
    ),
    "exe": Key(_if_local(lambda caller, facts: facts.exe_of(caller)), _equal),
}
"""Every key, in the order in which they are looked at: those that cost a look elsewhere last."""


def _shown(found: object) -> str:
    if isinstance(found, frozenset):
        return " ".join(str(each) for each in sorted(found)) or "none"
    return str(found)
