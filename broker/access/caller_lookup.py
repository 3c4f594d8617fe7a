"""Look up what this host knows of a caller: user name, groups, process, or the caller itself."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from broker.access.caller import Caller
from broker.access.peer import may_be_local
from broker.access.process import Process, Processes, caller_of_process
from broker.access.users import Known, SubordinateUids, UserDatabase


class HostFacts:
    """The `Facts` of this host, for rules and for the audit."""

    def __init__(self, *, users: UserDatabase, processes: Processes) -> None:
        self._users = users
        self._processes = processes

    def user_of(self, uid: int) -> str | None:
        user = self._users.user(uid)
        return None if user is None else user.name

    def is_user(self, caller: Caller) -> bool | None:
        """Return whether the caller's uid has a name; None while the database has not answered."""
        known = self._known(caller)
        return None if known is None else known.user is not None

    def groups_of(self, caller: Caller) -> frozenset[int] | None:
        known = self._known(caller)
        return None if known is None or known.user is None else known.user.gids

    def _known(self, caller: Caller) -> Known | None:
        if caller.uid is None:
            return None
        return self._users.known(caller.uid, billed_uid=caller.billed_uid)

    def exe_of(self, caller: Caller) -> str | None:
        return self.process_of(caller).exe

    def process_of(self, caller: Caller) -> Process:
        """Return pid and executable, as far as the process can be read."""
        return self._processes.process_of(caller)


class CallerLookup:
    """Find the caller that ``who`` asks about, and describe it."""

    def __init__(self, facts: HostFacts, *, subordinates: SubordinateUids | None = None) -> None:
        self._facts = facts
        self._subordinates = subordinates or SubordinateUids()

    def find(self, query: Mapping[str, str]) -> Caller:
        """Return the caller given by ``pid``, ``uid`` or ``addr``, as it would appear.

        Raises:
            LookupError: There is none such, or the query names no caller.
        """
        try:
            if "pid" in query:
                return self._delegated(caller_of_process(int(query["pid"])))
            if "uid" in query:
                return self._delegated(Caller(uid=int(query["uid"])))
            address = ip_address(query["addr"])
        except (KeyError, ValueError) as error:
            raise LookupError("name one pid, uid or addr") from error
        except ProcessLookupError as error:
            raise LookupError(str(error)) from error
        return Caller(address=str(address), is_remote=not may_be_local(address, 0))

    def _delegated(self, caller: Caller) -> Caller:
        return self._subordinates.applied_to(caller)

    def describe(self, caller: Caller) -> dict[str, Any]:
        """Return every known fact about *caller*; None is what is not known."""
        groups = self._facts.groups_of(caller)
        return {
            "uid": caller.uid,
            "user": None if caller.uid is None else self.user_of(caller.uid),
            "subordinate_to": list(caller.delegated_by) or None,
            "groups": None if groups is None else sorted(groups),
            "unit": caller.unit,
            "user_unit": caller.user_unit,
            "container": caller.container,
            "pid": caller.pid,
            "exe": self._facts.exe_of(caller),
            "address": caller.address,
            "elsewhere": caller.is_remote,
        }

    def user_of(self, uid: int) -> str | None:
        return self._facts.user_of(uid)
