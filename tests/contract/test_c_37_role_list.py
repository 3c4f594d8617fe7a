"""Section C.5: the role list, C-37 to C-39."""

import json
from urllib.parse import quote

from broker.access.caller import Grant
from tests.support.fakes import FakeClock
from tests.support.sdk import v2, v2_text
from tests.support.surfaces import (
    EXTENDED_LIST,
    NOBODY,
    ROLE_LIST,
    Holding,
    Rule,
    an_imds,
    lease_for,
)
from tests.support.wire import wire_to

EVERY_CHARACTER = "aZ09_+=,.@-"


async def test_c_37_the_role_list_is_one_name_without_a_newline() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for path in (ROLE_LIST, ROLE_LIST[:-1]):
            reply = await v2(wire, path)

            assert (reply.status, reply.body) == (200, b"deploy")
            assert reply.header("content-type") == "text/plain"
            assert reply.header("content-length") == "6"


async def test_c_38_a_name_of_every_legal_character_is_listed_and_answers_unescaped() -> None:
    for name in (EVERY_CHARACTER, "ab", "x" * 64):
        grant = Grant(roles=frozenset({name}), default_role=name)
        imds = an_imds({name: Holding(lease_for())}, rules=Rule(grant))
        async with wire_to(imds, clock=FakeClock()) as wire:
            assert await v2_text(wire, ROLE_LIST) == name
            assert (await v2(wire, ROLE_LIST + name)).status == 200
            assert (await v2(wire, ROLE_LIST + quote(name))).status == 200


async def test_c_39_the_extended_path_gives_the_same_and_the_account() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        assert await v2_text(wire, EXTENDED_LIST) == "deploy"
        assert await v2_text(wire, EXTENDED_LIST[:-1]) == "deploy"
        legacy = json.loads(await v2_text(wire, ROLE_LIST + "deploy"))
        extended = json.loads(await v2_text(wire, EXTENDED_LIST + "deploy"))

        assert extended == {**legacy, "AccountId": "123456789012"}
        assert "extended" not in await v2_text(wire, "/latest/meta-data/iam/")
    async with wire_to(an_imds(rules=NOBODY), clock=FakeClock()) as wire:
        assert (await v2(wire, EXTENDED_LIST)).status == 404
        assert (await v2(wire, EXTENDED_LIST + "deploy")).status == 401
