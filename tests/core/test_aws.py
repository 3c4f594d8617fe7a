"""Facts of AWS, held against botocore's own tables."""

import re

import pytest
from botocore.endpoint_provider import EndpointProvider
from botocore.loaders import Loader

from broker import aws

REGIONS = [
    "us-east-1",
    "eu-central-1",
    "cn-north-1",
    "us-gov-west-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "eu-isoe-west-1",
    "us-isof-south-1",
    "eusc-de-east-1",
]


def partitions() -> list[dict[str, dict[str, str]]]:
    return list(Loader().load_data("partitions")["partitions"])


def test_every_partition_has_the_suffixes_that_botocore_has_for_it() -> None:
    known = {
        str(each["id"]): (each["outputs"]["dnsSuffix"], each["outputs"]["dualStackDnsSuffix"])
        for each in partitions()
    }

    assert known == aws.DNS_SUFFIXES


def test_every_region_that_botocore_knows_is_in_its_partition() -> None:
    for partition in Loader().load_data("endpoints")["partitions"]:
        for region in partition["regions"]:
            assert aws.partition_of_region(region) == partition["partition"]
            assert re.fullmatch(aws.REGION, region, re.ASCII)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("dualstack", [False, True])
def test_the_sts_endpoint_is_the_one_that_botocore_would_ask(
    region: str, fips: bool, dualstack: bool
) -> None:
    rules = Loader().load_service_model("sts", "endpoint-rule-set-1")
    endpoints = EndpointProvider(rules, Loader().load_data("partitions"))

    asked = endpoints.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dualstack)

    assert aws.sts_url(region, fips=fips, dualstack=dualstack) == asked.url


def test_an_arn_is_taken_apart_and_put_together() -> None:
    arn = aws.role_arn("ci/deploy", account="123456789012", partition="aws-cn")

    assert arn == "arn:aws-cn:iam::123456789012:role/ci/deploy"
    assert (aws.partition_of(arn), aws.account_of(arn)) == ("aws-cn", "123456789012")
    assert re.fullmatch(aws.ROLE_ARN, arn, re.ASCII)


@pytest.mark.parametrize("text", ["", "arn", "arn:", "role/x", "a:b:c:d:e:f"])
def test_what_is_no_arn_has_no_account_and_the_default_partition(text: str) -> None:
    assert (aws.partition_of(text), aws.account_of(text)) == ("aws", "")
