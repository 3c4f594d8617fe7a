"""The process behind a connection, as far as it can be read."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.access.caller import Caller
from broker.access.cgroup import UNKNOWN_LOCATION, location_of_path
from broker.access.process import (
    KEPT_S,
    UNKNOWN_PROCESS,
    Process,
    Processes,
    RecentProcesses,
    all_pids,
    caller_of_process,
    exe_of,
    holder_of,
    location_of_process,
)
from broker.access.rate_limit import RateLimit

THIS = os.path.realpath(f"/proc/{os.getpid()}/exe")


@contextmanager
def sleeping(program: str | Path, *, pass_fds: tuple[int, ...] = ()) -> Iterator[int]:
    """Yield the pid of a process that runs *program* (as `cat`) until it is told to end."""
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=pass_fds
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.read(1)  # it runs, and no longer our own program
        yield process.pid


@pytest.fixture
def program() -> str:
    found = shutil.which("cat")
    assert found
    return os.path.realpath(found)


def inode_of(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_the_holder_of_a_socket_is_found() -> None:
    with socket.socket() as sock:
        found = holder_of(inode_of(sock), all_pids())

    assert found == Process(os.getpid(), THIS)


def test_a_socket_that_nobody_here_holds_has_no_holder() -> None:
    assert holder_of(1 << 60, [os.getpid()]) == UNKNOWN_PROCESS


def test_a_socket_of_two_programs_is_nobodys(program: str) -> None:
    with socket.socket() as sock, sleeping(program, pass_fds=(sock.fileno(),)) as pid:
        found = holder_of(inode_of(sock), [os.getpid(), pid])

    assert found == UNKNOWN_PROCESS


def test_a_socket_of_two_processes_of_one_program_has_no_pid(program: str) -> None:
    with (
        socket.socket() as sock,
        sleeping(program, pass_fds=(sock.fileno(),)) as one,
        sleeping(program, pass_fds=(sock.fileno(),)) as other,
    ):
        found = holder_of(inode_of(sock), [one, other])

    assert found == Process(None, program)


def test_a_program_that_was_replaced_is_not_known_by_its_old_name(
    program: str, tmp_path: Path
) -> None:
    copy = tmp_path / "program"
    shutil.copy(program, copy)

    with sleeping(copy) as pid:
        before = exe_of(pid)
        copy.unlink()
        removed = exe_of(pid)
        shutil.copy(program, copy)
        replaced = exe_of(pid)

    assert before == str(copy)
    assert (removed, replaced) == (None, None)


def test_a_process_that_is_not_there_has_no_program() -> None:
    assert exe_of(1 << 30) is None
    assert location_of_process(1 << 30) == UNKNOWN_LOCATION


def test_the_place_of_a_process_is_where_its_cgroup_is() -> None:
    listed = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line[3:] for line in listed if line.startswith("0::")), "")

    assert location_of_process(os.getpid()) in (location_of_path(path), UNKNOWN_LOCATION)


def test_a_process_is_explained_as_the_caller_that_it_would_be() -> None:
    caller = caller_of_process(os.getpid())

    assert (caller.uid, caller.gid, caller.pid) == (os.geteuid(), os.getegid(), os.getpid())


def test_one_that_is_not_there_cannot_be_explained() -> None:
    with pytest.raises(ProcessLookupError, match="there is no process 1073741824"):
        caller_of_process(1 << 30)


class Watch:
    """A monotonic clock that the test sets; each look at it takes a moment."""

    def __init__(self, *, tick_s: float = 0.0) -> None:
        self.at_s = 1000.0
        self.tick_s = tick_s

    def __call__(self) -> float:
        self.at_s += self.tick_s
        return self.at_s


class Members:
    """The processes of every cgroup: only this one. Counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _: int | None) -> list[int]:
        self.asked += 1
        return [os.getpid()]


def test_a_connection_is_looked_for_once_in_a_while() -> None:
    watch, members = Watch(), Members()
    processes = Processes(members_of=members, monotonic=watch)

    with socket.socket() as sock:
        caller = Caller(uid=os.getuid(), inode=inode_of(sock))
        found = {processes.process_of(caller) for _ in range(10)}
        watch.at_s += KEPT_S + 1
        found.add(processes.process_of(caller))

    assert found == {Process(os.getpid(), THIS)}
    assert members.asked == 2


def test_without_known_members_every_process_is_searched() -> None:
    with socket.socket() as sock:
        found = Processes().process_of(Caller(uid=os.getuid(), inode=inode_of(sock)))

    assert found.exe == THIS


def test_a_user_that_causes_too_many_searches_is_not_searched_for() -> None:
    watch, members = Watch(tick_s=1.0), Members()
    limit = RateLimit(burst_s=0.5, share=0.001, monotonic=watch)
    processes = Processes(members_of=members, limit=limit, monotonic=watch)

    for inode in range(5, 15):
        processes.process_of(Caller(uid=1000, inode=inode))

    assert members.asked == 1


def test_a_caller_of_the_control_socket_brings_its_pid() -> None:
    found = Processes().process_of(Caller(uid=os.getuid(), pid=os.getpid()))

    assert found == Process(os.getpid(), THIS)


@pytest.mark.parametrize(
    "caller", [Caller(inode=7), Caller(uid=1000), Caller(address="10.0.0.8", is_remote=True)]
)
def test_an_unknown_caller_is_not_searched_for(caller: Caller) -> None:
    members = Members()

    assert Processes(members_of=members).process_of(caller) == UNKNOWN_PROCESS
    assert members.asked == 0


def test_an_interpreter_is_what_a_script_runs() -> None:
    """Which is why a program is no identity."""
    command = [sys.executable, "-c", "import os; print(os.path.realpath('/proc/self/exe'))"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == THIS


class TestRecentProcesses:
    """Searches for the audit: rare, and never wrong."""

    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        left, right = socket.socketpair()
        with left, right:
            yield left, right

    def recent(self, now: list[float], searches: list[int | None]) -> RecentProcesses:
        def members_of(cgroup_id: int | None) -> list[int]:
            searches.append(cgroup_id)
            return [os.getpid()]

        processes = Processes(members_of=members_of, monotonic=lambda: now[0])
        return RecentProcesses(processes, monotonic=lambda: now[0])

    def caller(self, inode: int) -> Caller:
        return Caller(uid=os.getuid(), inode=inode, cgroup_id=7)

    def test_a_second_connection_of_a_process_needs_no_search(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        now, searches = [0.0], list[int | None]()
        recent = self.recent(now, searches)

        found = [
            recent.process_of(self.caller(os.fstat(end.fileno()).st_ino)) for end in (*pair, *pair)
        ]

        assert {process.pid for process in found} == {os.getpid()}
        assert searches == [7]

    def test_a_connection_that_is_gone_is_searched_for_once_a_second(self) -> None:
        now, searches = [0.0], list[int | None]()
        recent = self.recent(now, searches)

        for inode in range(1, 20):
            assert recent.process_of(self.caller(inode)).pid is None
        now[0] += 1
        recent.process_of(self.caller(20))

        assert searches == [7, 7]
