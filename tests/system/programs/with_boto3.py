"""Who am I? As any program with boto3 asks, with nothing said of credentials."""

import boto3

print(boto3.client("sts").get_caller_identity()["Arn"])
