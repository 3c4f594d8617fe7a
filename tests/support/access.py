"""Callers, matchers and rules of every kind, and known facts, for the tests of access."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from broker.access.caller import Caller
from broker.access.match import Account, Who
from broker.access.rules import FirstMatch, Rule

CONTAINER = "c0ffee" * 10 + "1234"
OTHER_CONTAINER = "c0ffee" * 10 + "9999"

ALICE = Caller(uid=1000, inode=7, unit="session-3.scope", address="127.0.0.1")
BOB = Caller(uid=1001, inode=8, unit="session-4.scope", address="127.0.0.1")
ROOT = Caller(uid=0, inode=9, unit="backup.service", address="127.0.0.1")
NEIGHBOUR = Caller(address="172.17.0.2", is_remote=True)
SUBORDINATE, SHARED = 165_536, 231_072
"""Uids that alice may take on, and that alice and bob both may."""

INNER = Caller(uid=SUBORDINATE, inode=10, delegated_by=(1000,), address="127.0.0.1")
"""A process of alice's in a user namespace of its own."""

ORPHAN = Caller(address="127.0.0.1")
"""On this host, and nobody can say who."""


@dataclass
class Known:
    """Facts as they stand here: names and groups by uid, programs by inode."""

    names: Mapping[int, bool] = field(default_factory=dict)
    groups: Mapping[int, frozenset[int]] = field(default_factory=dict)
    programs: Mapping[int | None, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def has_name(self, uid: int) -> bool:
        return self.names[uid]

    def is_user(self, caller: Caller) -> bool | None:
        self.asked.append("name")
        return self.names.get(caller.uid) if caller.uid is not None else None

    def groups_of(self, caller: Caller) -> frozenset[int] | None:
        self.asked.append("groups")
        return self.groups.get(caller.uid) if caller.uid is not None else None

    def exe_of(self, caller: Caller) -> str | None:
        self.asked.append("exe")
        return self.programs.get(caller.inode)


NAMES = {0: True, 1000: True, 1001: True, 1002: True, SUBORDINATE: False, SHARED: False}

KNOWN = Known(
    names=NAMES,
    groups={
        1000: frozenset({1000, 27}),
        1001: frozenset({1001}),
        1002: frozenset({1002}),
        0: frozenset({0}),
    },
    programs={7: "/usr/bin/aws", 8: "/usr/bin/terraform"},
)


def rules_of(*whos: Who, known: Known = KNOWN) -> FirstMatch:
    """Return one rule for each of *whos*, each granting a role of its own: `role-1`, `role-2`."""
    return FirstMatch(
        [
            Rule(number=number, who=who, roles=(f"role-{number}",))
            for number, who in enumerate(whos, 1)
        ],
        facts=known,
    )


UIDS = st.sampled_from([0, 1000, 1001, 1002])
UNITS = st.sampled_from(["ci.service", "session-3.scope"])
USER_UNITS = st.sampled_from(["backup.service", "app.scope"])
CONTAINERS = st.sampled_from([CONTAINER, OTHER_CONTAINER])
INODES = st.sampled_from([7, 8, 9])
ADDRESSES = st.sampled_from(["127.0.0.1", "172.17.0.2", "172.17.9.9", "fd00::2"])
TOKENS = st.sampled_from(["default", "ci", "web"])

KEYS: dict[str, st.SearchStrategy[Any]] = {
    "any_local": st.just(True),
    "uid": UIDS,
    "user": st.builds(Account, st.just("somebody"), UIDS),
    "group": st.builds(Account, st.just("some"), st.sampled_from([27, 1001])),
    "unit": UNITS,
    "user_unit": USER_UNITS,
    "container": st.sampled_from(["c0ffee" * 2, CONTAINER, OTHER_CONTAINER]),
    "cidr": st.sampled_from(
        [ip_network(each) for each in ("0.0.0.0/0", "127.0.0.0/8", "172.17.0.0/16", "fd00::/8")]
    ),
    "token": TOKENS,
    "exe": st.sampled_from(["/usr/bin/aws", "/usr/bin/terraform"]),
}
"""Every key of a who, with values that meet those of the callers here often."""

whos = st.fixed_dictionaries({}, optional=KEYS).filter(bool).map(lambda keys: Who(**keys))
several_whos = st.lists(whos, max_size=6)

local_callers = st.builds(
    Caller,
    uid=UIDS,
    inode=st.none() | INODES,
    unit=st.none() | UNITS,
    user_unit=st.none() | USER_UNITS,
    container=st.none() | CONTAINERS,
    address=st.none() | ADDRESSES,
    token=st.none() | TOKENS,
)
callers_without_uid = st.builds(
    Caller,
    address=st.none() | ADDRESSES,
    is_remote=st.booleans(),
    token=st.none() | TOKENS,
)


def _subordinate(caller: Caller, owners: tuple[int, ...]) -> Caller:
    return replace(caller, uid=SUBORDINATE if len(owners) == 1 else SHARED, delegated_by=owners)


subordinate_callers = st.builds(
    _subordinate, local_callers, st.sampled_from([(1000,), (1001,), (1000, 1001)])
)
callers = local_callers | callers_without_uid

FACTS = [each.name for each in fields(Caller) if each.name not in ("is_remote", "delegated_by")]


def forgetting(caller: Caller, fact: str) -> Caller:
    """Return *caller* with that fact unknown."""
    unknown: dict[str, Any] = {fact: None}
    return replace(caller, **unknown)
