"""IAM as one service: all its operations here. Answers none itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from broker.sandbox.aws.accounts import Accounts
from broker.sandbox.aws.iam_providers import OidcProviders
from broker.sandbox.aws.iam_role_policies import RolePolicies
from broker.sandbox.aws.iam_roles import Roles
from broker.sandbox.aws.operations import Operation

VERSION = "2010-05-08"
XML_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"

_SIGNING_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


def signing_region(partition: str) -> str:
    """Return the region that requests to a partition's IAM are signed for: it has only one."""
    return _SIGNING_REGIONS[partition]


def operations(
    accounts: Accounts, *, now: Callable[[], datetime], reachable: Callable[[str], bool]
) -> Mapping[str, Operation]:
    providers = OidcProviders(accounts, now=now, reachable=reachable)
    return {
        **providers.operations,
        **Roles(accounts).operations,
        **RolePolicies(accounts).operations,
    }
