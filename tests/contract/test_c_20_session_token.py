"""Section C.3: the session token (PUT /latest/api/token), C-20 to C-30."""

import re
import time
from pathlib import Path

from broker.access.caller import Caller
from broker.credentials import AwsCredentials
from broker.keeper import Keeper
from broker.lease import Unavailable
from broker.surfaces.session_tokens import SessionKeys
from tests.support.fakes import FakeClock, Hangs, ScriptedSource, holding, running
from tests.support.sdk import put_token, raw, token_from, v2, with_token
from tests.support.surfaces import (
    ALICE,
    BOB,
    NOBODY,
    ONLY_ALICE,
    ROLE_LIST,
    TOKEN_PATH,
    an_imds,
    nothing_held,
)
from tests.support.wire import served, wire_to

TTL = "x-aws-ec2-metadata-token-ttl-seconds"


async def test_c_20_the_answer_is_the_token_alone_with_its_life() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        reply = await wire.send(put_token("300"))

    assert reply.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.header("content-type") == "text/plain"
    assert reply.header("content-length") == str(len(reply.body)) == "56"
    assert reply.header(TTL) == "300"


async def test_c_21_the_token_is_56_base64url_characters() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for _ in range(50):
            assert re.fullmatch("[A-Za-z0-9_-]{56}", await token_from(wire))


async def test_c_22_any_life_from_1_to_21600_is_granted_exactly() -> None:
    clock = FakeClock()
    async with wire_to(an_imds(), clock=clock) as wire:
        for ttl_s in (10, 60, 300, 600, 900, 21600, 1, 2, 59, 21599):
            reply = await wire.send(put_token(str(ttl_s)))
            ask = raw("GET", "/", with_token(reply.body.decode()))
            assert reply.header(TTL) == str(ttl_s)
            assert (await wire.send(ask)).header(TTL) == str(ttl_s)

            clock.jump(seconds=ttl_s - 0.001)
            assert (await wire.send(ask)).status == 200
            clock.jump(seconds=0.001)
            assert (await wire.send(ask)).status == 401


async def test_c_23_a_life_that_is_none_is_400_and_nothing_else_is() -> None:
    no_lives = (
        None,
        "",
        "0",
        "21601",
        "-1",
        "+60",
        "6e1",
        "60.0",
        "0x3c",
        "abc",
        "60 60",
        "9" * 99,
    )
    odd_but_good = (
        "Authorization: x",
        "Content-Type: application/x-www-form-urlencoded",
        "X-aws-ec2-metadata-token: not-ours",
        "Accept-Encoding: gzip",
        "Cookie: a=b",
    )
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for ttl in no_lives:
            assert (await wire.send(put_token(ttl))).status == 400
        assert (await wire.send(put_token("60", f"{TTL}: 60"))).status == 400
        for line in odd_but_good:
            assert (await wire.send(put_token("60", line))).status == 200
        assert (await wire.send(put_token("60", path=TOKEN_PATH + "/?a=b"))).status == 200
        assert (await wire.send(put_token("060"))).header(TTL) == "60"


async def test_c_24_a_token_lives_on_over_restarts_and_new_keys(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "imds-keys.json"
    keys = SessionKeys.kept(path, now=clock.now())
    async with wire_to(an_imds(keys=keys), clock=clock, caller=ALICE) as wire:
        token = await token_from(wire)
        keys.add_key(clock.now())

    clock.jump(hours=5, minutes=59)
    restarted = an_imds(keys=SessionKeys.kept(path, now=clock.now()))
    async with wire_to(restarted, clock=clock, caller=ALICE) as wire:
        reply = await wire.send(raw("GET", "/", with_token(token)))

    assert (reply.status, reply.header(TTL)) == (200, "60")
    assert path.stat().st_mode & 0o777 == 0o600


async def test_c_25_no_number_of_tokens_evicts_one() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        tokens = [await token_from(wire) for _ in range(1000)]

        for token in tokens:
            assert (await wire.send(raw("GET", "/", with_token(token)))).status == 200


async def test_c_26_a_forwarded_put_is_403() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for line in ("X-Forwarded-For: 10.1.2.3", "Forwarded: for=10.1.2.3", "Via: 1.1 proxy"):
            for ttl in ("60", None, "abc"):
                assert (await wire.send(put_token(ttl, line))).status == 403
        assert (await wire.send(put_token("60", "x-forwarded-for:"))).status == 403


async def test_c_27_other_methods_are_405_and_no_answer_lets_a_page_of_another_site_in() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for method in ("GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS"):
            reply = await wire.send(raw(method, TOKEN_PATH))

            assert (reply.status, reply.body) == (405, b"")
            assert reply.header("allow") == "OPTIONS, PUT"
        preflight = await wire.send(
            raw(
                "OPTIONS",
                TOKEN_PATH,
                "Origin: https://example.com",
                "Access-Control-Request-Method: PUT",
                f"Access-Control-Request-Headers: {TTL}",
            )
        )
        replies = [
            preflight,
            await wire.send(put_token()),
            await wire.send(put_token("60", "Origin: https://example.com")),
            await v2(wire, ROLE_LIST),
            await v2(wire, ROLE_LIST, "Origin: https://example.com"),
        ]

    assert preflight.status == 403
    assert b"access-control" not in b"".join(reply.head.lower() for reply in replies)


async def test_c_28_the_token_is_issued_whatever_the_credentials_state() -> None:
    clock = FakeClock()
    down: Keeper[AwsCredentials] = await holding("role/deploy", Unavailable("sts is down"), clock)
    hanging = Keeper("role/deploy", ScriptedSource[AwsCredentials](Hangs()), clock=clock)
    async with running(hanging):
        for imds in (
            an_imds(nothing_held()),
            an_imds({"deploy": down}),
            an_imds({"deploy": hanging}),
            an_imds({}),
            an_imds(rules=NOBODY),
            an_imds(rules=ONLY_ALICE),
        ):
            async with wire_to(imds, clock=clock, caller=BOB) as wire:
                assert (await wire.send(put_token())).status == 200


async def test_c_29_the_answer_is_there_well_within_half_a_second() -> None:
    took_s: list[float] = []
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for _ in range(200):
            began_s = time.perf_counter()
            await wire.send(put_token())
            took_s.append(time.perf_counter() - began_s)

    assert sorted(took_s)[len(took_s) * 95 // 100] < 0.5


async def test_c_30_a_token_is_bound_to_its_requester_and_to_no_connection() -> None:
    imds = an_imds()
    async with served(imds, clock=FakeClock(), caller=ALICE) as place:
        async with place.wire() as wire:
            token = await token_from(wire)
        for _ in range(3):
            assert (await place.ask(raw("GET", "/", with_token(token)))).status == 200
    same_uid = Caller(uid=ALICE.uid, pid=1, address="::1")
    for caller, status in ((same_uid, 200), (BOB, 401), (Caller(), 401)):
        async with served(imds, clock=FakeClock(), caller=caller) as place:
            assert (await place.ask(raw("GET", "/", with_token(token)))).status == status
