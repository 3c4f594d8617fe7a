"""The metadata tree: paths and values."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.surfaces.imds_tree import (
    Instance,
    identity_document,
    instance_id_from,
    route_of,
    text_at,
    tree_of,
    zone_id,
)
from tests.support.fakes import START
from tests.support.surfaces import INSTANCE, NOWHERE


@pytest.mark.parametrize(
    "path",
    [
        "/latest/api/token",
        "//latest/api/token",
        "/latest//api///token",
        "/latest/api/token/",
        "///latest/api/token///",
    ],
)
def test_slashes_collapse_and_one_at_the_end_is_optional(path: str) -> None:
    assert route_of(path).label == "token"


@pytest.mark.parametrize("version", ["latest", "1.0", "2007-01-19", "2009-04-04", "2021-07-15"])
def test_every_version_reads_the_same_tree(version: str) -> None:
    route = route_of(f"/{version}/meta-data/iam/security-credentials/deploy")

    assert (route.label, route.role) == ("credentials", "deploy")


@pytest.mark.parametrize(
    "version", ["2007-01-18", "2021-02-30", "2021-7-15", "20210715", "1.1", "Latest", "..", "*"]
)
def test_what_is_no_version_leads_nowhere(version: str) -> None:
    assert route_of(f"/{version}/meta-data/").label == "other"


def test_only_latest_issues_tokens() -> None:
    assert route_of("/2021-07-15/api/token").label == "metadata"


@given(st.text())
def test_every_path_has_a_route(path: str) -> None:
    assert route_of(path).label in {
        "credentials",
        "iam-info",
        "identity-document",
        "metadata",
        "other",
        "role-list",
        "token",
        "versions",
    }


def walk(path: tuple[str, ...]) -> list[str]:
    """Return the path of every leaf below, found by listings alone."""
    tree = tree_of(INSTANCE, with_iam=False)
    text = text_at(tree, path)
    assert text is not None, path
    leaves: list[str] = []
    for entry in text.split("\n") if text else []:
        if entry.endswith("/"):
            leaves += walk((*path, entry[:-1]))
        else:
            assert text_at(tree, (*path, entry))
            leaves.append("/".join((*path, entry)))
    return leaves


def test_a_crawler_finds_these_leaves_and_each_says_something() -> None:
    assert walk(()) == [
        "dynamic/instance-identity/document",
        "meta-data/ami-id",
        "meta-data/hostname",
        "meta-data/instance-id",
        "meta-data/instance-type",
        "meta-data/local-hostname",
        "meta-data/local-ipv4",
        "meta-data/mac",
        "meta-data/placement/availability-zone",
        "meta-data/placement/availability-zone-id",
        "meta-data/placement/region",
        "meta-data/services/domain",
        "meta-data/services/partition",
    ]


def test_what_is_not_known_is_absent_and_not_listed() -> None:
    place = Instance(instance_id="i-0123456789abcdef0", read_at=START)
    tree = tree_of(place, with_iam=False)

    assert text_at(tree, ("meta-data",)) == "ami-id\ninstance-id\ninstance-type"
    assert text_at(tree, ("dynamic", "instance-identity", "document")) is None
    assert identity_document(place) is None


def test_a_zone_without_a_region_is_not_served() -> None:
    tree = tree_of(replace(NOWHERE, availability_zone="eu-central-1b"), with_iam=False)

    assert text_at(tree, ("meta-data", "placement", "availability-zone")) is None


def test_a_configured_zone_is_served_as_it_is() -> None:
    place = replace(INSTANCE, availability_zone="eu-central-1c")
    tree = tree_of(place, with_iam=False)

    assert text_at(tree, ("meta-data", "placement", "availability-zone")) == "eu-central-1c"
    assert text_at(tree, ("meta-data", "placement", "availability-zone-id")) == "euc1-az3"
    assert json.loads(identity_document(place) or "")["availabilityZone"] == "eu-central-1c"


@pytest.mark.parametrize(
    ("region", "zone", "expected"),
    [
        ("us-east-1", "us-east-1a", "use1-az1"),
        ("us-west-2", "us-west-2d", "usw2-az4"),
        ("ap-southeast-2", "ap-southeast-2b", "apse2-az2"),
        ("us-gov-west-1", "us-gov-west-1a", "usgw1-az1"),
        ("cn-northwest-1", "cn-northwest-1a", "cnnw1-az1"),
        ("us-west-2", "us-west-2-lax-1a", None),
        ("nowhere", "nowherea", None),
    ],
)
def test_zone_ids_have_awss_form(region: str, zone: str, expected: str | None) -> None:
    assert zone_id(region, zone) == expected


@pytest.mark.parametrize(
    ("region", "partition", "domain"),
    [
        ("eu-central-1", "aws", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-east-1", "aws-us-gov", "amazonaws.com"),
    ],
)
def test_the_partition_follows_the_region(region: str, partition: str, domain: str) -> None:
    tree = tree_of(replace(INSTANCE, region=region), with_iam=False)

    assert text_at(tree, ("meta-data", "services", "partition")) == partition
    assert text_at(tree, ("meta-data", "services", "domain")) == domain


@given(st.text())
def test_an_instance_id_is_stable_and_does_not_show_the_machine_id(machine_id: str) -> None:
    instance_id = instance_id_from(machine_id)

    assert re.fullmatch(r"i-[0-9a-f]{17}", instance_id)
    assert instance_id_from(machine_id + "\n") == instance_id
    assert len(machine_id) < 5 or machine_id not in instance_id


def test_two_machines_have_two_instance_ids() -> None:
    assert instance_id_from("a" * 32) != instance_id_from("b" * 32)
