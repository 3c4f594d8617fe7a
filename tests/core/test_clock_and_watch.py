"""Jumps of the wall clock, and files that change, are noticed."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.clock import ClockSkew, clock_steps
from broker.files.watch import watch
from tests.support.fakes import FakeClock, inline, settled


async def test_a_jump_of_more_than_a_minute_is_told_in_either_direction() -> None:
    clock = FakeClock()
    seen: list[timedelta] = []

    async def collect() -> None:
        async for jump in clock_steps(clock):
            if jump:
                seen.append(jump)

    task = asyncio.create_task(collect())
    await clock.advance(minutes=10)
    clock.jump(seconds=59)
    await clock.advance(minutes=1)
    clock.jump(hours=3)
    await clock.advance(seconds=6)
    clock.jump(hours=-1)
    await clock.advance(seconds=6)
    task.cancel()

    assert seen == [timedelta(hours=3), timedelta(hours=-1)]


async def test_a_file_that_appears_changes_or_goes_is_told_within_a_second(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    told: list[str] = []
    file = tmp_path / "token.json"

    task = asyncio.create_task(
        watch(lambda: [file], lambda: told.append("changed"), clock=clock, run=inline)
    )
    await settled()

    file.write_text("one")
    await clock.advance(seconds=1)
    assert len(told) == 1

    beside = tmp_path / "new"
    beside.write_text("two")
    beside.replace(file)
    await clock.advance(seconds=1)
    assert len(told) == 2

    await clock.advance(seconds=10)
    assert len(told) == 2

    file.unlink()
    await clock.advance(seconds=1)
    assert len(told) == 3
    task.cancel()


def test_a_skew_counts_from_30_seconds_and_is_reported_when_it_changes() -> None:
    reported: list[float] = []
    skew = ClockSkew(on_change=lambda ahead: reported.append(ahead.total_seconds()))

    for ahead_s in (0, 29, -29, 31.2, 33, 25, 60, 62, 95, 0, -7200, -7201):
        skew.observe(timedelta(seconds=ahead_s))

    assert reported == [31, 0, 60, 95, 0, -7200]
    assert skew.ahead == timedelta(hours=-2)


def test_an_instant_of_a_cloud_is_translated_to_this_hosts_clock_and_back() -> None:
    instant, skew = datetime(2026, 1, 1, tzinfo=UTC), ClockSkew()
    skew.observe(timedelta(hours=1))

    assert skew.to_local(instant) == instant + timedelta(hours=1)
    assert skew.to_cloud(skew.to_local(instant)) == instant
