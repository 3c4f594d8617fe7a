"""The audit log's lines; nobody waits for them."""

import asyncio
import errno
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.caller import Caller
from broker.http.message import Answer, Exchange, Issued, Request
from broker.telemetry.audit.lines import (
    KEYS,
    CallerDetails,
    Entry,
    Gap,
    entry_of,
    line_of,
    line_of_gap,
)
from broker.telemetry.audit.log import (
    AuditEvent,
    AuditLog,
    Dropped,
    Failing,
    Restored,
    Timing,
    auditing,
)
from broker.telemetry.audit.sinks import FileSink, JournalSink, Sink, StreamSink, sink_for
from tests.support.fakes import START, FakeClock

ALICE = Caller(
    uid=1000,
    gid=1000,
    pid=4711,
    unit="ci.service",
    container="c0ffee",
    address="127.0.0.1",
)
CREDENTIALS = Answer(
    status=200,
    body=b"secret",
    route="container",
    role="deploy",
    rule="rules[1]",
    caller_token="ci",
    issued=Issued(
        kind="aws", key_id_last4="WXYZ", expires_at=datetime(2030, 1, 2, 4, 4, 5, 999, tzinfo=UTC)
    ),
)
ENTRY = Entry(at=START, outcome="served", kind="aws", surface="imds", caller=ALICE)


def exchange(
    answer: Answer = CREDENTIALS, *, method: str = "GET", agent: str | None = "aws-sdk/1"
) -> Exchange:
    headers = () if agent is None else (("user-agent", agent),)
    return Exchange(
        surface="container",
        request=Request(method=method, path="/t/a-secret/creds", headers=headers),
        caller=ALICE,
        answer=answer,
        at=START,
        took_s=0.001,
    )


def written(exchange: Exchange, *, details: CallerDetails | None = None) -> dict[str, Any]:
    entry = entry_of(exchange)
    assert entry is not None
    line = line_of(entry, details=details) if details else line_of(entry)
    found: dict[str, Any] = json.loads(line)
    return found


# What a line says.


def test_a_credential_that_was_handed_out_is_this_line() -> None:
    line = written(exchange(), details=CallerDetails(user="alice", exe="/usr/bin/aws"))

    assert line == {
        "time": "2030-01-02T03:04:05.000Z",
        "outcome": "served",
        "kind": "aws",
        "surface": "container",
        "role": "deploy",
        "rule": "rules[1]",
        "uid": 1000,
        "gid": 1000,
        "user": "alice",
        "pid": 4711,
        "exe": "/usr/bin/aws",
        "unit": "ci.service",
        "user_unit": None,
        "container": "c0ffee",
        "caller_token": "ci",
        "address": "127.0.0.1",
        "user_agent": "aws-sdk/1",
        "key_id_last4": "WXYZ",
        "expires_at": "2030-01-02T04:04:05Z",
        "reason": None,
    }


def test_every_key_of_the_interface_is_there_and_in_order_whatever_is_known() -> None:
    bare = Entry(at=START, outcome="refused", kind="aws", surface="imds")

    assert tuple(json.loads(line_of(bare))) == KEYS
    assert tuple(json.loads(line_of(ENTRY))) == KEYS
    assert tuple(json.loads(line_of_gap(Gap(at=START, dropped=3)))) == (*KEYS, "dropped")


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("container", "aws"),
        ("credentials", "aws"),
        ("role-list", "aws"),
        ("token-spec", "namespace-token"),
        ("namespace-token", "namespace-token"),
        ("id-token", "id-token"),
    ],
)
def test_what_was_refused_is_told_by_what_was_asked_for(route: str, kind: str) -> None:
    line = written(exchange(Answer(status=404, route=route, refusal="not-granted")))

    assert (line["outcome"], line["kind"], line["reason"]) == ("refused", kind, "not-granted")
    assert (line["role"], line["key_id_last4"], line["expires_at"]) == (None, None, None)


@pytest.mark.parametrize(
    "told",
    [
        exchange(Answer(status=200, route="token")),
        exchange(Answer(status=200, route="metadata")),
        exchange(Answer(status=401, route="metadata", refusal="token-missing")),
        exchange(Answer(status=404, route="container", role="deploy")),
        exchange(Answer(status=0, route="none", refusal="connections")),
        exchange(method="HEAD"),
    ],
)
def test_where_nothing_is_handed_out_or_refused_there_is_no_line(told: Exchange) -> None:
    assert entry_of(told) is None


