"""What of a request reaches a surface, and what does not."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.http.codec import BadRequest, split_target
from broker.http.limits import Limits
from tests.support.http_plain import GET, Plain
from tests.support.wire import served, wire_to


async def test_a_surface_sees_method_path_query_and_headers_in_order() -> None:
    surface = Plain()

    async with wire_to(surface) as wire:
        await wire.send(
            b"PUT /a/b?x=%20&y HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nAccept: a\r\nx-one: 2 \r\n\r\n"
        )

    request = surface.requests[0]
    assert (request.method, request.path, request.query) == ("PUT", "/a/b", "x=%20&y")
    assert request.headers == (("host", "x"), ("x-one", "1"), ("accept", "a"), ("x-one", "2"))
    assert request.http_version == (1, 1)


async def test_the_caller_is_who_the_kernel_says() -> None:
    surface = Plain()

    async with wire_to(surface) as wire:
        await wire.send(GET)

    assert surface.callers[0].address == "127.0.0.1"
    assert surface.callers[0].uid is not None


@pytest.mark.parametrize(
    ("target", "path", "query", "authority"),
    [
        ("/", "/", "", None),
        ("//a///b/", "//a///b/", "", None),
        ("/a%20b%2Fc", "/a b/c", "", None),
        ("/caf%C3%A9", "/café", "", None),
        ("/%ff", "/\ufffd", "", None),
        ("/%zz%", "/%zz%", "", None),
        ("/a?b?c", "/a", "b?c", None),
        ("/a?b=%2F", "/a", "b=%2F", None),
        ("http://169.254.169.254/latest", "/latest", "", "169.254.169.254"),
        ("HTTP://[fd00:ec2::254]:80/latest?x", "/latest", "x", "[fd00:ec2::254]:80"),
        ("http://169.254.169.254", "/", "", "169.254.169.254"),
        ("http://169.254.169.254?x", "/", "x", "169.254.169.254"),
        ("http:///latest", "/latest", "", ""),
        ("/http://elsewhere/a", "/http://elsewhere/a", "", None),
        ("*", "*", "", None),
    ],
)
def test_a_target_becomes_path_query_and_authority(
    target: str, path: str, query: str, authority: str | None
) -> None:
    assert split_target(target) == (path, query, authority)


@given(st.text(st.characters(max_codepoint=126)))
def test_no_target_leaves_what_cannot_be_written(target: str) -> None:
    with suppress(BadRequest):
        path, query, _ = split_target(target)

        assert (path + query).encode("utf-8").decode("utf-8") == path + query


async def test_header_bytes_that_are_no_text_arrive_one_character_each() -> None:
    surface = Plain()

    async with wire_to(surface) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: \xff\xc3\xa9\r\n\r\n")

    assert surface.requests[0].header("authorization") == "\xff\xc3\xa9"


async def test_a_header_of_ten_kilobytes_reaches_the_surface() -> None:
    surface = Plain()
    token = b"t" * 10_240

    async with wire_to(surface) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Token: " + token + b"\r\n\r\n")

    assert surface.requests[0].header("x-token") == token.decode()


async def test_requests_sent_at_once_are_answered_in_order() -> None:
    async with wire_to(Plain()) as wire:
        await wire.write(b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(100)))
        bodies = [(await wire.read()).body for _ in range(100)]

    assert bodies == [b'["GET", "/%d", ""]' % n for n in range(100)]


@pytest.mark.parametrize("cut", range(1, len(GET)))
async def test_a_request_that_ends_in_the_next_segments_head_is_answered_once(cut: int) -> None:
    surface = Plain()
    sent = GET.replace(b"/ ", b"/1 ") + GET.replace(b"/ ", b"/2 ") + GET.replace(b"/ ", b"/3 ")

    async with wire_to(surface) as wire:
        await wire.write(sent[: len(GET) + 1 + cut])
        await wire.read()
        await wire.write(sent[len(GET) + 1 + cut :])
        bodies = [(await wire.read()).body for _ in range(2)]

    assert bodies == [b'["GET", "/2", ""]', b'["GET", "/3", ""]']
    assert [request.path for request in surface.requests] == ["/1", "/2", "/3"]


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_a_body_and_the_next_request_in_one_segment_are_told_apart(cut: int) -> None:
    surface = Plain()
    sent = b"PUT /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nab\r\n\r\n" + GET + GET

    async with wire_to(surface) as wire:
        await wire.write(sent[:cut])
        await wire.write(sent[cut:])
        for _ in range(3):
            await wire.read()

    assert [request.path for request in surface.requests] == ["/1", "/", "/"]


async def test_a_request_may_come_byte_by_byte() -> None:
    async with wire_to(Plain()) as wire:
        for at in range(len(GET)):
            await wire.write(GET[at : at + 1])
        reply = await wire.read()

    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nGET /",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
        b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000,
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_a_body_is_read_to_its_end_and_dropped(body: bytes) -> None:
    surface = Plain()

    async with wire_to(surface) as wire:
        first = await wire.send(b"POST /first HTTP/1.1\r\nHost: x\r\n" + body)
        second = await wire.send(GET)

    assert (first.status, second.status) == (200, 200)
    assert [request.path for request in surface.requests] == ["/first", "/"]


async def test_who_waits_to_be_told_is_without_repeats_and_answered_after_the_body() -> None:
    async with wire_to(Plain()) as wire:
        await wire.write(
            b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n"
        )
        interim = await wire.read()
        await wire.write(b"ab")
        await wire.write(b"cd")
        reply = await wire.read()
        after = await wire.send(GET)

    assert [interim.status, reply.status, after.status] == [100, 200, 200]


async def test_http_1_0_is_never_sent_an_interim_answer() -> None:
    async with wire_to(Plain()) as wire:
        reply = await wire.send(
            b"PUT / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nabcd"
        )

    assert reply.status == 200


async def test_an_upgrade_is_declined_by_an_ordinary_answer() -> None:
    """Java's HTTP client asks for HTTP/2 like this on every first request."""
    async with wire_to(Plain()) as wire:
        reply = await wire.send(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n\r\n"
        )
        after = await wire.send(GET)

    assert (reply.status, after.status) == (200, 200)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    ],
)
async def test_what_is_no_http_gets_the_surfaces_own_words_and_is_closed(garbage: bytes) -> None:
    surface = Plain()

    async with wire_to(surface) as wire:
        reply = await wire.send(garbage)
        rest = await wire.ended()

    assert (reply.status, reply.body) == (400, b"unreadable")
    assert reply.header("connection") == "close"
    assert rest == b""
    assert surface.requests == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 9000 + b"\r\n" + b"Y: " + b"a" * 30_000,
    ],
)
async def test_a_head_that_is_too_long_gets_the_surfaces_answer_to_that_and_is_closed(
    head: bytes,
) -> None:
    surface = Plain()

    async with wire_to(surface) as wire:
        reply = await wire.send(head)
        rest = await wire.ended()

    assert (reply.status, reply.body) == (431, b"too long")
    assert rest == b""
    assert surface.requests == []


@given(st.binary(min_size=1, max_size=200))
async def test_any_bytes_at_all_leave_the_server_standing(raw: bytes) -> None:
    async with served(Plain()) as place:
        async with place.wire() as wire:
            await wire.write(raw)
        reply = await place.ask(GET)

    assert reply.status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 70000\r\n\r\n",
        b"Content-Length: 70000\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n11170\r\n",
    ],
)
async def test_a_body_of_more_than_64_kilobytes_is_cut_off(head: bytes) -> None:
    async with wire_to(Plain()) as wire:
        reply = await wire.send(b"PUT / HTTP/1.1\r\nHost: x\r\n" + head + b"x" * 70_000)
        rest = await wire.ended()

    assert (reply.status, rest) == (400, b"")


async def test_the_limit_on_the_head_is_the_operators() -> None:
    asking = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3000 + b"\r\n\r\n"

    async with wire_to(Plain(), limits=Limits(header_bytes=1024)) as wire:
        refused = await wire.send(asking)
    async with wire_to(Plain(), limits=Limits(header_bytes=4096)) as wire:
        taken = await wire.send(asking)

    assert (refused.status, taken.status) == (431, 200)
