"""Listening, as AWS clients need it, over raw sockets. Source: sdk-client-contract C.1."""

from contextlib import AsyncExitStack
from datetime import datetime

import pytest

from broker.access.caller import Caller
from broker.http.bind import bind
from broker.http.message import Answer, Request, Surface
from broker.http.server import serving
from broker.surfaces.container import Container
from broker.surfaces.imds import Imds
from tests.support.fakes import FakeClock
from tests.support.surfaces import SECRET
from tests.support.wire import Served, served, wire_to

PUT_TOKEN = b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n"
TTL = b"x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"
LIST = b"/latest/meta-data/iam/security-credentials/"


def get(target: bytes, token: bytes, *, host: bytes = b"169.254.169.254") -> bytes:
    return (
        b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n"
        b"x-aws-ec2-metadata-token: " + token + b"\r\n\r\n"
    )


async def session_token(place: Served) -> bytes:
    reply = await place.ask(PUT_TOKEN + TTL + b"\r\n")
    assert reply.status == 200
    return reply.body


class Broken:
    """A surface whose every answer is a bug."""

    def __init__(self, surface: Surface) -> None:
        self.name = surface.name
        self.nothing_to_serve = surface.nothing_to_serve
        self.bad_request = surface.bad_request
        self.head_too_long = surface.head_too_long

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        raise RuntimeError(f"a bug, met at {request.path}")


async def test_c_01_one_surface_is_served_on_several_addresses_and_ports(
    imds: Imds, clock: FakeClock
) -> None:
    first, second = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    ports = [sock.getsockname()[1] for sock in (first, second)]

    async with serving(imds, [first, second], clock=clock):
        bodies = []
        for port in ports:
            place = Served("127.0.0.1", port)
            bodies.append((await place.ask(get(LIST, await session_token(place)))).body)

    assert bodies == [b"deploy", b"deploy"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_c_02_both_surfaces_are_offered_on_ipv4_and_ipv6(
    imds: Imds, container: Container, clock: FakeClock, host: str
) -> None:
    async with (
        served(imds, clock=clock, host=host) as metadata,
        served(container, clock=clock, host=host) as credentials,
    ):
        role = await metadata.ask(get(LIST, await session_token(metadata)))
        keys = await credentials.ask(
            b"GET /creds HTTP/1.1\r\nHost: 169.254.170.2\r\n"
            b"Authorization: " + SECRET.encode() + b"\r\n\r\n"
        )

    assert (role.status, role.body) == (200, b"deploy")
    assert keys.status == 200


async def test_c_03_connections_are_accepted_while_others_say_nothing(
    imds: Imds, clock: FakeClock
) -> None:
    async with served(imds, clock=clock) as place, AsyncExitStack() as silent:
        for _ in range(100):
            wire = await silent.enter_async_context(place.wire())
            await wire.write(b"GET /latest")

        reply = await place.ask(PUT_TOKEN + TTL + b"\r\n")

    assert reply.status == 200


async def test_c_04_a_connection_is_kept_for_many_requests(imds: Imds, clock: FakeClock) -> None:
    async with wire_to(imds, clock=clock) as wire:
        token = (await wire.send(PUT_TOKEN + TTL + b"\r\n")).body
        replies = [await wire.send(get(LIST, token)) for _ in range(5)]

    assert [reply.body for reply in replies] == [b"deploy"] * 5
    assert all(reply.header("connection") is None for reply in replies)
    assert all(reply.version == "HTTP/1.1" for reply in replies)


async def test_c_04_connection_close_is_honoured(imds: Imds, clock: FakeClock) -> None:
    async with wire_to(imds, clock=clock) as wire:
        reply = await wire.send(PUT_TOKEN + TTL + b"Connection: close\r\n\r\n")
        rest = await wire.ended()

    assert reply.status == 200
    assert reply.header("connection") == "close"
    assert rest == b""


async def test_c_04_http_1_0_is_answered_and_closed(imds: Imds, clock: FakeClock) -> None:
    async with wire_to(imds, clock=clock) as wire:
        reply = await wire.send(PUT_TOKEN.replace(b"HTTP/1.1", b"HTTP/1.0") + TTL + b"\r\n")
        rest = await wire.ended()

    assert (reply.status, reply.version) == (200, "HTTP/1.0")
    assert rest == b""


async def test_c_04_http_1_0_with_keep_alive_is_kept(imds: Imds, clock: FakeClock) -> None:
    asking = PUT_TOKEN.replace(b"HTTP/1.1", b"HTTP/1.0") + TTL + b"Connection: keep-alive\r\n\r\n"

    async with wire_to(imds, clock=clock) as wire:
        first = await wire.send(asking)
        second = await wire.send(asking)

    assert first.header("connection") == "keep-alive"
    assert second.status == 200


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(b"", id="crt, java, c++ and rust"),
        pytest.param(b"Content-Length: 0\r\n", id="botocore"),
        pytest.param(
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n", id="ruby"
        ),
    ],
)
async def test_c_05_a_put_without_body_is_answered_with_and_without_length(
    imds: Imds, clock: FakeClock, extra: bytes
) -> None:
    async with wire_to(imds, clock=clock) as wire:
        reply = await wire.send(PUT_TOKEN + TTL + extra + b"\r\n")
        again = await wire.send(PUT_TOKEN + TTL + extra + b"\r\n")

    assert (reply.status, len(reply.body)) == (200, 56)
    assert again.status == 200


