"""One log line for each thing that happens, in the words of the interface."""

import errno
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from broker.access.caller import Caller
from broker.http.message import Answer, Exchange, Request
from broker.keeper import Keeper
from broker.lease import Refused, Unavailable
from broker.surfaces.token_file import FileNotWritten, FileRecovered
from broker.telemetry.audit import Dropped, Failing, Restored
from broker.telemetry.events import Telemetry
from broker.telemetry.line_writer import MAX_WAITING
from broker.telemetry.log import LogOutput, logger
from broker.telemetry.metrics import Metrics
from tests.support.fakes import START, FakeClock, ScriptedSource, an_hour_of, running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def telemetry(clock: FakeClock, out: io.StringIO) -> Telemetry:
    log = logger(form="json", level="info", stream=out)
    return Telemetry(log=log, metrics=Metrics([], clock=clock), clock=clock)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


async def test_a_lease_tells_its_life_in_the_interfaces_words(
    clock: FakeClock, out: io.StringIO, telemetry: Telemetry
) -> None:
    source = ScriptedSource(
        an_hour_of("one", clock), an_hour_of("two", clock), Unavailable("sts is down")
    )
    keeper = Keeper("role/deploy", source, clock=clock, on_event=telemetry.on_event)

    async with running(keeper):
        await clock.advance(hours=2)
        source.then(Refused("trust withdrawn"))
        await clock.advance(minutes=2)

    told = lines(out)
    first = {line["event"]: line for line in reversed(told)}
    assert set(first) == {
        "lease.obtained",
        "lease.renewed",
        "lease.renewal_failed",
        "lease.expired",
        "lease.refused",
    }
    assert first["lease.renewal_failed"]["reason"] == "sts is down"
    assert first["lease.renewal_failed"]["retry_in_s"] <= 1
    assert first["lease.obtained"]["expires_in_s"] == 3600
    assert {"event", "level", "timestamp", "lease"} <= set(first["lease.refused"])


def test_what_a_client_sent_cannot_move_the_operators_cursor(out: io.StringIO) -> None:
    logger(form="console", level="info", stream=out).info("x.happened", reason="a\x1b[2Jb\r\nc")

    assert "\x1b[2J" not in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_a_want_of_descriptors_is_one_line_a_minute_and_no_traceback(
    clock: FakeClock, out: io.StringIO, telemetry: Telemetry
) -> None:
    trouble = {"exception": OSError(errno.EMFILE, "Too many open files"), "socket": object()}

    for _ in range(1000):
        telemetry.on_loop_trouble(None, trouble)
    clock.jump(seconds=61)
    telemetry.on_loop_trouble(None, trouble)

    told = lines(out)
    assert [line["event"] for line in told] == ["loop.trouble", "loop.trouble"]
    assert told[0]["reason"] == "Too many open files"


def test_a_log_that_nobody_takes_harms_nobody() -> None:
    with Path("/dev/full").open("w", buffering=1) as full_disk:
        log = logger(form="json", level="info", stream=full_disk)
        log.info("x.happened")
        log.info("x.happened", long="x" * 100_000)
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), full_disk.fileno())

    log.info("x.happened", after="it was closed")


def test_a_refused_caller_is_told_and_counted(out: io.StringIO, telemetry: Telemetry) -> None:
    answer = Answer(status=403, route="token", refusal="forwarded")
    caller = Caller(uid=1000, address="127.0.0.1")

    telemetry.on_exchange(
        Exchange(
            surface="imds",
            request=Request(method="PUT", path="/latest/api/token"),
            caller=caller,
            answer=answer,
            at=START,
            took_s=0.001,
        )
    )

    (line,) = lines(out)
    assert line["event"] == "caller.refused"
    assert (line["reason"], line["uid"], line["surface"]) == ("forwarded", 1000, "imds")
    assert b'callers_refused_total{reason="forwarded",surface="imds"} 1.0' in (
        telemetry.metrics.text()
    )


