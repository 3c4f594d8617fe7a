"""A request before the first lease waits for it for a moment, and is not refused."""

import asyncio
import json
from collections.abc import Callable

import pytest

from broker.credentials import AwsCredentials
from broker.keeper import Keeper
from broker.lease import Lease, Unavailable
from broker.surfaces.documents import LeaseHolder
from tests.support.fakes import FakeClock, Hangs, ScriptedSource, lease_of, running, settled
from tests.support.fakes import some_credentials as credentials
from tests.support.surfaces import ALICE, SECRET, Holding, a_container, an_imds, session_token
from tests.support.wire import Reply, Served, served

CREDENTIALS = (
    f"GET /role/deploy HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {SECRET}\r\n\r\n"
).encode()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class SlowSource:
    """Issues a lease of an hour each time, once *answering* is set."""

    def __init__(self, clock: FakeClock) -> None:
        self.answering = asyncio.Event()
        self._clock = clock

    async def fetch(self) -> Lease[AwsCredentials]:
        await self.answering.wait()
        return lease_of(credentials(), self._clock, hours=1)


def hanging(clock: FakeClock) -> Keeper[AwsCredentials]:
    return Keeper("role/deploy", ScriptedSource[AwsCredentials](Hangs()), clock=clock)


async def asked(server: Served, request: bytes = CREDENTIALS) -> "asyncio.Task[Reply]":
    """Ask on a connection of its own, and return the answer that is still to come."""
    asking = asyncio.create_task(server.ask(request))
    for _ in range(5):  # through the kernel
        await settled()
    return asking


def keepers_with(keeper: Keeper[AwsCredentials]) -> dict[str, LeaseHolder[AwsCredentials]]:
    return {"deploy": keeper, "audit": Holding(), "vault": Holding()}


async def test_early_callers_get_the_lease_of_the_attempt_under_way(clock: FakeClock) -> None:
    source = SlowSource(clock)
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server:
            early = [await asked(server) for _ in range(3)]
            assert not any(each.done() for each in early)

            source.answering.set()
            replies = await asyncio.gather(*early)

    assert [reply.status for reply in replies] == [200] * 3
    assert json.loads(replies[0].body)["AccessKeyId"] == credentials().access_key_id


@pytest.mark.parametrize(
    ("surface", "limit_s", "status"), [("imds", 0.3, 401), ("container", 0.9, 404)]
)
async def test_they_are_told_that_there_is_nothing_before_their_sdk_gives_up(
    clock: FakeClock, surface: str, limit_s: float, status: int
) -> None:
    async with running(hanging(clock)) as keeper:
        keepers = keepers_with(keeper)
        imds = an_imds(keepers)
        token = session_token(imds, now=clock.now())
        by_imds = (
            "GET /latest/meta-data/iam/security-credentials/deploy HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"X-aws-ec2-metadata-token: {token}\r\n\r\n"
        ).encode()
        answering = imds if surface == "imds" else a_container(keepers)
        async with served(answering, clock=clock, caller=ALICE) as server:
            asking = await asked(server, by_imds if surface == "imds" else CREDENTIALS)
            await clock.advance(seconds=limit_s - 0.01)
            assert not asking.done()

            await clock.advance(seconds=0.02)
            assert (await asking).status == status


async def test_between_attempts_nobody_waits(clock: FakeClock) -> None:
    source = ScriptedSource[AwsCredentials](Unavailable("sts is down"))
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server:
            assert (await (await asked(server))).status == 404


async def test_a_failed_attempt_is_answered_at_once(clock: FakeClock) -> None:
    failing = asyncio.Event()

    class Failing:
        async def fetch(self) -> Lease[AwsCredentials]:
            await failing.wait()
            raise Unavailable("sts is down")

    async with running(Keeper("role/deploy", Failing(), clock=clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server:
            asking = await asked(server)
            failing.set()

            assert (await asking).status == 404


async def test_after_a_suspend_the_first_caller_has_the_lease_renewed_and_gets_it(
    clock: FakeClock,
) -> None:
    source = ScriptedSource(
        *[_an_hour_from(clock, serial) for serial in (1, 2)],
    )
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server:
            clock.jump(hours=5)
            await clock.advance(seconds=2)  # the floor between two fetches
            reply = await (await asked(server))

    assert json.loads(reply.body)["AccessKeyId"] == credentials(serial=2).access_key_id


def _an_hour_from(clock: FakeClock, serial: int) -> Callable[[], Lease[AwsCredentials]]:
    return lambda: lease_of(credentials(serial=serial), clock, hours=1)


async def test_what_follows_on_the_connection_is_answered_after_it_in_order(
    clock: FakeClock,
) -> None:
    source = SlowSource(clock)
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server, server.wire() as wire:
            await wire.write(CREDENTIALS + CREDENTIALS.replace(b"deploy", b"vault") + CREDENTIALS)
            await settled()
            source.answering.set()

            assert [(await wire.read()).status for _ in range(3)] == [200, 404, 200]


async def test_a_client_that_leaves_while_it_waits_harms_nobody(clock: FakeClock) -> None:
    source = SlowSource(clock)
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server:
            async with server.wire() as wire:
                await wire.write(CREDENTIALS)
                await settled()
            source.answering.set()

            assert (await (await asked(server))).status == 200


async def test_a_server_that_closes_ends_the_waiting(clock: FakeClock) -> None:
    async with running(hanging(clock)) as keeper:
        surface = a_container(keepers_with(keeper))
        async with served(surface, clock=clock) as server, server.wire() as wire:
            await wire.write(CREDENTIALS)
            await settled()
