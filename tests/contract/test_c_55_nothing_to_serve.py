"""Section C.8: when there is nothing to serve, C-55 to C-61."""

import itertools

from broker.credentials import AwsCredentials
from broker.keeper import Keeper
from broker.lease import Refused, Unavailable
from broker.surfaces.imds import Imds
from tests.support.fakes import (
    FakeClock,
    ScriptedSource,
    an_hour_of,
    holding,
    running,
    some_credentials,
)
from tests.support.sdk import put_token, raw, token_from, v2, v2_text, with_token
from tests.support.surfaces import (
    DOCUMENT,
    EXTENDED_LIST,
    NOBODY,
    ROLE_LIST,
    a_container,
    an_imds,
    container_get,
    nothing_held,
    v2_get,
)
from tests.support.wire import Reply, served, wire_to

DEPLOY = ROLE_LIST + "deploy"
INFO = "/latest/meta-data/iam/info"


def states() -> list[Imds]:
    """Nothing yet, nothing any more, and nothing for this caller."""
    return [an_imds(nothing_held()), an_imds({}), an_imds(rules=NOBODY)]


def is_a_role_name(body: bytes) -> bool:
    return bool(body) and b" " not in body and b"\n" not in body


async def test_c_55_the_cached_set_is_served_through_an_outage_while_it_is_valid() -> None:
    clock = FakeClock()
    source = ScriptedSource(an_hour_of(some_credentials(), clock))
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        imds, container = an_imds({"deploy": keeper}), a_container({"deploy": keeper})
        source.then(Unavailable("sts is down"))
        await clock.advance(minutes=59)
        assert v2_get(imds, DEPLOY, now=clock.now()).status == 200
        assert container_get(container, "/creds", now=clock.now()).status == 200

        source.then(Refused("the role is gone"))
        await clock.advance(seconds=59)
        assert v2_get(imds, DEPLOY, now=clock.now()).status == 200

        await clock.advance(seconds=1)
        assert v2_get(imds, DEPLOY, now=clock.now()).status == 401


async def test_c_56_the_list_is_404_with_a_body_that_is_no_role_name() -> None:
    for imds in states():
        async with wire_to(imds, clock=FakeClock()) as wire:
            for path in (ROLE_LIST, ROLE_LIST[:-1], EXTENDED_LIST):
                reply = await v2(wire, path)

                assert reply.status == 404
                assert not is_a_role_name(reply.body)


async def test_c_57_the_credentials_path_is_401() -> None:
    for imds in (an_imds(nothing_held()), an_imds(rules=NOBODY)):
        async with wire_to(imds, clock=FakeClock()) as wire:
            for path in (DEPLOY, DEPLOY + "/", EXTENDED_LIST + "deploy"):
                assert (await v2(wire, path)).status == 401


async def test_c_58_no_path_in_no_state_gives_429_or_5xx() -> None:
    paths = (
        "/",
        ROLE_LIST,
        DEPLOY,
        INFO,
        DOCUMENT,
        "/latest/api/token",
        "/no/such",
        "/%00",
        "/%ff",
    )
    for imds in (an_imds(), an_imds(v1=True), *states()):
        async with served(imds, clock=FakeClock()) as place, place.wire() as wire:
            token = await token_from(wire)
            for method, path, lines in itertools.product(
                ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "BREW"),
                paths,
                ((), (with_token(token),), (with_token("bad"),), ("Origin: null",)),
            ):
                reply: Reply = await place.ask(raw(method, path, *lines))
                assert reply.status in {200, 400, 401, 403, 404, 405}


async def test_c_59_unknown_paths_and_names_are_404_with_a_page() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for path in (
            "/nothing",
            "/latest/nothing",
            "/latest/meta-data/nothing",
            "/latest/meta-data/instance-id/more",
            "/1999-01-01/meta-data/",
            ROLE_LIST + "no-such-role",
            EXTENDED_LIST + "no-such-role",
        ):
            reply = await v2(wire, path)

            assert reply.status == 404
            assert b"<title>404 - Not Found</title>" in reply.body
            assert b"nothing" not in reply.body


async def test_c_60_iam_info_is_404_and_the_rest_is_unaffected() -> None:
    for imds in states():
        async with wire_to(imds, clock=FakeClock()) as wire:
            assert (await v2(wire, INFO)).status == 404
            assert await v2_text(wire, "/latest/meta-data/placement/region") == "eu-central-1"
            assert await v2_text(wire, "/latest/meta-data/instance-id") == "i-0123456789abcdef0"
            assert (await v2(wire, DOCUMENT)).status == 200
            assert (await wire.send(put_token())).status == 200


async def test_c_61_the_reason_is_in_our_own_channels_and_not_in_answers() -> None:
    clock = FakeClock()
    why = "role arn:aws:iam::123456789012:role/deploy does not trust this identity"
    keeper: Keeper[AwsCredentials] = await holding("role/deploy", Refused(why), clock)
    told: list[str | None] = []
    async with wire_to(
        an_imds({"deploy": keeper}),
        clock=clock,
        on_exchange=lambda exchange: told.append(exchange.answer.role),
    ) as wire:
        replies = [await v2(wire, path) for path in (ROLE_LIST, DEPLOY, INFO, "/latest/meta-data/")]
    container = container_get(a_container({"deploy": keeper}), "/creds")

    shown = b"".join(reply.head + reply.body for reply in replies) + container.body
    assert keeper.status().reason == why
    assert "deploy" in told
    for word in (b"trust", b"arn:", b"deploy"):
        assert word not in shown