async def test_c_05_an_empty_chunked_put_that_expects_to_be_told_is_read_to_its_end(
    imds: Imds, clock: FakeClock
) -> None:
    async with wire_to(imds, clock=clock) as wire:
        await wire.write(
            PUT_TOKEN + TTL + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        interim = await wire.read()
        reply = await wire.send(b"0\r\n\r\n")
        after = await wire.send(get(LIST, reply.body))

    assert (interim.status, interim.headers) == (100, [])
    assert (reply.status, len(reply.body)) == (200, 56)
    assert (after.status, after.body) == (200, b"deploy")


async def test_c_05_an_empty_chunked_put_that_comes_in_one_piece_needs_no_interim_answer(
    imds: Imds, clock: FakeClock
) -> None:
    async with wire_to(imds, clock=clock) as wire:
        reply = await wire.send(
            PUT_TOKEN + TTL + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n"
        )
        after = await wire.send(get(LIST, reply.body))

    assert (reply.status, after.body) == (200, b"deploy")


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:8169",
        b"169.254.169.254:80",
        b"fd00:ec2::254",
        b"[fd00:ec2::254]",
        b"[fd00:ec2::254]:80",
        b"[::1]:8169",
        b"localhost:8169",
    ],
)
async def test_c_06_every_form_of_host_that_clients_send_is_taken(
    imds: Imds, clock: FakeClock, host: bytes
) -> None:
    async with served(imds, clock=clock) as place:
        reply = await place.ask(get(LIST, await session_token(place), host=host))

    assert (reply.status, reply.body) == (200, b"deploy")


async def test_c_06_the_case_of_header_names_does_not_matter(imds: Imds, clock: FakeClock) -> None:
    async with wire_to(imds, clock=clock) as wire:
        token = (
            await wire.send(
                b"PUT /latest/api/token HTTP/1.1\r\nhOST: 169.254.169.254\r\n"
                b"X-AWS-EC2-METADATA-TOKEN-TTL-SECONDS: 60\r\n\r\n"
            )
        ).body
        reply = await wire.send(
            b"GET " + LIST + b" HTTP/1.1\r\nHOST: 169.254.169.254\r\n"
            b"X-aws-EC2-Metadata-Token: " + token + b"\r\n\r\n"
        )

    assert reply.body == b"deploy"


async def test_c_07_an_unbracketed_ipv6_host_is_no_error_even_when_the_answer_is_one(
    imds: Imds, clock: FakeClock
) -> None:
    async with served(imds, clock=clock) as place:
        token = await session_token(place)
        missing = await place.ask(get(b"/latest/none", token, host=b"fd00:ec2::254"))
        refused = await place.ask(get(LIST, b"not-a-token", host=b"fd00:ec2::254"))

    assert (missing.status, refused.status) == (404, 401)


async def test_c_08_a_request_line_with_the_whole_url_is_understood(
    imds: Imds, clock: FakeClock
) -> None:
    async with served(imds, clock=clock) as place:
        token = await session_token(place)
        reply = await place.ask(get(b"http://169.254.169.254" + LIST, token))
        root = await place.ask(get(b"http://169.254.169.254", token))

    assert (reply.status, reply.body) == (200, b"deploy")
    assert root.status == 200


async def test_c_09_paths_reach_the_surface_as_they_were_sent(imds: Imds, clock: FakeClock) -> None:
    async with served(imds, clock=clock) as place:
        token = await session_token(place)
        reply = await place.ask(get(b"//latest/meta-data//iam/security-credentials", token))

    assert (reply.status, reply.body) == (200, b"deploy")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (PUT_TOKEN + TTL + b"\r\n", 200),
        (PUT_TOKEN + b"\r\n", 400),
        (get(LIST, b"bad"), 401),
        (PUT_TOKEN + TTL + b"X-Forwarded-For: 192.0.2.1\r\n\r\n", 403),
        (b"DELETE / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 405),
        (b"this is no HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
    ],
)
async def test_c_10_every_answer_names_the_server_ec2ws(
    imds: Imds, clock: FakeClock, request_bytes: bytes, status: int
) -> None:
    async with wire_to(imds, clock=clock) as wire:
        reply = await wire.send(request_bytes)

    assert reply.status == status
    assert reply.all("server") == ["EC2ws"]


