"""One lease, kept fresh: through outages, refusals, jumped clocks and upstreams that hang."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from broker.keeper import (
    Event,
    Expired,
    Keeper,
    Obtained,
    RenewalFailed,
    RenewalRefused,
    Renewed,
)
from broker.lease import Lease, NotReady, Refused, Unavailable
from tests.support.fakes import (
    FakeClock,
    Hangs,
    ScriptedSource,
    an_hour_of,
    lease_of,
    running,
    settled,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class SlowSource:
    """Issues leases once *answering* is set."""

    def __init__(self, issue: Callable[[], Lease[str]], answering: asyncio.Event) -> None:
        self._issue = issue
        self._answering = answering
        self.fetches = 0

    async def fetch(self) -> Lease[str]:
        self.fetches += 1
        await self._answering.wait()
        return self._issue()


def no_jitter() -> float:
    return 0.0


async def test_a_lease_is_handed_out_as_soon_as_it_is_there(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("first", clock))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        assert keeper.current().value == "first"
        assert keeper.state() == "live"


async def test_an_hour_long_lease_is_renewed_with_half_an_hour_left(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("first", clock), an_hour_of("second", clock))

    async with running(Keeper("token", source, clock=clock, jitter=no_jitter)) as keeper:
        await clock.advance(minutes=29, seconds=59)
        assert keeper.current().value == "first"

        await clock.advance(seconds=2)
        assert keeper.current().value == "second"


async def test_a_lease_of_ten_seconds_is_renewed_at_five(clock: FakeClock) -> None:
    source = ScriptedSource(lambda: lease_of(source.fetches, clock, seconds=10))

    async with running(Keeper("token", source, clock=clock, jitter=no_jitter)) as keeper:
        await clock.advance(seconds=26)

        assert keeper.current().value == 6


async def test_an_outage_is_survived_on_the_old_lease_until_that_ends(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("first", clock), Unavailable("sts is down"))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(minutes=59)
        assert keeper.current().value == "first"
        assert keeper.state() == "unavailable"

        await clock.advance(minutes=2)
        assert keeper.state() == "expired"
        with pytest.raises(NotReady, match="sts is down"):
            keeper.current()


async def test_an_outage_is_asked_about_with_growing_pauses_up_to_a_minute_for_ever(
    clock: FakeClock,
) -> None:
    source = ScriptedSource[str](Unavailable("sts is down"))
    pauses: list[float] = []

    def told(event: Event) -> None:
        assert isinstance(event, RenewalFailed)
        pauses.append(event.retry_in_s)

    keeper = Keeper("token", source, clock=clock, on_event=told, jitter=no_jitter)
    async with running(keeper):
        await clock.advance(hours=1)

    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(pauses) > 60


async def test_the_end_of_an_outage_is_noticed_within_a_minute(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("first", clock), Unavailable("sts is down"))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(hours=3)
        source.then(an_hour_of("second", clock))
        await clock.advance(seconds=62)

        assert keeper.current().value == "second"
        assert keeper.state() == "live"


async def test_a_pause_that_upstream_asks_for_is_kept(clock: FakeClock) -> None:
    source = ScriptedSource[str](Unavailable("throttled", retry_after_s=20))

    async with running(Keeper("token", source, clock=clock)):
        await clock.advance(seconds=19)
        assert source.fetches == 1

        await clock.advance(seconds=3)
        assert source.fetches == 2


async def test_a_refusal_keeps_the_old_lease_served_until_its_end(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("first", clock), Refused("trust withdrawn"))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(minutes=50)
        assert keeper.state() == "refused"
        assert keeper.current().value == "first"

        await clock.advance(minutes=11)
        assert keeper.state() == "expired"
        with pytest.raises(NotReady, match="trust withdrawn"):
            keeper.current()


async def test_a_refusal_is_probed_slowly_from_half_a_minute_to_five(clock: FakeClock) -> None:
    source = ScriptedSource[str](Refused("no such role"))
    pauses: list[float] = []

    def told(event: Event) -> None:
        assert isinstance(event, RenewalRefused)
        pauses.append(event.retry_in_s)

    async with running(Keeper("token", source, clock=clock, on_event=told, jitter=no_jitter)):
        await clock.advance(hours=1)

    assert pauses[:6] == [30, 60, 120, 240, 300, 300]


async def test_a_refusal_is_probed_at_once_when_the_input_changed(clock: FakeClock) -> None:
    source = ScriptedSource(Refused("no such role"), an_hour_of("first", clock))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(seconds=5)
        keeper.renew_now()
        await settled()

        assert keeper.current().value == "first"


async def test_an_upstream_that_hangs_is_given_up_after_the_limit(clock: FakeClock) -> None:
    source = ScriptedSource(Hangs(), an_hour_of("first", clock))

    async with running(Keeper("token", source, clock=clock, attempt_limit_s=30)) as keeper:
        await clock.advance(seconds=29)
        assert keeper.status().error is None

        await clock.advance(seconds=1)
        assert keeper.status().error == "timeout"

        await clock.advance(seconds=2)
        assert keeper.current().value == "first"


async def test_the_same_lease_returned_again_does_not_make_the_loop_spin(clock: FakeClock) -> None:
    lease = lease_of("only", clock, hours=1)
    source = ScriptedSource(lease)

    async with running(Keeper("token", source, clock=clock)):
        await clock.advance(minutes=59, seconds=59)

        assert source.fetches < 50


async def test_many_wakes_are_at_most_one_fetch_a_second(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("token", clock))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        for _ in range(100):
            keeper.renew_now()
            await clock.advance(seconds=0.1)

        assert source.fetches <= 11


async def test_what_arrives_already_ended_counts_as_an_outage(clock: FakeClock) -> None:
    dead = Lease(
        value="dead",
        issued_at=clock.now() - timedelta(hours=2),
        expires_at=clock.now() - timedelta(hours=1),
    )
    source = ScriptedSource(an_hour_of("first", clock), dead)

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(minutes=40)

        assert keeper.current().value == "first"
        assert keeper.state() == "unavailable"


async def test_a_lease_without_end_is_kept_until_somebody_asks_for_another(
    clock: FakeClock,
) -> None:
    endless = Lease(value="revocable", issued_at=clock.now(), expires_at=None)
    source = ScriptedSource(endless, Lease(value="new", issued_at=clock.now(), expires_at=None))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(hours=100)
        assert (keeper.current().value, source.fetches) == ("revocable", 1)

        newer = await keeper.newer_than(endless)
        assert newer.value == "new"


async def test_a_wall_clock_that_leaps_past_the_renewal_is_noticed_within_a_minute(
    clock: FakeClock,
) -> None:
    source = ScriptedSource(an_hour_of("first", clock), an_hour_of("second", clock))
    told: list[type[Event]] = []

    keeper = Keeper("token", source, clock=clock, on_event=lambda event: told.append(type(event)))
    async with running(keeper):
        await clock.advance(seconds=10)
        clock.jump(hours=5)
        with pytest.raises(NotReady):
            keeper.current()

        await clock.advance(seconds=60)
        assert keeper.current().value == "second"
    assert told == [Obtained, Expired, Obtained]


async def test_everybody_who_asks_before_the_first_lease_shares_one_fetch(
    clock: FakeClock,
) -> None:
    source = ScriptedSource(an_hour_of("first", clock))
    keeper = Keeper("token", source, clock=clock)
    askers = [asyncio.create_task(keeper.fetch()) for _ in range(50)]
    await settled()

    async with running(keeper):
        leases = await asyncio.gather(*askers)

    assert {lease.value for lease in leases} == {"first"}
    assert source.fetches == 1


async def test_who_asks_during_an_outage_is_told_at_once_whose_it_is(clock: FakeClock) -> None:
    source = ScriptedSource[str](Unavailable("no answer", word="timeout"))

    async with running(Keeper("identity/default", source, clock=clock)) as keeper:
        with pytest.raises(Unavailable, match="identity/default: no answer") as raised:
            await keeper.fetch()

    assert raised.value.word == "timeout"


async def test_a_stale_lease_is_renewed_once_for_all_who_found_it_stale(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("stale", clock), an_hour_of("good", clock))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        stale = keeper.current()
        askers = [asyncio.create_task(keeper.newer_than(stale)) for _ in range(10)]
        await clock.advance(seconds=2)

        assert {(await asker).value for asker in askers} == {"good"}
        assert source.fetches == 2


async def test_a_stale_lease_that_comes_again_is_a_refusal(clock: FakeClock) -> None:
    lease = lease_of("stale", clock, hours=1)

    async with running(Keeper("identity/default", ScriptedSource(lease), clock=clock)) as keeper:
        asker = asyncio.create_task(keeper.newer_than(lease))
        await clock.advance(seconds=5)

        with pytest.raises(Refused, match="no newer one"):
            await asker


async def test_each_thing_that_happens_is_without_repeats(clock: FakeClock) -> None:
    source = ScriptedSource(
        an_hour_of("first", clock),
        an_hour_of("second", clock),
        Unavailable("sts is down"),
    )
    told: list[type[Event]] = []

    keeper = Keeper("token", source, clock=clock, on_event=lambda event: told.append(type(event)))
    async with running(keeper):
        await clock.advance(hours=2)
        source.then(an_hour_of("third", clock))
        await clock.advance(minutes=2)

    failures = [kind for kind in told if kind is RenewalFailed]
    rest = [kind for kind in told if kind is not RenewalFailed]
    assert rest == [Obtained, Renewed, Expired, Obtained]
    assert len(failures) > 10


async def test_a_bug_in_a_source_ends_the_keeper(clock: FakeClock) -> None:
    def broken() -> Lease[str]:
        raise ZeroDivisionError

    keeper = Keeper("token", ScriptedSource[str](broken), clock=clock)

    with pytest.raises(ZeroDivisionError):
        await keeper.run()


async def test_a_demo_may_renew_sooner_than_at_half_life(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("token", clock))

    async with running(Keeper("token", source, clock=clock, renew_within_s=20)):
        await clock.advance(seconds=101)

        assert 5 <= source.fetches <= 6


async def test_secrets_are_not_in_what_a_lease_shows_of_itself(clock: FakeClock) -> None:
    assert "hush" not in repr(lease_of("hush", clock, hours=1))


async def test_who_waits_for_a_change_is_woken_by_the_first_lease_and_by_each_renewal(
    clock: FakeClock,
) -> None:
    source = ScriptedSource(an_hour_of("first", clock), an_hour_of("second", clock))
    keeper = Keeper("token", source, clock=clock)
    first_waiter = asyncio.create_task(keeper.change(None, within_s=60))
    await settled()
    assert not first_waiter.done()

    async with running(keeper):
        assert first_waiter.done()

        second_waiter = asyncio.create_task(keeper.change(keeper.current(), within_s=3600))
        await clock.advance(minutes=20)
        assert not second_waiter.done()

        await clock.advance(minutes=10)
        assert second_waiter.done()
        assert keeper.current().value == "second"


async def test_a_change_is_waited_for_no_longer_than_was_asked_and_nothing_is_fetched_for_it(
    clock: FakeClock,
) -> None:
    source = ScriptedSource(an_hour_of("only", clock))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        waiter = asyncio.create_task(keeper.change(keeper.current(), within_s=60))
        await clock.advance(seconds=59)
        assert not waiter.done()

        await clock.advance(seconds=1)
        assert waiter.done()
        assert source.fetches == 1


async def test_a_lease_that_has_ended_is_no_change(clock: FakeClock) -> None:
    source = ScriptedSource(an_hour_of("only", clock), Unavailable("sts is down"))

    async with running(Keeper("token", source, clock=clock)) as keeper:
        await clock.advance(hours=2)
        waiter = asyncio.create_task(keeper.change(None, within_s=60))
        await settled()
        assert not waiter.done()

        await clock.advance(minutes=1)
        assert waiter.done()


async def test_a_wish_during_an_attempt_is_one_more_attempt_and_then_silence(
    clock: FakeClock,
) -> None:
    answering = asyncio.Event()
    source = SlowSource(an_hour_of("first", clock), answering)

    async with running(Keeper("token", source, clock=clock)) as keeper:
        keeper.renew_now()
        answering.set()
        await clock.advance(minutes=10)

        assert source.fetches == 2
        napping = asyncio.all_tasks()
        await settled()
        assert asyncio.all_tasks() == napping


async def test_a_cause_is_named_once_however_many_leases_depend_on_it(clock: FakeClock) -> None:
    source = ScriptedSource[str](Unavailable("Namespace is down"))
    identity = Keeper("identity/default", source, clock=clock)
    id_token = Keeper("id-token/x", identity, clock=clock)
    role = Keeper("role/deploy", id_token, clock=clock)

    async with running(identity), running(id_token), running(role):
        with pytest.raises(Unavailable) as raised:
            await role.fetch()

    assert str(raised.value) == "identity/default: Namespace is down"
