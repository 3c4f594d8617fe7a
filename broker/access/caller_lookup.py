"""Callers as a person names them, and what a person is told of a caller. Decides nothing."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from broker.access.caller import Caller
from broker.access.facts import HostFacts
from broker.access.peer import may_be_ours
from broker.access.process import caller_of_process


class Subjects:
    """Whom ``who`` is about: a process, a user, or an address."""

    def __init__(self, facts: HostFacts) -> None:
        self._facts = facts

    def subject(self, asked: Mapping[str, str]) -> Caller:
        """Return the caller meant by ``pid``, ``uid`` or ``addr``, as it would show when it asks.

        Raises:
            LookupError: There is none such, or no one of them is named.
        """
        try:
            if "pid" in asked:
                return caller_of_process(int(asked["pid"]))
            if "uid" in asked:
                return Caller(uid=int(asked["uid"]))
            address = ip_address(asked["addr"])
        except (KeyError, ValueError) as error:
            raise LookupError("name one pid, uid or addr") from error
        except ProcessLookupError as error:
            raise LookupError(str(error)) from error
        return Caller(address=str(address), elsewhere=not may_be_ours(address, 0))

    def told(self, caller: Caller) -> dict[str, Any]:
        """Return every fact there is about *caller*; None is what is not known."""
        groups = None if caller.uid is None else self._facts.groups_of(caller.uid)
        return {
            "uid": caller.uid,
            "user": None if caller.uid is None else self.user_of(caller.uid),
            "groups": None if groups is None else sorted(groups),
            "unit": caller.unit,
            "user_unit": caller.user_unit,
            "container": caller.container,
            "pid": caller.pid,
            "exe": self._facts.exe_of(caller),
            "address": caller.address,
            "elsewhere": caller.elsewhere,
        }

    def user_of(self, uid: int) -> str | None:
        return self._facts.user_of(uid)