async def test_c_10_a_failure_of_ours_names_the_server_ec2ws_too(
    imds: Imds, clock: FakeClock
) -> None:
    bugs: list[BaseException] = []

    async with wire_to(Broken(imds), clock=clock, on_error=bugs.append) as wire:
        reply = await wire.send(PUT_TOKEN + TTL + b"\r\n")

    assert reply.all("server") == ["EC2ws"]


async def test_c_11_a_failure_of_ours_ends_as_nothing_to_serve(
    imds: Imds, container: Container, clock: FakeClock
) -> None:
    bugs: list[BaseException] = []
    asking = get(LIST + b"deploy", b"any")

    async with (
        served(Broken(imds), clock=clock, on_error=bugs.append) as metadata,
        served(Broken(container), clock=clock, on_error=bugs.append) as credentials,
    ):
        by_imds = await metadata.ask(asking)
        by_container = await credentials.ask(asking)

    assert by_imds.status == 401  # C-57: the only error that harms nobody there
    assert (by_container.status, by_container.header("content-type")) == (404, "application/json")
    assert b"bug" not in by_imds.body + by_container.body
    assert [type(bug) for bug in bugs] == [RuntimeError, RuntimeError]


async def test_c_11_the_connection_and_the_daemon_outlive_a_failure(
    imds: Imds, clock: FakeClock
) -> None:
    bugs: list[BaseException] = []

    async with wire_to(Broken(imds), clock=clock, on_error=bugs.append) as wire:
        replies = [await wire.send(get(LIST, b"any")) for _ in range(3)]

    assert [reply.status for reply in replies] == [401, 401, 401]


async def test_c_12_repeated_slashes_are_one_and_nothing_is_redirected(
    imds: Imds, clock: FakeClock
) -> None:
    async with wire_to(imds, clock=clock) as wire:
        token = await wire.send(
            PUT_TOKEN.replace(b"/latest/api", b"//latest///api/") + TTL + b"\r\n"
        )
        reply = await wire.send(
            get(b"///latest//meta-data/iam//security-credentials//", token.body)
        )

    assert (token.status, len(token.body)) == (200, 56)
    assert (reply.status, reply.body) == (200, b"deploy")


@pytest.mark.parametrize(
    "leaf",
    [
        LIST.rstrip(b"/"),
        LIST + b"deploy",
        b"/latest/meta-data",
        b"/latest/meta-data/placement/availability-zone",
        b"/latest/dynamic/instance-identity/document",
    ],
)
async def test_c_13_a_slash_at_the_end_makes_no_difference(
    imds: Imds, clock: FakeClock, leaf: bytes
) -> None:
    async with served(imds, clock=clock) as place:
        token = await session_token(place)
        without = await place.ask(get(leaf, token))
        with_slash = await place.ask(get(leaf + b"/", token))

    assert without.status == with_slash.status == 200
    assert without.body == with_slash.body != b""


async def test_c_13_the_token_path_may_end_in_a_slash(imds: Imds, clock: FakeClock) -> None:
    async with wire_to(imds, clock=clock) as wire:
        reply = await wire.send(PUT_TOKEN.replace(b"token HTTP", b"token/ HTTP") + TTL + b"\r\n")

    assert (reply.status, len(reply.body)) == (200, 56)


@pytest.mark.parametrize(
    "version",
    [
        b"latest",
        b"1.0",
        b"2009-04-04",
        b"2016-09-02",
        b"2018-09-24",
        b"2021-03-23",
        b"2021-07-15",
        b"2025-12-31",
    ],
)
async def test_c_14_latest_and_dated_versions_are_the_same(
    imds: Imds, clock: FakeClock, version: bytes
) -> None:
    async with served(imds, clock=clock) as place:
        token = await session_token(place)
        reply = await place.ask(get(LIST.replace(b"latest", version), token))

    assert (reply.status, reply.body) == (200, b"deploy")


async def test_c_14_what_is_no_version_is_not_found(imds: Imds, clock: FakeClock) -> None:
    async with served(imds, clock=clock) as place:
        token = await session_token(place)
        reply = await place.ask(get(LIST.replace(b"latest", b"newest"), token))

    assert reply.status == 404
