"""An administrator's IAM client, and policies to ask about."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.sandbox_clients import client

ACCOUNT = "123456789012"
ISSUER = "https://federation.namespaceapis.com"
PROVIDER_ARN = f"arn:aws:iam::{ACCOUNT}:oidc-provider/federation.namespaceapis.com"
THUMBPRINT = "a053375bfe84e8b748782c7cee15827a6af5a405"


@contextlib.asynccontextmanager
async def iam_of(
    sandbox: Sandbox, keys: IssuedKeys | None = None, *, region: str = "us-east-1"
) -> AsyncIterator[Any]:
    """IAM as *keys*, else as the account's administrator; it leaves all checks to the service."""
    signing = keys or sandbox.aws.administrator()
    async with client("iam", sandbox, signing, region=region, checks=False) as iam:
        yield iam


def statement(**elements: object) -> dict[str, object]:
    """Return a valid statement of a permission policy, but for *elements*; None leaves one out."""
    good = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    return {name: value for name, value in (good | elements).items() if value is not None}


def trusting(**elements: object) -> dict[str, object]:
    """Return a valid statement of a trust policy, but for *elements*; None leaves one out."""
    good = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": "ec2.amazonaws.com"},
    }
    return {name: value for name, value in (good | elements).items() if value is not None}


def policy(*statements: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
