"""Section C.2, the rest: the metadata that IMDS serves, C-15 to C-19."""

import json
import re

from tests.support.fakes import FakeClock
from tests.support.sdk import v2, v2_text
from tests.support.surfaces import NOWHERE, ROLE_LIST, an_imds, nothing_held
from tests.support.wire import Wire, wire_to

META_DATA = "/latest/meta-data/"
PLACEMENT = "/latest/meta-data/placement/"
DOCUMENT = "/latest/dynamic/instance-identity/document"


async def crawl(wire: Wire, directory: str) -> list[str]:
    """Return every leaf below, as cloud-init finds them: directory entries end in a slash."""
    listing = await v2_text(wire, directory)
    assert not listing.endswith("\n")
    leaves: list[str] = []
    for entry in listing.split("\n") if listing else []:
        if entry.endswith("/"):
            leaves += await crawl(wire, directory + entry)
        else:
            await v2_text(wire, directory + entry)
            leaves.append(directory + entry)
    return leaves


async def test_c_15_every_entry_of_a_listing_answers_and_iam_lists_no_more_than_two() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        versions = await v2_text(wire, "/")
        leaves = await crawl(wire, "/latest/")

        assert await v2_text(wire, "/latest") == await v2_text(wire, "/latest/")
        assert await v2_text(wire, "/latest/") == "api/\ndynamic/\nmeta-data/"
        assert await v2_text(wire, META_DATA + "iam/") == "info\nsecurity-credentials/"
        assert "instance-id" in (await v2_text(wire, META_DATA)).split("\n")
        assert ROLE_LIST + "deploy" in leaves
        assert not any("extended" in leaf for leaf in leaves)
        for version in versions.split("\n"):
            assert await v2_text(wire, f"/{version}/") == "api/\ndynamic/\nmeta-data/"


async def test_c_15_without_credentials_no_listing_names_what_would_not_answer() -> None:
    async with wire_to(an_imds(nothing_held()), clock=FakeClock()) as wire:
        leaves = await crawl(wire, "/latest/")

    assert leaves
    assert not any("/iam" in leaf for leaf in leaves)


async def test_c_16_region_zone_instance_id_and_the_like_are_plain_text() -> None:
    expected = {
        "placement/region": "eu-central-1",
        "placement/availability-zone": "eu-central-1a",
        "placement/availability-zone-id": "euc1-az1",
        "instance-id": "i-0123456789abcdef0",
        "instance-type": "namespace.instance",
        "ami-id": "ami-00000000000000000",
        "hostname": "runner-7",
        "local-hostname": "runner-7",
        "local-ipv4": "10.0.0.7",
        "mac": "02:00:00:00:00:07",
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
    }
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        for name, text in expected.items():
            reply = await v2(wire, META_DATA + name)

            assert (reply.status, reply.body) == (200, text.encode())
            assert reply.header("content-type") == "text/plain"
        info = json.loads(await v2_text(wire, META_DATA + "iam/info"))

    assert info["Code"] == "Success"
    assert info["InstanceProfileArn"] == "arn:aws:iam::123456789012:instance-profile/deploy"
    assert re.fullmatch("AIPA[A-Z2-7]{17}", info["InstanceProfileId"])


async def test_c_17_the_identity_document_has_the_real_field_set_and_no_signature() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        document = json.loads(await v2_text(wire, DOCUMENT))
        with_slash = json.loads(await v2_text(wire, DOCUMENT + "/"))
        unsigned = [
            (await v2(wire, f"/latest/dynamic/instance-identity/{name}")).status
            for name in ("signature", "pkcs7", "rsa2048")
        ]

    assert document == with_slash
    assert document == {
        "accountId": "123456789012",
        "architecture": "x86_64",
        "availabilityZone": "eu-central-1a",
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": "ami-00000000000000000",
        "instanceId": "i-0123456789abcdef0",
        "instanceType": "namespace.instance",
        "kernelId": None,
        "pendingTime": "2030-01-02T03:04:05Z",
        "privateIp": "10.0.0.7",
        "ramdiskId": None,
        "region": "eu-central-1",
        "version": "2017-09-30",
    }
    assert unsigned == [404, 404, 404]


async def test_c_18_without_a_region_its_paths_are_404_and_never_empty() -> None:
    async with wire_to(an_imds(instance=NOWHERE), clock=FakeClock()) as wire:
        for path in (
            PLACEMENT + "region",
            PLACEMENT + "availability-zone",
            PLACEMENT + "availability-zone/",
            DOCUMENT,
        ):
            assert (await v2(wire, path)).status == 404
        assert await v2_text(wire, META_DATA + "instance-id") == "i-0123456789abcdef0"
        assert await v2_text(wire, ROLE_LIST) == "deploy"


async def test_c_19_user_data_is_absent() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        assert (await v2(wire, "/latest/user-data")).status == 404
        assert (await v2(wire, "/latest/user-data/")).status == 404