def test_no_secret_of_the_request_or_the_answer_is_in_it() -> None:
    assert "secret" not in json.dumps(written(exchange()))


@given(st.text(), st.text())
def test_a_line_is_one_line_of_ascii_whatever_the_values(agent: str, exe: str) -> None:
    line = line_of(ENTRY._replace(user_agent=agent), details=CallerDetails(exe=exe))

    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    assert json.loads(line)["user_agent"] == agent[:200]


@pytest.mark.parametrize("character", ["a", "\x1b", "é", "\udcff"])
def test_a_value_is_cut_at_200_characters(character: str) -> None:
    line = written(exchange(agent=character * 16_000))

    assert line["user_agent"] == character * 200


def test_more_than_four_characters_of_a_key_id_are_never_written() -> None:
    line = json.loads(line_of(ENTRY._replace(key_id_last4="ASIAEXAMPLEWXYZ")))

    assert line["key_id_last4"] == "WXYZ"


# That nobody waits for it.


class Paper:
    """A sink that takes lines, until it is told to fail or to hang."""

    max_lines = 1

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.failure: OSError | None = None
        self.lets_go = Event()
        self.lets_go.set()
        self.reopened = 0
        self.closed = False

    def write(self, line: bytes) -> None:
        assert self.lets_go.wait(30)
        if self.failure is not None:
            raise self.failure
        self.lines.append(json.loads(line))

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        self.closed = True


DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@asynccontextmanager
async def logging_to(
    sink: Sink,
    events: list[AuditEvent] | None = None,
    *,
    max_waiting: int = 1000,
    stuck_s: float = 5,
    flush_s: float = 10,
    fold_s: float = 3600,
    details_of: Callable[[Caller], CallerDetails] = lambda _: CallerDetails(),
) -> AsyncIterator[AuditLog]:
    async with auditing(
        sink,
        clock=FakeClock(),
        details_of=details_of,
        on_event=(events if events is not None else []).append,
        max_waiting=max_waiting,
        timing=Timing(retry_s=0.001, stuck_s=stuck_s, flush_s=flush_s, fold_s=fold_s, batch_s=0),
    ) as log:
        yield log


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


def numbered(count: int, *, first: int = 0) -> list[Exchange]:
    return [exchange(agent=str(number)) for number in range(first, first + count)]


def agents(lines: list[dict[str, Any]]) -> list[str | None]:
    return [line["user_agent"] for line in lines]


async def test_everything_is_written_in_order_before_it_is_left() -> None:
    paper = Paper()

    async with logging_to(paper) as log:
        for told in numbered(500):
            log.on_exchange(told)

    assert agents(paper.lines) == [str(number) for number in range(500)]
    assert paper.closed


async def test_an_answer_that_is_sent_again_has_a_line_with_its_own_time() -> None:
    paper = Paper()
    first = exchange()

    async with logging_to(paper) as log:
        for seconds in range(3):
            log.on_exchange(replace(first, at=START + timedelta(seconds=seconds)))

    times, rest = zip(*((line.pop("time"), line) for line in paper.lines), strict=True)
    assert [time[17:19] for time in times] == ["05", "06", "07"]
    assert rest[0] == rest[1] == rest[2]


async def test_what_is_known_of_the_program_is_looked_up_for_the_line() -> None:
    paper = Paper()

    async with logging_to(
        paper, details_of=lambda caller: CallerDetails(user=f"u{caller.uid}")
    ) as log:
        log.on_exchange(exchange())

    assert paper.lines[0]["user"] == "u1000"


async def test_a_look_up_that_fails_costs_what_it_would_have_said_and_not_the_line() -> None:
    paper = Paper()

    def broken(_: Caller) -> CallerDetails:
        raise RuntimeError("no database")

    async with logging_to(paper, details_of=broken) as log:
        log.on_exchange(exchange())

    assert (paper.lines[0]["uid"], paper.lines[0]["user"]) == (1000, None)


async def test_a_full_disk_delays_nobody_and_is_without_repeats_and_so_is_its_end() -> None:
    paper, events = Paper(), list[AuditEvent]()
    paper.failure = DISK_FULL

    async with logging_to(paper, events) as log:
        for told in numbered(3):
            log.on_exchange(told)
        await until(lambda: len(events) == 1)
        paper.failure = None
        await until(lambda: len(paper.lines) == 3)

    assert events == [Failing("No space left on device"), Restored()]
    assert agents(paper.lines) == ["0", "1", "2"]


