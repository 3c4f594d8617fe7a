"""Section C.7: the lifetime of what is served, C-50 to C-54."""

import json
from datetime import UTC, datetime, timedelta

from broker.credentials import AwsCredentials
from broker.http.message import Answer
from broker.keeper import Keeper
from tests.support.fakes import (
    FakeClock,
    ScriptedSource,
    an_hour_of,
    lease_of,
    running,
    some_credentials,
)
from tests.support.sdk import get_container, v2, v2_text
from tests.support.surfaces import (
    ROLE_LIST,
    Holding,
    a_container,
    an_imds,
    container_get,
    lease_for,
    v2_get,
)
from tests.support.wire import wire_to

DEPLOY = ROLE_LIST + "deploy"


def end_of(answer: Answer) -> datetime:
    """Return when what was served says that it ends."""
    text = json.loads(answer.body)["Expiration"]
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def keeper_of(source: ScriptedSource[AwsCredentials], clock: FakeClock) -> Keeper[AwsCredentials]:
    return Keeper("role/deploy", source, clock=clock, jitter=lambda: 0.0)


async def test_c_50_what_is_served_has_25_minutes_left_at_any_time() -> None:
    clock = FakeClock()
    source = ScriptedSource(an_hour_of(some_credentials(), clock))
    async with running(keeper_of(source, clock)) as keeper:
        imds, container = an_imds({"deploy": keeper}), a_container({"deploy": keeper})
        for _ in range(180):
            await clock.advance(minutes=1)
            now = clock.now()
            by_imds = v2_get(imds, DEPLOY, now=now)
            by_container = container_get(container, "/creds", now=now)
            assert end_of(by_imds) - now > timedelta(minutes=25)
            assert end_of(by_container) - now > timedelta(minutes=25)


async def test_c_51_short_leases_are_served_by_the_container_endpoint_and_never_ended() -> None:
    clock = FakeClock()
    value = some_credentials()
    source = ScriptedSource(lambda: lease_of(value, clock, minutes=10))
    async with running(keeper_of(source, clock)) as keeper:
        container = a_container({"deploy": keeper})
        for _ in range(120):
            await clock.advance(seconds=15)
            answer = container_get(container, "/creds", now=clock.now())
            assert end_of(answer) - clock.now() >= timedelta(minutes=4)


async def test_c_52_an_ended_set_is_never_served() -> None:
    clock = FakeClock()
    keepers = {"deploy": Holding(lease_for())}
    async with (
        wire_to(an_imds(keepers), clock=clock) as imds,
        wire_to(a_container(keepers), clock=clock) as container,
    ):
        clock.jump(minutes=59, seconds=59)
        assert (await v2(imds, DEPLOY)).status == 200
        assert (await container.send(get_container("/creds"))).status == 200

        clock.jump(seconds=1)
        assert (await v2(imds, DEPLOY)).status == 401
        assert (await v2(imds, ROLE_LIST)).status == 404
        assert (await container.send(get_container("/creds"))).status == 404


async def test_c_53_the_stated_end_is_never_later_than_the_real_one() -> None:
    for life_s in (1.5, 59.999, 600, 3599.999, 43200):
        lease = lease_for(life=timedelta(seconds=life_s))
        keepers = {"deploy": Holding(lease)}
        assert lease.expires_at is not None
        for answer in (
            v2_get(an_imds(keepers), DEPLOY),
            container_get(a_container(keepers), "/creds"),
        ):
            late = lease.expires_at - end_of(answer)
            assert timedelta(0) <= late < timedelta(seconds=1)


async def test_c_54_reads_come_from_memory_alone() -> None:
    clock = FakeClock()
    source = ScriptedSource(an_hour_of(some_credentials(), clock))
    async with running(keeper_of(source, clock)) as keeper:
        async with wire_to(an_imds({"deploy": keeper}), clock=clock) as wire:
            for _ in range(200):
                assert await v2_text(wire, DEPLOY)
        async with wire_to(a_container({"deploy": keeper}), clock=clock) as wire:
            for _ in range(200):
                assert (await wire.send(get_container("/creds"))).status == 200

    assert source.fetches == 1
