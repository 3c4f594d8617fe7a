"""Section C.10: the container credentials endpoint, C-64 to C-74."""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from broker.access.rules import OwnerOnly
from broker.surfaces.container_tokens import container_token, new_container_token
from tests.support.fakes import FakeClock, some_credentials
from tests.support.sdk import get_container, raw, v2
from tests.support.surfaces import (
    BOB,
    NOBODY,
    ROLE_LIST,
    SECRET,
    Holding,
    a_container,
    an_imds,
    lease_for,
    nothing_held,
)
from tests.support.wire import Reply, served, wire_to


def members(reply: Reply) -> dict[str, str]:
    assert reply.status == 200
    document: dict[str, str] = json.loads(reply.body)
    return document


async def test_c_64_full_and_relative_uris_are_served_under_every_address() -> None:
    hosts = ("127.0.0.1:8170", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "[fd00:ec2::23]")
    paths = ("/v1/credentials", "/creds", "/2016-11-01/credentialprovider/", "/role/deploy")
    async with wire_to(a_container(), clock=FakeClock()) as wire:
        for host in hosts:
            for path in paths:
                asked = raw("GET", path, f"Authorization: {SECRET}", host=host)
                assert members(await wire.send(asked))["RoleArn"].endswith(":role/deploy")


async def test_c_65_the_body_has_what_every_client_reads() -> None:
    value = some_credentials()

    async with wire_to(a_container(), clock=FakeClock()) as wire:
        document = members(await wire.send(get_container("/creds")))

    assert document == {
        "AccessKeyId": value.access_key_id,
        "SecretAccessKey": value.secret_access_key,
        "Token": value.session_token,
        "Expiration": "2030-01-02T04:04:05Z",
        "AccountId": "123456789012",
        "RoleArn": "arn:aws:iam::123456789012:role/deploy",
    }


async def test_c_66_json_of_known_length_under_10000_bytes_in_all() -> None:
    lease = lease_for()
    long = replace(lease, value=replace(lease.value, session_token="x" * 8192))

    async with wire_to(a_container({"deploy": Holding(long)}), clock=FakeClock()) as wire:
        reply = await wire.send(get_container("/creds", "Accept-Encoding: gzip"))

    assert reply.header("content-type") == "application/json"
    assert reply.header("content-length") == str(len(reply.body))
    assert reply.header("content-encoding") is None
    assert len(reply.head) + len(reply.body) < 10_000


async def test_c_67_the_date_is_right_on_every_answer() -> None:
    clock = FakeClock()
    async with wire_to(a_container(), clock=clock) as wire:
        clock.jump(hours=1, seconds=-6)
        for asked in (get_container("/creds"), raw("GET", "/creds"), raw("POST", "/")):
            reply = await wire.send(asked)
            assert reply.header("date") == "Wed, 02 Jan 2030 04:03:59 GMT"


async def test_c_68_the_whole_value_is_compared_as_it_is() -> None:
    bad = (
        f"Bearer {SECRET}",
        f"Basic {SECRET}",
        SECRET.upper(),
        SECRET[:-1],
        SECRET + "x",
        f"{SECRET},{SECRET}",
        "\u00e9" * 32,
    )
    async with wire_to(a_container(), clock=FakeClock()) as wire:
        for value in (SECRET, SECRET + " ", SECRET + "\t"):
            asked = raw("GET", "/creds", f"Authorization: {value}")
            assert (await wire.send(asked)).status == 200
        for value in bad:
            asked = raw("GET", "/creds", f"Authorization: {value}")
            assert (await wire.send(asked)).status == 401


async def test_c_69_tokens_and_their_files_have_no_newline_and_no_blank(tmp_path: Path) -> None:
    path = tmp_path / "container-token"
    token = container_token(path)

    assert re.fullmatch(r"[!-~]{32,}", token)
    assert path.read_bytes() == token.encode("ascii")
    for spoiled in (token + "\n", token + " ", token + "\r\n", "\n" + token, token + "\u00e9"):
        path.write_text(spoiled)
        with pytest.raises(ValueError, match=r"container-token"):
            container_token(path)


async def test_c_70_token_files_are_replaced_at_once_and_the_one_before_stays_good(
    tmp_path: Path,
) -> None:
    path = tmp_path / "container-token"
    old = container_token(path)
    read: list[bytes] = []
    rotating = asyncio.create_task(asyncio.to_thread(rotated, path, 200))
    while not rotating.done():
        read.append(await asyncio.to_thread(path.read_bytes))
    new = await rotating

    assert {len(content) for content in read} == {len(old)}
    container = a_container(tokens={"default": (new, old)})
    async with wire_to(container, clock=FakeClock()) as wire:
        for token in (new, old):
            asked = raw("GET", "/creds", f"Authorization: {token}")
            assert (await wire.send(asked)).status == 200


def rotated(path: Path, times: int) -> str:
    return [new_container_token(path) for _ in range(times)][-1]


async def test_c_71_a_wrong_token_is_401_and_nothing_available_404() -> None:
    async with wire_to(a_container(), clock=FakeClock()) as wire:
        assert (await wire.send(raw("GET", "/creds"))).status == 401
        assert (await wire.send(raw("GET", "/creds", "Authorization: x"))).status == 401
        assert (await wire.send(raw("GET", "/t/wrong/creds"))).status == 401
    for container in (a_container(nothing_held()), a_container({}), a_container(rules=NOBODY)):
        async with wire_to(container, clock=FakeClock()) as wire:
            assert (await wire.send(get_container("/creds"))).status == 404
            assert (await wire.send(get_container("/role/deploy"))).status == 404


async def test_c_72_clients_that_cannot_send_the_header_put_the_token_in_the_path() -> None:
    async with wire_to(a_container(), clock=FakeClock()) as wire:
        for path in ("/creds", "/v1/credentials", "/role/audit"):
            assert (await wire.send(raw("GET", f"/t/{SECRET}{path}"))).status == 200
            assert (await wire.send(raw("GET", path))).status == 401


async def test_c_73_a_caller_denied_here_is_not_served_by_imds_either() -> None:
    floor = OwnerOnly(owner_uid=4242, roles=("deploy",), default_role="deploy")
    async with served(a_container(rules=floor), clock=FakeClock(), caller=BOB) as place:
        assert (await place.ask(raw("GET", "/creds", "Authorization: wrong"))).status == 401
    async with wire_to(an_imds(rules=floor), clock=FakeClock(), caller=BOB) as wire:
        assert (await v2(wire, ROLE_LIST)).status == 404
        assert (await v2(wire, ROLE_LIST + "deploy")).status == 401


async def test_c_74_the_role_is_chosen_by_the_path_and_a_query_changes_nothing() -> None:
    async with wire_to(a_container(), clock=FakeClock()) as wire:
        for path, role in (
            ("/role/audit", "audit"),
            ("/role/audit?role=deploy", "audit"),
            ("/creds?x=y", "deploy"),
            ("/role-arn/arn:aws:iam::123456789012:role/audit", "audit"),
            ("/role-arn/arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Faudit", "audit"),
        ):
            document = members(await wire.send(get_container(path)))
            assert document["RoleArn"].endswith(f":role/{role}")