async def test_what_does_not_fit_is_dropped_counted_and_told_and_a_line_stands_in_its_place() -> (
    None
):
    paper, events = Paper(), list[AuditEvent]()
    paper.failure = DISK_FULL

    async with logging_to(paper, events, max_waiting=10) as log:
        for told in numbered(25):
            log.on_exchange(told)
        dropped = log.dropped
        paper.failure = None
        await until(lambda: len(paper.lines) == 11)
        log.on_exchange(exchange(agent="after"))

    assert dropped == 15
    assert agents(paper.lines) == [*map(str, range(10)), None, "after"]
    assert (paper.lines[10]["dropped"], paper.lines[10]["reason"]) == (15, "audit-dropped")
    assert sum(event.entries for event in events if isinstance(event, Dropped)) == 15


async def test_the_line_about_what_is_missing_stands_where_it_is_missing() -> None:
    paper = Paper()
    paper.lets_go.clear()

    async with logging_to(paper, max_waiting=3) as log:
        for told in numbered(5):
            log.on_exchange(told)
        paper.lets_go.set()
        await until(lambda: len(paper.lines) == 4)
        paper.lets_go.clear()
        for told in numbered(2, first=5):
            log.on_exchange(told)
        paper.lets_go.set()

    assert agents(paper.lines) == ["0", "1", "2", None, "5", "6"]
    assert paper.lines[3]["dropped"] == 2


async def test_a_write_that_hangs_is_told_though_there_is_no_error() -> None:
    paper, events = Paper(), list[AuditEvent]()
    paper.lets_go.clear()

    async with logging_to(paper, events, stuck_s=0) as log:

        def told() -> bool:
            log.on_exchange(exchange())
            return bool(events)

        await until(told)
        paper.lets_go.set()

    assert events == [Failing("a write has not ended for 0 s"), Restored()]


async def test_leaving_does_not_wait_for_ever_and_says_what_is_lost() -> None:
    paper, events = Paper(), list[AuditEvent]()
    paper.lets_go.clear()

    async with logging_to(paper, events, flush_s=0.05) as log:
        for told in numbered(3):
            log.on_exchange(told)
    paper.lets_go.set()

    assert events == [Dropped(3)]
    assert log.dropped == 3


async def test_leaving_while_the_disk_is_full_does_not_wait_at_all() -> None:
    paper, events = Paper(), list[AuditEvent]()
    paper.failure = DISK_FULL

    async with logging_to(paper, events) as log:
        log.on_exchange(exchange())
        await until(lambda: len(events) == 1)

    assert events == [Failing("No space left on device"), Dropped(1)]
    assert paper.closed


# Refusals.

BOB = replace(ALICE, uid=1001, gid=1001)
REFUSED = Answer(status=404, route="container", refusal="not-granted")


def refused(count: int, *, caller: Caller = BOB) -> list[Exchange]:
    return [replace(each, answer=REFUSED, caller=caller) for each in numbered(count)]


async def test_refusals_of_one_caller_are_folded_after_the_first() -> None:
    paper = Paper()

    async with logging_to(paper, fold_s=0.05) as log:
        for told in refused(500):
            log.on_exchange(told)
        await until(lambda: len(paper.lines) == 2)

    first, rest = paper.lines
    assert (first["uid"], first["reason"], first["user_agent"]) == (1001, "not-granted", "0")
    assert tuple(first) == KEYS
    assert (rest["uid"], rest["folded"], rest["user_agent"]) == (1001, 499, "499")
    assert tuple(rest) == (*KEYS, "folded")


async def test_what_is_folded_at_the_end_is_written_too() -> None:
    paper = Paper()

    async with logging_to(paper) as log:
        for told in refused(5):
            log.on_exchange(told)

    assert [line.get("folded") for line in paper.lines] == [None, 4]


async def test_one_refusal_now_and_then_is_always_written_whole() -> None:
    paper = Paper()

    async with logging_to(paper, fold_s=0.001) as log:
        for number, told in enumerate(refused(3), start=1):
            log.on_exchange(told)
            await until(lambda number=number: len(paper.lines) == number)  # type: ignore[misc]
            await asyncio.sleep(0.02)

    assert [line.get("folded") for line in paper.lines] == [None, None, None]


