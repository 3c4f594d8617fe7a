"""Match a caller against a rule's ``who``, and read a ``who`` from the configuration."""

import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

from broker.access.caller import OVERFLOW_ID, PLAIN_TOKEN, Caller
from broker.access.cgroup import UNIT_KINDS, is_unit_name
from broker.access.users import gid_of

CONTAINER_DIGITS = 12
"""The least number of digits of a container id in a rule, as docker ps shows."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user or group, by the name in the rule and the number in the database."""

    name: str
    number: int

    def __str__(self) -> str:
        return self.name


class Facts(Protocol):
    """Facts about a caller beyond its connection, looked up when a rule needs them.

    None means unknown.
    """

    def is_user(self, caller: Caller) -> bool | None: ...

    def groups_of(self, caller: Caller) -> frozenset[int] | None: ...

    def exe_of(self, caller: Caller) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """A rule's condition: it matches callers for whom every key that is set holds.

    ``any_local`` is every user with a name in the user database. A uid that is subordinate to one
    user counts as that user. ``cidr`` matches by address, and only remote
    callers: a caller on this host is identified by uid or not at all. ``exe`` only narrows, since
    whoever may run a program can make it do anything. ``container`` is the first 12 digits of an
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

    keys: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())
    """The names of the keys that are set, cheapest first; found once, since each request asks."""

    def __post_init__(self) -> None:
        keys = tuple(name for name in KEYS if _is_set(getattr(self, name)))
        object.__setattr__(self, "keys", keys)

    def matches(self, caller: Caller, facts: Facts) -> bool | None:
        """Return whether *caller* matches, looking up no more of *facts* than needed.

        None means undecided: a fact could not be established and all other keys hold. Without any
        key nobody matches.
        """
        is_unknown = False
        for name in self.keys:
            key = KEYS[name]
            found = key.fact(caller, facts)
            required = getattr(self, name)
            if key.holds_for(required, found):
                continue
            if not key.is_unknown(caller, found, required):
                return False
            is_unknown = True
        if is_unknown:
            return None
        return bool(self.keys)

    def holds_for(self, caller: Caller, facts: Facts) -> bool:
        """Return whether *caller* matches for certain."""
        return self.matches(caller, facts) is True

    def mismatches(self, caller: Caller, facts: Facts) -> Iterator["Mismatch"]:
        """Yield each key that does not hold."""
        for name in self.keys:
            required, found = getattr(self, name), KEYS[name].fact(caller, facts)
            if not KEYS[name].holds_for(required, found):
                yield Mismatch(name, str(required), None if found is None else _shown(found))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A key that does not hold: the required value and the one found, None if unknown."""

    key: str
    required: str
    found: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """How to evaluate one key: the caller's fact, and its comparison with the required value."""

    fact: Callable[[Caller, Facts], object | None]
    compare: Callable[[Any, Any], bool]
    is_unknown: Callable[[Caller, object | None, Any], bool] = lambda _, __, ___: False
    """Whether the fact exists and could not be established, rather than being absent."""

    def holds_for(self, required: object, found: object | None) -> bool:
        """Return whether the fact meets the rule; an unknown one never does."""
        return found is not None and self.compare(required, found)


def _is_set(value: object) -> bool:
    # Not by truth, nor by equality: 0 is a uid.
    return value is not None and value is not False


def _equal(required: object, found: object) -> bool:
    return required == found


def _network_address(caller: Caller, _: Facts) -> object | None:
    if caller.uid is not None or not caller.is_remote or caller.address is None:
        return None
    return ip_address(caller.address)


def _if_local(
    fact: Callable[[Caller, Facts], object | None],
) -> Callable[[Caller, Facts], object | None]:
    """Return the fact for callers with a uid, and None for all others."""
    return lambda caller, facts: None if caller.uid is None else fact(caller, facts)


def _groups(caller: Caller, facts: Facts) -> frozenset[int] | None:
    return None if caller.uid is None else facts.groups_of(caller)


def _is_user(caller: Caller, facts: Facts) -> bool | None:
    return None if caller.uid is None else facts.is_user(caller)


def _uids(caller: Caller, _: Facts) -> tuple[int, ...] | None:
    """Return the caller's uid and, if it is subordinate to one user, that user's."""
    if caller.uid is None:
        return None
    return (caller.uid, *caller.delegated_by) if len(caller.delegated_by) == 1 else (caller.uid,)


def _may_be_owner(caller: Caller, required: int) -> bool:
    """Return whether *required* is one of several users to whom the caller's uid is subordinate."""
    return len(caller.delegated_by) > 1 and required in caller.delegated_by


def _token(caller: Caller, _: Facts) -> str | None:
    return None if caller.token == PLAIN_TOKEN else caller.token


def _is_unlocated(caller: Caller, _: object | None, __: object) -> bool:
    return caller.uid is not None and not caller.is_located


