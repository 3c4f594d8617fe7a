"""Ask AWS who this is, as any program with boto3 does, with no credentials configured."""

import boto3

print(boto3.client("sts").get_caller_identity()["Arn"])
