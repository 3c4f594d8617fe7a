"""What this host can tell of a caller beyond the connection: name, groups, program. Decides
nothing."""

from broker.access.caller import Caller
from broker.access.process import Process, Processes
from broker.access.users import People


class HostFacts:
    """The `Facts` of this host, for rules and for the audit."""

    def __init__(self, *, people: People, processes: Processes) -> None:
        self._people = people
        self._processes = processes

    def user_of(self, uid: int) -> str | None:
        person = self._people.person(uid)
        return None if person is None else person.name

    def groups_of(self, uid: int) -> frozenset[int] | None:
        person = self._people.person(uid)
        return None if person is None else person.gids

    def exe_of(self, caller: Caller) -> str | None:
        return self.process_behind(caller).exe

    def process_behind(self, caller: Caller) -> Process:
        """Return pid and executable, as far as the process can be read."""
        return self._processes.behind(caller)