async def test_grants_are_never_folded() -> None:
    paper = Paper()

    async with logging_to(paper) as log:
        for told in numbered(50):
            log.on_exchange(told)

    assert agents(paper.lines) == [str(number) for number in range(50)]


async def test_refusals_of_many_callers_share_a_line() -> None:
    paper = Paper()

    async with logging_to(paper) as log:
        for uid in range(1000):
            (told,) = refused(1, caller=replace(BOB, uid=uid))
            log.on_exchange(told)

    *whole, shared = paper.lines
    assert [line["uid"] for line in whole] == list(range(100))
    assert (shared["uid"], shared["user_agent"], shared["folded"]) == (None, None, 900)


async def test_refusals_never_crowd_out_what_was_served() -> None:
    paper, events = Paper(), list[AuditEvent]()
    paper.lets_go.clear()

    async with logging_to(paper, events, max_waiting=102) as log:
        for uid in range(90):
            log.on_exchange(*refused(1, caller=replace(BOB, uid=uid)))
        for told in numbered(50):
            log.on_exchange(told)
        paper.lets_go.set()

    served = [line for line in paper.lines if line["outcome"] == "served"]
    assert agents(served) == [str(number) for number in range(50)]
    assert sum(event.entries for event in events if isinstance(event, Dropped)) == 39


# A file.


async def test_a_file_is_made_for_us_alone_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    for _ in range(2):
        async with logging_to(FileSink(path)) as log:
            log.on_exchange(exchange())

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().splitlines()) == 2


async def test_after_a_rotation_the_new_file_is_written_to_when_told(tmp_path: Path) -> None:
    path, rotated = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"

    async with logging_to(FileSink(path)) as log:
        log.on_exchange(exchange(agent="before"))
        await until(lambda: path.stat().st_size > 0)
        path.rename(rotated)
        log.on_exchange(exchange(agent="between"))
        await until(lambda: rotated.read_text().count("\n") == 2)
        log.reopen()
        await until(path.exists)
        log.on_exchange(exchange(agent="after"))

    assert [json.loads(line)["user_agent"] for line in rotated.read_text().splitlines()] == [
        "before",
        "between",
    ]
    assert json.loads(path.read_text())["user_agent"] == "after"


async def test_a_new_file_that_cannot_be_opened_is_told_and_the_old_one_goes_on(
    tmp_path: Path,
) -> None:
    path, rotated = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    events: list[AuditEvent] = []

    async with logging_to(FileSink(path), events) as log:
        path.rename(rotated)
        path.mkdir()
        log.reopen()
        await until(lambda: len(events) == 1)
        log.on_exchange(exchange())

    assert events == [Failing(f"it goes on in the old file: {path}: Is a directory")]
    assert rotated.read_text().count("\n") == 1


def test_the_directory_is_made_when_it_is_missing(tmp_path: Path) -> None:
    FileSink(tmp_path / "a" / "audit.jsonl").close()

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_directory_that_everybody_may_change_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(ValueError, match=f"{tmp_path} is writable by everybody"):
        FileSink(tmp_path / "audit.jsonl")


def test_what_a_full_disk_took_is_not_written_again(tmp_path: Path) -> None:
    # Room for two lines and a half.
    program = """
import resource, signal, sys
from broker.telemetry.audit.sinks import FileSink, PartlyWritten
sink = FileSink(__import__("pathlib").Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lines = [b"one\\n", b"two\\n", b"three\\n", b"four\\n"]
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    sink.write(b"".join(lines))
except PartlyWritten as error:
    print(error.lines, error.filename)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
sink.write(b"".join(lines[2:]))
"""
    path = tmp_path / "audit.jsonl"

    shown = subprocess.run([sys.executable, "-c", program, path], capture_output=True, check=True)

    assert shown.stdout.decode() == f"2 {path}\n"
    assert path.read_bytes() == b"one\ntwo\nth\nthree\nfour\n"


