"""What the host knows of a caller, for the rules and for the audit."""

import os
import socket

from broker.access.caller import Caller
from broker.access.caller_lookup import HostFacts
from broker.access.process import Processes
from broker.access.users import User, UserDatabase

THIS = os.path.realpath(f"/proc/{os.getpid()}/exe")


def facts_of(person: User | None) -> HostFacts:
    return HostFacts(
        users=UserDatabase(lambda _: person, longest_wait_s=30.0), processes=Processes()
    )


def test_a_user_has_a_name_and_groups() -> None:
    facts = facts_of(User("ci", frozenset({1000, 27})))

    assert facts.user_of(1000) == "ci"
    assert facts.groups_of(Caller(uid=1000)) == frozenset({1000, 27})


def test_of_a_uid_without_a_user_neither_is_known() -> None:
    facts = facts_of(None)

    assert facts.user_of(1000) is None
    assert facts.groups_of(Caller(uid=1000)) is None


def test_this_process_is_known_by_its_program() -> None:
    facts = HostFacts(users=UserDatabase(), processes=Processes())

    with socket.socket() as sock:
        caller = Caller(uid=os.getuid(), inode=os.fstat(sock.fileno()).st_ino)
        program, process = facts.exe_of(caller), facts.process_of(caller)

    assert program == THIS
    assert process.pid == os.getpid()
