"""Section C.6: credentials on IMDS, C-40 to C-49."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from broker.credentials import AwsCredentials
from broker.lease import Lease
from tests.support.fakes import START, FakeClock, some_credentials
from tests.support.sdk import v2, v2_text
from tests.support.surfaces import (
    EXTENDED_LIST,
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


async def members() -> dict[str, str]:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        document: dict[str, str] = json.loads(await v2_text(wire, DEPLOY))
        return document


async def test_c_40_the_document_is_laid_out_as_ec2_does_to_the_byte() -> None:
    value = some_credentials()

    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        reply = await v2(wire, DEPLOY)

    assert reply.body == (
        "{\n"
        '  "Code" : "Success",\n'
        '  "LastUpdated" : "2030-01-02T03:04:05Z",\n'
        '  "Type" : "AWS-HMAC",\n'
        f'  "AccessKeyId" : "{value.access_key_id}",\n'
        f'  "SecretAccessKey" : "{value.secret_access_key}",\n'
        f'  "Token" : "{value.session_token}",\n'
        '  "Expiration" : "2030-01-02T04:04:05Z"\n'
        "}"
    ).encode("ascii")


async def test_c_41_code_is_success() -> None:
    assert (await members())["Code"] == "Success"


async def test_c_42_last_updated_is_there_and_never_in_the_future() -> None:
    ahead = lease_for(issued_at=START + timedelta(minutes=5))

    async with wire_to(an_imds({"deploy": Holding(ahead)}), clock=FakeClock()) as wire:
        document = json.loads(await v2_text(wire, DEPLOY))

    assert document["LastUpdated"] == "2030-01-02T03:04:05Z"
    assert document["Expiration"] == "2030-01-02T04:09:05Z"


async def test_c_43_type_is_aws_hmac() -> None:
    assert (await members())["Type"] == "AWS-HMAC"


async def test_c_44_expiration_is_utc_in_whole_seconds_rounded_down() -> None:
    odd = lease_for(life=timedelta(minutes=59, seconds=59, microseconds=999_999))

    async with wire_to(an_imds({"deploy": Holding(odd)}), clock=FakeClock()) as wire:
        document = json.loads(await v2_text(wire, DEPLOY))

    assert document["Expiration"] == "2030-01-02T04:04:04Z"


async def test_c_45_without_a_session_token_or_an_end_there_is_nothing_to_serve() -> None:
    good = lease_for()
    no_token = replace(good, value=replace(good.value, session_token=""))
    no_end = replace(good, expires_at=None)
    for lease in (no_token, no_end):
        async with wire_to(an_imds({"deploy": Holding(lease)}), clock=FakeClock()) as wire:
            assert (await v2(wire, ROLE_LIST)).status == 404
            assert (await v2(wire, DEPLOY)).status == 401
        container = a_container({"deploy": Holding(lease)})
        assert container_get(container, "/creds").status == 404


async def test_c_46_no_role_arn_nothing_empty_nested_or_escaped() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for path in (DEPLOY, EXTENDED_LIST + "deploy"):
            text = await v2_text(wire, path)
            document = json.loads(text)

            assert "RoleArn" not in text
            assert "\\" not in text
            assert all(isinstance(value, str) and value for value in document.values())
            assert len(document) <= 24
            assert not [
                (one, other)
                for one in document
                for other in document
                if one != other and one.startswith(other)
            ]


async def test_c_47_plain_text_of_known_length_neither_chunked_nor_compressed() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        reply = await v2(wire, DEPLOY, "Accept-Encoding: gzip, deflate, br", "TE: trailers")

    assert reply.header("content-type") == "text/plain"
    assert reply.header("content-length") == str(len(reply.body))
    assert reply.header("transfer-encoding") is None
    assert reply.header("content-encoding") is None


async def test_c_48_a_slash_at_the_end_is_optional_and_other_names_are_404() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        assert await v2_text(wire, DEPLOY) == await v2_text(wire, DEPLOY + "/")
        for name in ("Deploy", "deploy2", "deplo", "deploy/x", "vault"):
            assert (await v2(wire, ROLE_LIST + name)).status == 404


async def test_c_49_reads_repeat_and_never_mix_halves_of_two_sets() -> None:
    class Changing:
        """Another set at each look, as if every read met a renewal."""

        def __init__(self) -> None:
            self._leases: Iterator[Lease[AwsCredentials]] = (
                lease_for(serial=serial) for serial in range(1, 1000)
            )

        def current(self, *, now: object = None) -> Lease[AwsCredentials]:
            return next(self._leases)

        def attempt(self, *, now: object) -> None:
            """Say that none is under way."""

    imds = an_imds({"deploy": Changing()})
    for _ in range(50):
        text = v2_get(imds, DEPLOY).body.decode()
        serials = re.findall(r"ASIAEXAMPLE0*(\d+)|deploy/0*(\d+)\"|VjE0*(\d+)\+", text)
        assert len({"".join(found) for found in serials}) == 1
        assert len(serials) == 3
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        assert len({await v2_text(wire, DEPLOY) for _ in range(5)}) == 1