async def test_a_burst_is_written_in_few_writes_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writes: list[int] = []

    class Counting(FileSink):
        def write(self, data: bytes) -> None:
            writes.append(data.count(b"\n"))
            super().write(data)

    async with logging_to(Counting(path)) as log:
        for told in numbered(1000):
            log.on_exchange(told)

    assert agents([json.loads(line) for line in path.read_text().splitlines()]) == [
        str(number) for number in range(1000)
    ]
    assert sum(writes) == 1000
    assert len(writes) < 1000


def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    sink.write(b"one\n")

    path.unlink()
    sink.write(b"two\n")
    sink.close()

    assert path.read_bytes() == b"two\n"


def test_a_line_that_a_killed_process_left_torn_does_not_tear_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"time": "20')
    path.chmod(0o640)

    sink = FileSink(path)
    sink.write(b"whole\n")
    sink.close()

    assert path.read_bytes() == b'{"time": "20\nwhole\n'


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def _writable_by_all(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


@pytest.mark.parametrize("made", [_directory, _pipe, _link, _writable_by_all])
def test_what_is_not_a_file_of_ours_is_refused(
    tmp_path: Path, made: Callable[[Path], None]
) -> None:
    path = tmp_path / "audit.jsonl"
    made(path)

    with pytest.raises((OSError, ValueError), match=r"audit\.jsonl"):
        sink_for(str(path))


# A stream.


def test_standard_output_that_is_closed_is_refused_as_its_number_may_be_a_clients() -> None:
    look = "from broker.telemetry.audit.sinks import sink_for; sink_for('stdout')"
    shell = f'exec "{sys.executable}" -c "{look}" >&-'

    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "standard output is closed" in done.stderr


@pytest.fixture
def pipe() -> Any:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def fill(writing: int) -> None:
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)


def read_all(reading: int) -> bytes:
    os.set_blocking(reading, False)
    read = b""
    try:
        while piece := os.read(reading, 65536):
            read += piece
    except BlockingIOError:
        pass
    return read


async def test_a_pipe_that_nobody_reads_delays_nobody(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    fill(writing)
    events: list[AuditEvent] = []

    async with logging_to(StreamSink(writing, timeout_s=0.001), events) as log:
        log.on_exchange(exchange())
        await until(lambda: len(events) == 1)
        read = read_all(reading)
        await until(lambda: len(events) == 2)

    assert events == [Failing("nobody reads it"), Restored()]
    line = (read + read_all(reading)).lstrip(b"x")
    assert json.loads(line)["outcome"] == "served"


def test_a_line_that_was_torn_is_written_again_on_a_line_of_its_own(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    sink = StreamSink(writing)
    line = b"y" * 100_000 + b"\n"
    with pytest.raises(BlockingIOError):
        sink.write(line)
    torn = read_all(reading)

    sink.write(b"whole\n")

    assert line.startswith(torn)
    assert read_all(reading) == b"\nwhole\n"


# The journal.


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "journal"))
        sock.setblocking(False)
        yield sock


async def test_the_journal_gets_each_line_as_a_message(journal: socket.socket) -> None:
    async with logging_to(JournalSink(journal.getsockname())) as log:
        log.on_exchange(exchange())

    head, _, message = journal.recv(65536).partition(b"MESSAGE=")
    assert head == b"PRIORITY=6\nSYSLOG_IDENTIFIER=namespace-broker\nNAMESPACE_BROKER_AUDIT=1\n"
    assert message.count(b"\n") == 1
    assert json.loads(message)["role"] == "deploy"


async def test_a_journal_that_is_stuck_delays_nobody(journal: socket.socket) -> None:
    events: list[AuditEvent] = []
    sink = JournalSink(journal.getsockname(), timeout_s=0.001)
    received = 0

    async with logging_to(sink, events) as log:
        for told in numbered(1000):
            log.on_exchange(told)
        await until(lambda: len(events) == 1)
        async with asyncio.timeout(10):
            while received < 1000:
                try:
                    journal.recv(65536)
                    received += 1
                except BlockingIOError:
                    await asyncio.sleep(0)

    assert events[0] == Failing("timed out")
    assert received == 1000


async def test_a_journal_that_is_not_there_yet_is_found_when_it_is(tmp_path: Path) -> None:
    events: list[AuditEvent] = []

    async with logging_to(JournalSink(str(tmp_path / "journal")), events) as log:
        log.on_exchange(exchange())
        await until(lambda: len(events) == 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "journal"))
            await until(lambda: len(events) == 2)

    assert events == [Failing("No such file or directory"), Restored()]
