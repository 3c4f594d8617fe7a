"""A caller and the rules give what the caller may have. Pure."""

from collections.abc import Iterable
from typing import Protocol

from broker.access.caller import NOTHING, Caller, Grant


class Rules(Protocol):
    """Decides once per caller, whatever surface the caller comes by."""

    def grant_for(self, caller: Caller) -> Grant: ...


class OwnerOnly:
    """The floor, where no rules are configured: root, the uid that runs the broker, and whoever
    holds the container token. What the kernel could not tell is nobody."""

    def __init__(self, *, owner_uid: int, roles: Iterable[str], default_role: str | None) -> None:
        self._owners = {0, owner_uid}
        self._everything = Grant(roles=frozenset(roles), default_role=default_role, rule="owner")

    def grant_for(self, caller: Caller) -> Grant:
        if caller.uid in self._owners or caller.token is not None:
            return self._everything
        return NOTHING