def test_a_host_that_is_not_ours_is_named_with_the_key_that_admits_it(
    out: io.StringIO, telemetry: Telemetry
) -> None:
    headers = (("host", "node-7.example:8171"),)

    telemetry.on_exchange(
        Exchange(
            surface="ops",
            request=Request(method="GET", path="/metrics", headers=headers),
            caller=Caller(address="10.0.0.9"),
            answer=Answer(status=403, refusal="host"),
            at=START,
            took_s=0.001,
        )
    )

    (line,) = lines(out)
    assert line["host"] == "node-7.example:8171"
    assert "[guard] allowed_hosts" in line["next_step"]


def test_an_ordinary_answer_writes_no_line(out: io.StringIO, telemetry: Telemetry) -> None:
    answer = Answer(status=200, route="token")

    telemetry.on_exchange(
        Exchange(
            surface="imds",
            request=Request(method="PUT", path="/latest/api/token"),
            caller=Caller(uid=0),
            answer=answer,
            at=START,
            took_s=0.001,
        )
    )

    assert lines(out) == []


def test_a_caller_that_is_refused_again_and_again_does_not_fill_the_disk(
    clock: FakeClock, out: io.StringIO, telemetry: Telemetry
) -> None:
    refused = Exchange(
        surface="imds",
        request=Request(method="GET", path="/"),
        caller=Caller(uid=1000),
        answer=Answer(status=401, refusal="token-bad"),
        at=START,
        took_s=0.001,
    )

    for _ in range(500):
        telemetry.on_exchange(refused)
    clock.jump(seconds=2)
    telemetry.on_exchange(refused)

    first, second = lines(out)
    assert "not_told_before" not in first
    assert second["not_told_before"] == 499


def test_refusals_of_many_users_do_not_fill_the_disk_either(
    clock: FakeClock, out: io.StringIO, telemetry: Telemetry
) -> None:
    for uid in range(1000):
        telemetry.on_exchange(
            Exchange(
                surface="imds",
                request=Request(method="GET", path="/"),
                caller=Caller(uid=uid),
                answer=Answer(status=401, refusal="token-bad"),
                at=START,
                took_s=0.001,
            )
        )
        last = lines(out)[-1]
    clock.jump(seconds=2)
    telemetry.on_exchange(
        Exchange(
            surface="imds",
            request=Request(method="GET", path="/"),
            caller=Caller(uid=1),
            answer=Answer(status=401, refusal="token-bad"),
            at=START,
            took_s=0.001,
        )
    )

    told = lines(out)
    assert len(told) == 22
    assert last["uid"] == 19
    assert (told[20]["reason"], told[20]["not_told_before"]) == ("several", 980)
    assert (told[21]["reason"], told[21]["uid"]) == ("token-bad", 1)
    assert b'callers_refused_total{reason="token-bad",surface="imds"} 1001.0' in (
        telemetry.metrics.text()
    )


def test_format_and_level_change_while_the_log_is_in_use(out: io.StringIO) -> None:
    output = LogOutput(form="json", level="info", stream=out)
    log = output.log

    log.debug("before.happened")
    output.change(form="console", level="debug")
    log.debug("now.happened")
    output.change(form="json", level="error")
    log.warning("after.happened")
    output.close()

    assert "before.happened" not in out.getvalue()
    assert "now.happened" in out.getvalue()
    assert not out.getvalue().startswith("{")
    assert "after.happened" not in out.getvalue()


async def test_what_was_counted_of_a_lease_goes_with_it(clock: FakeClock) -> None:
    keepers = [
        Keeper(name, ScriptedSource(an_hour_of("one", clock)), clock=clock)
        for name in ("role/stays", "role/goes")
    ]
    metrics = Metrics(keepers, clock=clock)
    telemetry = Telemetry(log=logger(form="json", level="error"), metrics=metrics, clock=clock)
    for keeper in keepers:
        keeper.on_event = telemetry.on_event
        async with running(keeper):
            pass

    metrics.follow(keepers[:1])

    text = metrics.text().decode()
    assert 'lease_renewals_total{lease="role/stays",outcome="renewed"} 1.0' in text
    assert 'lease_state{lease="role/stays",state="live"} 1.0' in text
    assert "role/goes" not in text


