"""Find the rules that may match a caller without looking at all of them."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.match import CONTAINER_DIGITS, Facts, Who

Key = tuple[str, Hashable]


class RuleIndex:
    """Positions of rules by the key that narrows each most.

    A rule is filed under one of its keys, which must hold, or be undecided, for the rule to match
    or be undecided. Rules by ``group`` come last, since a caller's groups must be looked up.
    """

    def __init__(self, whos: Sequence[Who]) -> None:
        positions: dict[Key, list[int]] = defaultdict(list)
        by_group: dict[int, list[int]] = defaultdict(list)
        self._located: list[int] = []  # rules by unit or container, for callers of unknown cgroup
        self._local: list[int] = []
        self._networks: dict[tuple[int, int], None] = {}
        for position, who in enumerate(whos):
            match _filed_under(who):
                case ("group", int(gid)):
                    by_group[gid].append(position)
                case ("any_local", _):
                    self._local.append(position)
                case ("cidr", (IPv4Network() | IPv6Network()) as network):
                    self._networks[network.version, network.prefixlen] = None
                    positions["cidr", network].append(position)
                case (name, value):
                    positions[name, value].append(position)
                    if name in ("unit", "container"):
                        self._located.append(position)
        self._positions = dict(positions)
        self._by_group = dict(by_group)
        self._groups = sorted(position for each in by_group.values() for position in each)

    def candidates(self, caller: Caller, facts: Facts) -> Iterator[int]:
        """Yield, in order, the position of each rule that may match *caller*.

        Groups are looked up only when a rule by group is reached.
        """
        exact = self._without_groups(caller)
        if not self._groups or caller.uid is None:
            yield from exact
            return
        before = bisect_left(exact, self._groups[0])
        yield from exact[:before]
        groups = facts.groups_of(caller)
        if groups is None:
            grouped = self._groups
        else:
            lists = (self._by_group.get(gid, ()) for gid in groups)
            grouped = [position for each in lists for position in each]
        yield from sorted([*exact[before:], *grouped])

    def _without_groups(self, caller: Caller) -> list[int]:
        found: list[int] = []
        for key in self._keys_of(caller):
            found += self._positions.get(key, ())
        if caller.uid is not None:
            found += self._local
            if not caller.is_located:
                found += self._located
        return sorted(set(found))

    def _keys_of(self, caller: Caller) -> Iterator[Key]:
        if caller.token not in (None, PLAIN_TOKEN):
            yield "token", caller.token
        if caller.uid is not None:
            for uid in (caller.uid, *caller.delegated_by):
                yield "uid", uid
            yield "unit", caller.unit
            yield "container", (caller.container or "")[:CONTAINER_DIGITS]
        elif caller.is_remote and caller.address is not None:
            address = ip_address(caller.address)
            for version, length in self._networks:
                if version == address.version:
                    yield "cidr", ip_network((address, length), strict=False)


def _filed_under(who: Who) -> Key:
    if who.user is not None:
        return "uid", who.user.number
    for name in ("uid", "token", "unit", "cidr"):
        if (value := getattr(who, name)) is not None:
            return name, value
    if who.container is not None:
        return "container", who.container[:CONTAINER_DIGITS]
    if who.group is not None:
        return "group", who.group.number
    # Whatever else a rule has holds for callers with a uid only, and one without keys for nobody.
    return "any_local", None
