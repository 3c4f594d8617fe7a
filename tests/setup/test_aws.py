"""AWS as setup calls it: whose identity, which address, and what each refusal says."""

from typing import Any

import pytest
from botocore.session import get_session

from broker.config import ConfigError
from broker.lease import SourceError, Unavailable
from broker.sandbox import Sandbox
from broker.setup.aws import AwsApi, AwsEndpoints, AwsRefused, AwsService, services_in
from tests.support.setup import Impatient, Open


async def refused(api: AwsApi, operation: str, **said: Any) -> SourceError:
    with pytest.raises(SourceError) as error:
        await api.call("iam", operation, **said)
    return error.value


async def test_account_and_partition_are_those_of_the_callers_identity(opened: Open) -> None:
    async with opened() as aws:
        place = aws.target("ws_1")

    assert (place.account, place.partition, place.region) == ("123456789012", "aws", "eu-central-1")


async def test_another_account_than_was_said_is_not_worked_in(
    sandbox: Sandbox, opened: Open
) -> None:
    with pytest.raises(ConfigError, match=r"--account: is 9+, and .* to 123456789012"):
        async with opened(account="999999999999"):
            raise AssertionError

    assert [call.operation for call in sandbox.aws.calls] == ["GetCallerIdentity"]


def test_iam_is_signed_for_the_region_of_its_partition() -> None:
    regions = {
        partition: services_in("x", AwsEndpoints(), partition=partition)["iam"].region
        for partition in ("aws", "aws-cn", "aws-us-gov")
    }

    assert regions == {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


@pytest.mark.parametrize(
    ("partition", "region", "iam", "domain"),
    [
        ("aws", "eu-central-1", "https://iam.amazonaws.com", "amazonaws.com"),
        ("aws", "us-east-1", "https://iam.amazonaws.com", "amazonaws.com"),
        ("aws-cn", "cn-northwest-1", "https://iam.cn-north-1.amazonaws.com.cn", "amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-east-1", "https://iam.us-gov.amazonaws.com", "amazonaws.com"),
    ],
)
def test_each_partition_has_its_addresses_and_sts_is_the_regions_own(
    partition: str, region: str, iam: str, domain: str
) -> None:
    services = services_in(region, AwsEndpoints(), partition=partition)

    addresses = {name: address_of(service) for name, service in services.items()}

    assert addresses == {
        "iam": iam,
        "sts": f"https://sts.{region}.{domain}",
        "cognito-identity": f"https://cognito-identity.{region}.{domain}",
    }


def address_of(service: AwsService) -> str:
    """Return where botocore sends the service's calls."""
    client = get_session().create_client(
        service.name,
        region_name=service.region,
        endpoint_url=service.endpoint,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    return str(client.meta.endpoint_url)


async def test_a_missing_permission_is_named(sandbox: Sandbox, opened: Open) -> None:
    sandbox.fail("GetRole", status=403, code="AccessDenied", message="not authorized")

    async with opened() as aws:
        error = await refused(aws.api, "GetRole", RoleName="deploy")

    assert str(error) == (
        "GetRole (IAM) answered AccessDenied: not authorized; "
        "allow iam:GetRole to this AWS identity, or give another by --profile"
    )


async def test_of_two_permissions_that_a_call_takes_the_missing_one_is_named(
    sandbox: Sandbox, opened: Open
) -> None:
    said = "User: me is not authorized to perform: iam:TagRole on resource: role deploy"
    sandbox.fail("CreateRole", status=403, code="AccessDenied", message=said)

    async with opened() as aws:
        error = await refused(aws.api, "CreateRole", **SAID["CreateRole"])

    assert "; allow iam:TagRole to this AWS identity" in str(error)


REFUSALS = [
    ("CreateRole", 409, "EntityAlreadyExists", "run the command again"),
    ("CreateRole", 400, "MalformedPolicyDocument", "correct the policy"),
    ("CreateRole", 409, "LimitExceeded", "a quota of the account is used up"),
    ("CreateRole", 400, "InvalidInput", "correct the flag"),
    ("UpdateAssumeRolePolicy", 404, "NoSuchEntity", "it no longer exists, or never did"),
    ("UpdateAssumeRolePolicy", 400, "UnmodifiableEntity", "belongs to an AWS service"),
    ("DeleteRole", 409, "DeleteConflict", "something still uses it"),
    ("GetRole", 403, "InvalidClientTokenId", "renew this machine's AWS credentials"),
    ("GetRole", 403, "ExpiredToken", "renew this machine's AWS credentials"),
    ("GetRole", 403, "SignatureDoesNotMatch", "check this machine's clock"),
    ("GetRole", 400, "SomethingNew", "correct the flags"),
]
SAID = {
    "CreateRole": {"RoleName": "x", "AssumeRolePolicyDocument": "{}"},
    "UpdateAssumeRolePolicy": {"RoleName": "x", "PolicyDocument": "{}"},
    "DeleteRole": {"RoleName": "x"},
    "GetRole": {"RoleName": "x"},
}


@pytest.mark.parametrize(("operation", "status", "code", "next_step"), REFUSALS)
async def test_a_refusal_is_told_with_its_code_and_what_to_do(
    sandbox: Sandbox, opened: Open, operation: str, status: int, code: str, next_step: str
) -> None:
    sandbox.fail(operation, status=status, code=code, message="because")

    async with opened() as aws:
        error = await refused(aws.api, operation, **SAID[operation])

    assert isinstance(error, AwsRefused)
    assert error.code == code
    assert str(error).startswith(f"{operation} (IAM) answered {code}: because; ")
    assert next_step in str(error)
    assert len(sandbox.aws.calls_of(operation)) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "ServiceFailure"),
        (503, "ServiceUnavailable"),
        (400, "Throttling"),
        (409, "ConcurrentModification"),
        (400, "OpenIdIdpCommunicationError"),
        (502, None),
    ],
)
async def test_a_passing_fault_is_asked_again(
    sandbox: Sandbox, opened: Open, status: int, code: str | None
) -> None:
    sandbox.aws.add_role("deploy", trust_policy=sandbox.guide_trust())
    sandbox.fail("GetRole", status=status, code=code, message="later", count=2)
    clock = Impatient()

    async with opened(clock) as aws:
        told = await aws.api.call("iam", "GetRole", RoleName="deploy")

    assert told["Role"]["RoleName"] == "deploy"
    assert clock.slept == [1.0, 2.0]


async def test_a_fault_that_does_not_pass_is_told_after_three_attempts(
    sandbox: Sandbox, opened: Open
) -> None:
    sandbox.fail("GetRole", reset=True)
    clock = Impatient()

    async with opened(clock) as aws:
        error = await refused(aws.api, "GetRole", RoleName="deploy")

    assert isinstance(error, Unavailable)
    assert clock.slept == [1.0, 2.0]


@pytest.mark.parametrize("body", ["<!doctype html>", "", "<html></html>"])
async def test_an_answer_that_is_not_awss_says_which_variable_may_be_wrong(
    sandbox: Sandbox, opened: Open, body: str
) -> None:
    sandbox.fail("GetRole", status=403, body=body)

    async with opened(Impatient()) as aws:
        error = await refused(aws.api, "GetRole", RoleName="deploy")

    assert "AWS_ENDPOINT_URL_IAM" in str(error)


async def test_what_cannot_be_sent_is_told_as_such(opened: Open) -> None:
    async with opened() as aws:
        error = await refused(aws.api, "GetRole")

    assert "was not called" in str(error)