KEYS = {
    "uid": Key(
        _uids,
        lambda required, uids: required in uids,
        lambda caller, _, required: _may_be_owner(caller, required),
    ),
    "user": Key(
        _uids,
        lambda account, uids: account.number in uids,
        lambda caller, _, account: _may_be_owner(caller, account.number),
    ),
    "token": Key(_token, _equal),
    "unit": Key(_if_local(lambda caller, _: caller.unit), _equal, _is_unlocated),
    "user_unit": Key(_if_local(lambda caller, _: caller.user_unit), _equal, _is_unlocated),
    "container": Key(
        _if_local(lambda caller, _: caller.container),
        lambda prefix, container: bool(container.startswith(prefix)),
        _is_unlocated,
    ),
    "cidr": Key(_network_address, lambda network, address: address in network),
    "group": Key(
        _groups,
        lambda account, gids: account.number in gids,
        lambda caller, gids, _: caller.uid is not None and gids is None,
    ),
    "any_local": Key(
        _is_user,
        lambda _, is_user: bool(is_user),
        lambda caller, is_user, _: caller.uid is not None and is_user is None,
    ),
    "exe": Key(_if_local(lambda caller, facts: facts.exe_of(caller)), _equal),
}
"""Every key, in order of evaluation: those that need a lookup last."""


def _shown(found: object) -> str:
    if isinstance(found, frozenset):
        return " ".join(str(each) for each in sorted(found)) or "none"
    if isinstance(found, tuple):
        return " of ".join(str(each) for each in found)
    return str(found)


MOST_ID = 0xFFFFFFFE


class InvalidWho(Exception):
    """A ``who`` that makes no sense; the text says why and what to do.

    ``key`` is the key at fault, None for the whole.
    """

    def __init__(self, key: str | None, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def who_of(config: Mapping[str, Any]) -> Who:
    """Return the condition that *config* describes.

    Its keys are those of `Who`, absent ones None or left out; its values have the types of the
    configuration file.

    Raises:
        InvalidWho: A name is unknown here, a value is impossible, or the keys are too few.
    """
    values = {}
    for key, value in config.items():
        if value is not None:
            try:
                values[key] = READERS[key](value)
            except ValueError as error:
                raise InvalidWho(key, str(error)) from None
    who = Who(**values)
    _check_keys_suffice(who)
    return who


def _check_keys_suffice(who: Who) -> None:
    if not who.keys:
        raise InvalidWho(
            None, "is empty; name somebody, or any_local = true for every user of this host"
        )
    if who.keys == ("exe",):
        raise InvalidWho(
            "exe", "cannot stand alone: a program is no identity; add user, unit or any_local"
        )
    if who.user_unit is not None and who.user is None and who.uid is None:
        raise InvalidWho("user_unit", "any user may choose that name; add user or uid")


def _read_user(name: str) -> Account:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {name!r} here; create it or name another") from None
    return Account(name, _read_uid(uid))


def _read_uid(number: int) -> int:
    if not 0 <= number <= MOST_ID:
        raise ValueError(f"{number} is not a uid; uids go from 0 to {MOST_ID}")
    if number == OVERFLOW_ID:
        raise ValueError(
            f"uid {number} stands for every user not mapped here; run the program as another"
        )
    return number


def _read_group(name: str) -> Account:
    return Account(name, gid_of(name))


def _read_unit(name: str) -> str:
    if not is_unit_name(name):
        kinds = ", ".join(f".{kind}" for kind in UNIT_KINDS)
        raise ValueError(
            f"{name!r} is not a unit with processes; write it as systemctl does, with its suffix "
            f"({kinds})"
        )
    return name


def _read_container(digits: str) -> str:
    if not re.fullmatch(rf"[0-9a-f]{{{CONTAINER_DIGITS},64}}", digits):
        raise ValueError(
            f"{digits!r} is not a container id; write 12 or more of its digits, as docker ps shows"
        )
    return digits


def _read_exe(path: str) -> str:
    """Resolve links: the kernel knows a program by its real path only."""
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path; write one such as /usr/bin/{path}")
    return os.path.realpath(path)


def _read_cidr(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write one such as 172.17.0.0/16") from None
    if network != _exactly(text):
        raise ValueError(f"{text!r} has host bits set; did you mean {network}?")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} stands for IPv4 addresses; write them as IPv4")
    return network


def _exactly(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _read_token(name: str) -> str:
    if name == PLAIN_TOKEN:
        raise ValueError(
            f"{name!r} admits but names nobody; use another name, and its token file is made"
        )
    return name


def _read_any_local(value: bool) -> bool:
    if not value:
        raise ValueError("false has no meaning; remove the key")
    return value


READERS: Mapping[str, Callable[[Any], Any]] = {
    "any_local": _read_any_local,
    "uid": _read_uid,
    "user": _read_user,
    "token": _read_token,
    "unit": _read_unit,
    "user_unit": _read_unit,
    "container": _read_container,
    "cidr": _read_cidr,
    "group": _read_group,
    "exe": _read_exe,
}
