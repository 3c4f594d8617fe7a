"""Section C.4: the check before every GET, C-31 to C-36."""

from tests.support.fakes import FakeClock
from tests.support.sdk import raw, token_from, v2, with_token
from tests.support.surfaces import DOCUMENT, EXTENDED_LIST, ROLE_LIST, an_imds
from tests.support.wire import wire_to

PATHS = (
    "/",
    "/latest",
    "/latest/meta-data/",
    "/latest/meta-data/placement/region",
    ROLE_LIST,
    ROLE_LIST + "deploy",
    ROLE_LIST + "no-such-role",
    EXTENDED_LIST,
    DOCUMENT,
    "/latest/user-data",
    "/no/such/path",
)
TTL = "x-aws-ec2-metadata-token-ttl-seconds"


async def test_c_31_a_bad_token_is_401_on_every_path_also_where_v1_is_allowed() -> None:
    clock = FakeClock()
    async with wire_to(an_imds(), clock=clock) as other:
        foreign = await token_from(other)
    for v1 in (False, True):
        async with wire_to(an_imds(v1=v1), clock=clock) as wire:
            expired = await token_from(wire, "1")
            clock.jump(seconds=1)
            for bad in ("INVALID", "", "x" * 56, foreign, expired):
                for path in (*PATHS, "/latest/api/token"):
                    reply = await wire.send(raw("GET", path, with_token(bad)))
                    assert reply.status == 401


async def test_c_32_a_missing_token_is_401_on_every_path() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for path in PATHS:
            for method in ("GET", "HEAD"):
                assert (await wire.send(raw(method, path))).status == 401


async def test_c_33_v1_is_off_unless_it_is_switched_on() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        assert (await wire.send(raw("GET", ROLE_LIST))).status == 401
    async with wire_to(an_imds(v1=True), clock=FakeClock()) as wire:
        assert (await wire.send(raw("GET", ROLE_LIST))).body == b"deploy"
        assert (await wire.send(raw("GET", ROLE_LIST + "deploy"))).status == 200
        assert (await v2(wire, ROLE_LIST)).body == b"deploy"


async def test_c_34_a_repeated_or_over_long_token_is_401_and_not_400() -> None:
    async with wire_to(an_imds(v1=True), clock=FakeClock()) as wire:
        good = await token_from(wire)
        for lines in (
            (with_token(good), with_token(good)),
            (with_token(good), with_token("INVALID")),
            (with_token(good * 2),),
            (with_token("x" * 65),),
            (with_token("x" * 12_000),),
            (with_token(good + ", " + good),),
        ):
            assert (await wire.send(raw("GET", "/", *lines))).status == 401


async def test_c_35_head_answers_as_get_without_a_body_and_other_methods_are_405() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        token = await token_from(wire)
        for path in PATHS:
            got = await wire.send(raw("GET", path, with_token(token)))
            head = await wire.send(raw("HEAD", path, with_token(token)))
            assert head.head == got.head
        for method in ("POST", "DELETE", "PATCH", "PUT", "OPTIONS", "TRACE"):
            for lines in ((), (with_token(token),)):
                for path in PATHS:
                    reply = await wire.send(raw(method, path, *lines))
                    assert (reply.status, reply.body) == (405, b"")
                    assert reply.header("allow") == "GET, HEAD"


async def test_c_36_v2_answers_say_how_long_the_token_is_good_as_the_real_service() -> None:
    clock = FakeClock()
    async with wire_to(an_imds(), clock=clock) as wire:
        token = await token_from(wire, "600")
        clock.jump(seconds=60)
        for path in ("/", ROLE_LIST, ROLE_LIST + "deploy", DOCUMENT):
            reply = await wire.send(raw("GET", path, with_token(token)))
            assert reply.header(TTL) == "540"
            assert reply.header("accept-ranges") == "none"
            assert reply.header("last-modified") == "Wed, 02 Jan 2030 03:04:05 GMT"
            assert reply.header("date") == "Wed, 02 Jan 2030 03:05:05 GMT"


async def test_a_token_header_beyond_every_limit_is_a_bad_token_too() -> None:
    """C-34, at the adapter: what is cut off unread answers as an over-long token."""
    async with wire_to(an_imds()) as wire:
        reply = await wire.send(
            b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n"
            b"X-aws-ec2-metadata-token: " + b"x" * 40_000 + b"\r\n\r\n"
        )

    assert reply.status == 401