def test_an_audit_that_cannot_be_written_is_a_problem_until_it_can(
    out: io.StringIO, telemetry: Telemetry
) -> None:
    telemetry.on_audit(Failing("/var/log/audit.jsonl: No space left on device"))
    failing, problems = telemetry.metrics.text(), dict(telemetry.problems)
    telemetry.on_audit(Dropped(3))
    telemetry.on_audit(Restored())

    assert problems == {"audit": "/var/log/audit.jsonl: No space left on device"}
    assert telemetry.problems == {}
    assert b"\nnamespace_broker_audit_failing 1.0\n" in failing
    text = telemetry.metrics.text()
    assert b"\nnamespace_broker_audit_failing 0.0\n" in text
    assert b"\nnamespace_broker_audit_dropped_total 3.0\n" in text
    assert [line["event"] for line in lines(out)] == [
        "audit.failing",
        "audit.dropped",
        "audit.restored",
    ]


def test_a_token_file_that_cannot_be_written_is_a_problem_until_it_can(
    out: io.StringIO, telemetry: Telemetry
) -> None:
    file = Path("/run/nsc/token.json")

    telemetry.on_file(FileNotWritten(file=file, reason="no space", retry_in_s=1.0))
    problems = dict(telemetry.problems)
    telemetry.on_file(FileRecovered(file=file))
    telemetry.on_file(FileNotWritten(file=file, reason="we leave", retry_in_s=None))

    assert problems == {"/run/nsc/token.json": "no space"}
    assert telemetry.problems == {}
    assert [line["event"] for line in lines(out)] == [
        "file.not_written",
        "file.recovered",
        "file.not_written",
    ]


class TestLogWriter:
    def test_a_reader_that_is_stuck_delays_nobody_and_what_was_dropped_is_said(self) -> None:
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as stuck, os.fdopen(reading) as reader:
            output = LogOutput(form="json", level="info", stream=stuck)

            started = time.monotonic()
            for number in range(2 * MAX_WAITING):
                output.log.info("x.happened", number=number, padding="x" * 100)
            took_s = time.monotonic() - started
            dropped = output.log.dropped

            told = []
            for line in reader:
                told.append(json.loads(line))
                if told[-1]["event"] == "log.dropped":
                    break

        assert took_s < 2  # nobody reads, and nobody waits
        assert dropped > 0
        assert told[-1]["lines"] == dropped
        assert len(told) - 1 + dropped == 2 * MAX_WAITING

    def test_lines_that_a_full_disk_did_not_take_are_counted(self) -> None:
        with Path("/dev/full").open("w") as full_disk:
            output = LogOutput(form="json", level="info", stream=full_disk)
            for _ in range(3):
                output.log.info("x.happened")
            output.close()

        assert output.log.dropped == 3


class TestJournal:
    @pytest.fixture
    def journal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
        with (tmp_path / "journal").open("w+") as stream:
            found = os.fstat(stream.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
            yield stream

    def test_each_line_has_the_priority_of_its_level(self, journal: TextIO) -> None:
        log = logger(form="auto", level="debug", stream=journal)

        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)("x.happened")

        journal.seek(0)
        assert [line[:3] for line in journal] == ["<7>", "<6>", "<4>", "<3>"]

    def test_a_console_line_has_no_time_of_its_own(self, journal: TextIO) -> None:
        logger(form="console", level="info", stream=journal).error(
            "lease.refused", lease="role/deploy", reason="sts says no"
        )

        journal.seek(0)
        assert journal.read() == '<3>lease.refused lease=role/deploy reason="sts says no"\n'

    def test_elsewhere_there_is_no_prefix(self, out: io.StringIO) -> None:
        logger(form="json", level="info", stream=out).error("x.happened")

        assert out.getvalue().startswith('{"event": "x.happened", "level": "error", "timestamp":')
