"""Facts of AWS in one place: ARNs, partitions, metadata addresses and limits.

Imports nothing: commands that start with every SDK read it too.
"""

from __future__ import annotations

METADATA_HOST, METADATA_HOST_V6 = "169.254.169.254", "fd00:ec2::254"
"""Where EC2 serves instance metadata."""

CONTAINER_HOST = "169.254.170.2"
"""Where ECS serves a task's credentials."""

POD_HOST, POD_HOST_V6 = "169.254.170.23", "fd00:ec2::23"
"""Where EKS Pod Identity serves a pod's credentials."""

METADATA_HOSTS = (METADATA_HOST, CONTAINER_HOST, POD_HOST, METADATA_HOST_V6, POD_HOST_V6)
"""All of them. Source: sdk-client-contract C-1, C-2."""

# Limits. Source: aws-api 3, 4, 5, 6.

SESSION_MIN_S, SESSION_MAX_S = 900, 43200
"""How long a session of a role may last; the role's own maximum may be lower."""

MAX_SESSION_MIN_S, MAX_SESSION_MAX_S = 3600, 43200
"""What a role's MaxSessionDuration may be."""

CHAINED_SESSION_MAX_S = 3600
"""How long a session may last that another session asked for."""

WEB_IDENTITY_MIN_S, WEB_IDENTITY_MAX_S = 60, 3600
"""How long a web identity token of STS may last."""

SESSION_NAME_MAX = 64
POLICY_MAX, POLICY_ARNS_MAX = 2048, 10
"""The characters of a session policy, and how many managed ones may stand beside it."""

TAGS_MAX = 50

# ARNs, as regular expressions; for `re.ASCII`.

ACCOUNT_ID = r"\d{12}"
PARTITION = r"aws(?:-[a-z]+){0,2}"
ROLE_ARN = (
    rf"arn:(?P<partition>{PARTITION}):iam::(?P<account>{ACCOUNT_ID}):"
    r"role/(?:[!-~]{1,510}/)?(?P<name>[\w+=,.@-]{1,64})"
)
POLICY_ARN = (
    rf"arn:{PARTITION}:iam::(?:aws|{ACCOUNT_ID}):policy/(?:[!-~]{{1,510}}/)?[\w+=,.@-]{{1,128}}"
)
REGION = r"[a-z]{2,5}(?:-[a-z]+){1,3}-\d{1,2}"


def role_arn(name: str, *, account: str, partition: str = "aws") -> str:
    """Return the ARN of a role; *name* may have a path before it."""
    return f"arn:{partition}:iam::{account}:role/{name}"


def oidc_provider_arn(issuer: str, *, account: str, partition: str = "aws") -> str:
    """Return the ARN of the OIDC provider for the URL *issuer*. Source: aws-api 6.2."""
    host = issuer.removeprefix("https://")
    return f"arn:{partition}:iam::{account}:oidc-provider/{host}"


def partition_of(arn: str) -> str:
    """Return the partition in *arn*, "aws" where there is none."""
    return _part(arn, 1) or "aws"


def account_of(arn: str) -> str:
    """Return the account in *arn*, "" where there is none."""
    return _part(arn, 4)


def _part(arn: str, index: int) -> str:
    parts = arn.split(":")
    return parts[index] if len(parts) > index and parts[0] == "arn" else ""


# Partitions: the accounts and the STS of one are unknown in every other.

_PREFIXES = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}

DNS_SUFFIXES = {
    # partition: (suffix, suffix of the dual-stack endpoints)
    "aws": ("amazonaws.com", "api.aws"),
    "aws-cn": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "aws-eusc": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "aws-iso": ("c2s.ic.gov", "api.aws.ic.gov"),
    "aws-iso-b": ("sc2s.sgov.gov", "api.aws.scloud"),
    "aws-iso-e": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "aws-iso-f": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    "aws-us-gov": ("amazonaws.com", "api.aws"),
}
"""Tests compare this with botocore's own table."""

IAM_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
"""By partition, the region that IAM is signed for: it has one address in each. Source: aws-api 2.2,
6."""


def partition_of_region(region: str) -> str:
    """Return the partition that *region* belongs to, by how its name begins."""
    return next((name for start, name in _PREFIXES.items() if region.startswith(start)), "aws")


def sts_url(region: str, *, fips: bool = False, dualstack: bool = False) -> str:
    """Return the region's own STS endpoint, never the global one. Source: aws-api 2.2."""
    partition = partition_of_region(region)
    suffix = DNS_SUFFIXES[partition][dualstack]
    # In GovCloud the plain endpoint is the FIPS one, the dual-stack one is not.
    is_plain = partition == "aws-us-gov" and not dualstack
    service = "sts-fips" if fips and not is_plain else "sts"
    return f"https://{service}.{region}.{suffix}"
