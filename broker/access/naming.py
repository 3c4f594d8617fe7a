"""Whom an operator means, from what the operator wrote: names become numbers, by the user database
of this host. Decides nothing."""

import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from broker.access.caller import OVERFLOW_ID, PLAIN_TOKEN
from broker.access.cgroup_paths import UNIT_KINDS, is_unit_name
from broker.access.match import Account, Who

MOST_ID = 0xFFFFFFFE


class BadWho(Exception):
    """A ``who`` that cannot be meant: ``key`` is where (None: the whole), the text what and what
    to do next."""

    def __init__(self, key: str | None, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def who_of(written: Mapping[str, Any]) -> Who:
    """Return whom *written* means: keys of `Who`, absent ones None or left out, with values of
    the configuration file's types.

    Raises:
        BadWho: A name is unknown here, a value is not possible, or too little is said.
    """
    values = {}
    for key, value in written.items():
        if value is not None:
            try:
                values[key] = READINGS[key](value)
            except ValueError as error:
                raise BadWho(key, str(error)) from None
    who = Who(**values)
    _refuse_too_little(who)
    return who


def _refuse_too_little(who: Who) -> None:
    if not who.keys:
        raise BadWho(
            None, "says nothing; name somebody, or any_local = true for every user of this host"
        )
    if who.keys == ("exe",):
        raise BadWho(
            "exe", "admits nobody alone: a program is no identity; add user, unit or any_local"
        )
    if who.user_unit is not None and who.user is None and who.uid is None:
        raise BadWho("user_unit", "can be called so by any user; say whose it is with user or uid")


def _user(name: str) -> Account:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {name!r} here; create it or name another") from None
    return Account(name, _uid(uid))


def _uid(number: int) -> int:
    if not 0 <= number <= MOST_ID:
        raise ValueError(f"{number} is no uid; they go from 0 to {MOST_ID}")
    if number == OVERFLOW_ID:
        raise ValueError(
            f"uid {number} stands for users that cannot be told apart; run the program as another"
        )
    return number


def _group(name: str) -> Account:
    """By number, too: containers often have groups without names."""
    if re.fullmatch(r"[0-9]{1,9}", name):
        return Account(name, int(name))
    try:
        return Account(name, grp.getgrnam(name).gr_gid)
    except (KeyError, ValueError):
        raise ValueError(f"there is no group {name!r} here; create it or name another") from None


def _unit(name: str) -> str:
    if not is_unit_name(name):
        kinds = ", ".join(f".{kind}" for kind in UNIT_KINDS)
        raise ValueError(
            f"{name!r} is no unit that has processes; write it as systemctl does, with its ending "
            f"({kinds})"
        )
    return name


def _container(digits: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{12,64}", digits):
        raise ValueError(
            f"{digits!r} is no container id; write its first 12 digits or more, as docker ps has it"
        )
    return digits


def _exe(path: str) -> str:
    """What links lead to: the kernel knows a program by no other name."""
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is no absolute path; write one such as /usr/bin/{path}")
    return os.path.realpath(path)


def _cidr(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; write one such as 172.17.0.0/16") from None
    if network != _exactly(text):
        raise ValueError(f"{text} has bits beyond its length; did you mean {network}?")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} stands for IPv4 addresses; write them as such")
    return network


def _exactly(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _token(name: str) -> str:
    if name == PLAIN_TOKEN:
        raise ValueError(
            f"{name!r} admits but names nobody; name another, and it is made for its caller"
        )
    return name


def _any_local(value: bool) -> bool:
    if not value:
        raise ValueError("is true or left out; remove it")
    return value


READINGS: Mapping[str, Callable[[Any], Any]] = {
    "any_local": _any_local,
    "uid": _uid,
    "user": _user,
    "token": _token,
    "unit": _unit,
    "user_unit": _unit,
    "container": _container,
    "cidr": _cidr,
    "group": _group,
    "exe": _exe,
}
