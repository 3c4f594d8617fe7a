"""How long a session is requested for: as configured, an hour, or the longest there is."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.lease import Lease, Refused, Unavailable
from broker.sources.aws.assume_role import FixedDuration, LongestDuration
from broker.sources.aws.errors import DurationTooLong

HOUR_S = 3600


class RoleOf:
    """A role with a maximum; notes what it was asked."""

    def __init__(self, maximum_s: int) -> None:
        self.maximum_s = maximum_s
        self.asked: list[int] = []

    async def __call__(self, duration_s: int) -> Lease[int]:
        self.asked.append(duration_s)
        if duration_s > self.maximum_s:
            raise DurationTooLong("exceeds the MaxSessionDuration")
        return Lease(value=duration_s, issued_at=datetime.now(UTC), expires_at=None)


async def test_what_the_role_allows_is_asked_once_and_nobody_is_warned() -> None:
    role, told = RoleOf(7200), list[int]()

    lease = await FixedDuration(7200, on_too_long=told.append).apply(role)

    assert (lease.value, role.asked, told) == (7200, [7200], [])


async def test_too_much_falls_back_to_an_hour_with_one_warning_and_is_not_asked_again() -> None:
    role, told = RoleOf(HOUR_S), list[int]()
    wanted = FixedDuration(7200, on_too_long=told.append)

    leases = [await wanted.apply(role) for _ in range(3)]

    assert [lease.value for lease in leases] == [HOUR_S] * 3
    assert role.asked == [7200, HOUR_S, HOUR_S, HOUR_S]
    assert told == [7200]


async def test_an_hour_or_less_has_nothing_to_fall_back_to() -> None:
    role = RoleOf(600)

    with pytest.raises(DurationTooLong):
        await FixedDuration(HOUR_S, on_too_long=lambda _: None).apply(role)

    assert role.asked == [HOUR_S]


@given(some.integers(1, 14))
async def test_the_longest_whole_hours_are_found_in_few_calls_and_kept(maximum_h: int) -> None:
    role, longest = RoleOf(maximum_h * HOUR_S + 900), LongestDuration()

    first = await longest.apply(role)
    calls = len(role.asked)
    second = await longest.apply(role)

    assert first.value == second.value == min(maximum_h, 12) * HOUR_S
    assert calls <= 6
    assert len(role.asked) == calls + 1


async def test_a_role_that_allows_the_most_is_asked_once() -> None:
    role = RoleOf(43200)

    await LongestDuration().apply(role)

    assert role.asked == [43200]


async def test_the_longest_is_found_again_when_it_is_no_longer_allowed() -> None:
    role, longest = RoleOf(8 * HOUR_S), LongestDuration()
    await longest.apply(role)

    role.maximum_s = 2 * HOUR_S
    lease = await longest.apply(role)

    assert lease.value == 2 * HOUR_S


async def test_trouble_on_the_way_returns_what_is_had_and_goes_on_next_time() -> None:
    role, longest = RoleOf(8 * HOUR_S), LongestDuration()

    async def troubled(duration_s: int) -> Lease[int]:
        if len(role.asked) == 2:
            raise Unavailable("sts is down")
        return await role(duration_s)

    lease = await longest.apply(troubled)
    role.asked.clear()
    later = await longest.apply(role)

    assert (lease.value, later.value) == (6 * HOUR_S, 8 * HOUR_S)
    assert 43200 not in role.asked


async def test_trouble_before_anything_is_had_is_told() -> None:
    async def down(_: int) -> Lease[int]:
        raise Unavailable("sts is down")

    with pytest.raises(Unavailable):
        await LongestDuration().apply(down)


async def test_another_refusal_is_no_question_of_duration() -> None:
    async def denied(_: int) -> Lease[int]:
        raise Refused("no")

    for duration in (LongestDuration(), FixedDuration(7200, on_too_long=lambda _: None)):
        with pytest.raises(Refused, match="no"):
            await duration.apply(denied)
