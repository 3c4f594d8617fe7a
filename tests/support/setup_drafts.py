"""Drafts of each direction, as the tests of rendering write them down."""

from __future__ import annotations

from collections.abc import Mapping

from broker.setup import to_aws
from broker.setup.aws import Target
from broker.setup.documents import Document
from broker.setup.render import Draft
from broker.setup.resources import DesiredResource
from broker.setup.to_aws import ToAwsRequest
from broker.setup.to_namespace import CognitoRequest, StsRequest, desired_by_cognito, desired_by_sts
from tests.support.setup import PLACE, READ_ONLY

POOL_ID = "eu-central-1:6f0a1111-2222-3333-4444-555566667777"
READING: Document = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": "arn:aws:s3:::bucket/${aws:username}/*",
            "Condition": {
                "Bool": {"aws:SecureTransport": True},
                "NumericLessThan": {"s3:max-keys": 10},
            },
        }
    ],
}


def draft(*wanted: DesiredResource, place: Target = PLACE, profile: str | None = None) -> Draft:
    return Draft(
        title="What is wanted",
        desired=wanted,
        target=place,
        command=("namespace-broker", "setup"),
        next_command=("namespace-broker", "run"),
        profile=profile,
    )


def to_aws_draft(
    *,
    subject: str | None = None,
    policies: Mapping[str, Document] | None = None,
    place: Target = PLACE,
) -> Draft:
    """Everything that `setup to-aws` may be asked for."""
    asked = ToAwsRequest(
        role_name="deploy",
        subject=subject,
        policy_arns=(READ_ONLY,),
        policies={"reading": READING} if policies is None else policies,
        max_session_duration_s=7200,
    )
    return draft(*to_aws.desired_resources(asked, place), place=place)


def sts_draft(asked: StsRequest | None = None) -> Draft:
    asked = asked or StsRequest(role_name="builder")
    return draft(*desired_by_sts(asked, PLACE, role_arn=PLACE.role_arn(asked.role_name)))


def cognito_draft(asked: CognitoRequest | None = None) -> Draft:
    return draft(*desired_by_cognito(asked or CognitoRequest(role_name="builder"), PLACE))


DRAFTS: Mapping[str, Draft] = {
    "to-aws": to_aws_draft(),
    "sts": sts_draft(),
    "cognito": cognito_draft(),
    "cognito-by-id": cognito_draft(CognitoRequest(role_name="builder", pool_id=POOL_ID)),
}
