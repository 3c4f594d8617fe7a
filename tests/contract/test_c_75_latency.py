"""Answers come at once or not at all, over raw sockets. Source: sdk-client-contract C.11.

No time is asserted on its own: a busy machine is slow for everybody. What is asserted is that
nothing is waited for, and how our answers compare with the plainest server there can be.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median

from broker.access.rules import Rules
from broker.credentials import AwsCredentials
from broker.http.bind import bind, listen
from broker.http.connection import Connection
from broker.http.server import serving
from broker.keeper import Keeper
from broker.surfaces.container import Container
from broker.surfaces.imds import Imds
from tests.contract.conftest import Keepers
from tests.support.fakes import (
    FakeClock,
    Hangs,
    ScriptedSource,
    an_hour_of,
    running,
    some_credentials,
)
from tests.support.surfaces import SECRET, a_container, an_imds
from tests.support.wire import Reply, Served, Wire, served

PUT_TOKEN = (
    b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n"
    b"x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n"
)
FROM_CONTAINER = (
    b"GET /creds HTTP/1.1\r\nHost: 169.254.170.2\r\nAuthorization: " + SECRET.encode() + b"\r\n\r\n"
)
ROUNDS = 200
MARGIN = 20
"""How many times slower than an echo an answer may be. Measured: about 2 to 4."""


def imds_get(path: bytes, token: bytes) -> bytes:
    return (
        b"GET /latest/meta-data/iam/security-credentials/" + path + b" HTTP/1.1\r\n"
        b"Host: 169.254.169.254\r\nx-aws-ec2-metadata-token: " + token + b"\r\n\r\n"
    )


class Echo(asyncio.Protocol):
    """The plainest server: what came goes back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def median_s(ask: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - started)
    return median(times)


async def echo_s() -> float:
    """Return what one round trip takes here and now, in seconds."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

        async def round_trip() -> None:
            writer.write(PUT_TOKEN)
            await reader.readexactly(len(PUT_TOKEN))

        taken_s = await median_s(round_trip)
        writer.close()
        await writer.wait_closed()
    return taken_s


async def the_sdk_sequence(wire: Wire) -> tuple[Reply, Reply, Reply]:
    token = await wire.send(PUT_TOKEN)
    roles = await wire.send(imds_get(b"", token.body))
    return token, roles, await wire.send(imds_get(b"deploy", token.body))


async def test_c_75_a_whole_sequence_takes_a_few_round_trips_and_no_more(
    imds: Imds, clock: FakeClock
) -> None:
    async with served(imds, clock=clock) as place, place.wire() as wire:
        sequence_s = await median_s(lambda: the_sdk_sequence(wire))

    assert sequence_s < 3 * MARGIN * await echo_s()


async def test_c_75_an_answer_is_written_in_the_call_that_brings_the_request() -> None:
    ways_of_waiting = [
        name
        for name, member in inspect.getmembers(Connection, inspect.isfunction)
        if inspect.iscoroutinefunction(member)
    ]

    # Only where there is no lease yet, and an attempt to obtain it is under way.
    assert ways_of_waiting == ["_answer_later"]
    assert not inspect.iscoroutinefunction(Imds.answer)
    assert not inspect.iscoroutinefunction(Container.answer)


async def test_c_75_answers_come_while_others_are_stuck_halfway(
    imds: Imds, clock: FakeClock
) -> None:
    async with served(imds, clock=clock) as place, AsyncExitStack() as stuck:
        for _ in range(200):
            wire = await stuck.enter_async_context(place.wire())
            await wire.write(PUT_TOKEN[:-2])
        async with place.wire() as wire:
            token, roles, keys = await the_sdk_sequence(wire)

    assert (token.status, roles.status, keys.status) == (200, 200, 200)


async def test_c_76_with_every_upstream_hanging_all_answers_come_from_memory(
    rules: Rules, clock: FakeClock
) -> None:
    source = ScriptedSource(an_hour_of(some_credentials(), clock), Hangs())
    keeper = Keeper("role/deploy", source, clock=clock)
    keepers = {"deploy": keeper}

    async with running(keeper), served(an_imds(keepers, rules=rules), clock=clock) as place:
        await clock.advance(minutes=30, seconds=5)
        async with place.wire() as wire:
            token, roles, keys = await the_sdk_sequence(wire)

    assert source.fetches > 1  # all but the first hang
    assert (token.status, roles.body, keys.status) == (200, b"deploy", 200)
    assert some_credentials().access_key_id.encode() in keys.body


async def test_c_76_with_nothing_to_serve_and_upstream_hanging_the_no_comes_within_its_limit(
    rules: Rules, clock: FakeClock
) -> None:
    keeper = Keeper("role/deploy", ScriptedSource[AwsCredentials](Hangs()), clock=clock)
    keepers: Keepers = {"deploy": keeper}

    async with (
        running(keeper),
        served(an_imds(keepers, rules=rules), clock=clock) as metadata,
        served(a_container(keepers, rules=rules), clock=clock) as credentials,
    ):
        by_container = asyncio.create_task(credentials.ask(FROM_CONTAINER))
        async with metadata.wire() as wire:
            asking = asyncio.create_task(the_sdk_sequence(wire))
            for _ in range(9):
                await clock.advance(seconds=0.1)
            token, roles, keys = await asking

    assert (token.status, roles.status, keys.status) == (200, 404, 401)
    assert (await by_container).status == 404


async def test_c_77_the_container_endpoint_takes_a_round_trip_and_no_more(
    container: Container, clock: FakeClock
) -> None:
    async with served(container, clock=clock) as place, place.wire() as wire:
        assert (await wire.send(FROM_CONTAINER)).status == 200
        answer_s = await median_s(lambda: wire.send(FROM_CONTAINER))

    assert answer_s < MARGIN * await echo_s()


async def test_c_78_who_came_to_a_port_before_it_is_served_is_answered_when_it_is(
    imds: Imds, clock: FakeClock
) -> None:
    sock = bind("127.0.0.1", 0)
    listen(sock)
    place = Served("127.0.0.1", sock.getsockname()[1])

    async with place.wire() as early:
        await early.write(PUT_TOKEN)
        async with serving(imds, [sock], clock=clock):
            reply = await early.read()

    assert reply.status == 200


async def test_c_78_connections_queued_in_an_inherited_socket_are_answered_at_start(
    imds: Imds, clock: FakeClock
) -> None:
    """systemd listens before we start, and over our restarts."""
    sock = bind("127.0.0.1", 0)
    sock.listen()
    held = sock.dup()
    place = Served("127.0.0.1", sock.getsockname()[1])

    replies = []
    for inherited in (sock, held):
        async with place.wire() as early:
            await early.write(PUT_TOKEN)
            async with serving(imds, [inherited], clock=clock):
                replies.append(await early.read())

    assert [reply.status for reply in replies] == [200, 200]
