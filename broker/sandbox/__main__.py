"""Run a sandbox until SIGTERM or SIGINT: python -m broker.sandbox.

Prints one line of JSON once it listens: where, and what to set for a broker and for clients.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from broker.sandbox import Sandbox
from broker.sandbox.aws.server import DEFAULT_ACCOUNT
from broker.sandbox.keys import compact_json


async def serve(options: argparse.Namespace) -> None:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    sandbox = Sandbox(
        s3=options.s3,
        host=options.host,
        advertised_host=options.advertised_host,
        namespace_port=options.namespace_port,
        aws_port=options.aws_port,
        account=options.account,
        partition=options.partition,
        region=options.region,
        empty=options.empty,
    )
    async with sandbox:
        sandbox.aws.propagation_s = options.propagation_s
        if options.sts_delay_s:
            sandbox.fail("AssumeRoleWithWebIdentity", delay_s=options.sts_delay_s)
        sys.stdout.write(
            compact_json(_description(sandbox, options.token_file, options.to_namespace)) + "\n"
        )
        sys.stdout.flush()
        await leave.wait()


def _description(
    sandbox: Sandbox, token_file: Path | None, to_namespace: bool
) -> dict[str, object]:
    if token_file is not None:
        sandbox.namespace.write_token_file(token_file)
    return {
        "namespace": sandbox.namespace.url,
        "aws": sandbox.aws.url,
        "role_arn": sandbox.role_arn,
        "provider_arn": sandbox.provider_arn,
        "workspace": sandbox.namespace.workspace,
        "token_file": str(token_file) if token_file else None,
        "token_spec": sandbox.namespace.token_spec(),
        "environment": sandbox.environment(),
        "client_environment": sandbox.client_environment(),
        "administrator": sandbox.administrator_environment(),
        "workload": _workload(sandbox) if to_namespace else None,
    }


def _workload(sandbox: Sandbox) -> dict[str, object]:
    """Describe an AWS workload that may log in at Namespace, by STS and by Cognito."""
    arn = sandbox.guide_by_sts()
    _, pool_id = sandbox.guide_by_cognito()
    return {
        "role_arn": arn,
        "issuer": sandbox.aws.enable_outbound_federation(),
        "identity_pool": pool_id,
        "environment": sandbox.aws_environment(arn),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m broker.sandbox", description=__doc__)
    parser.add_argument("--s3", action="store_true", help="with moto's S3 (needs moto)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--advertised-host", help="host in the printed URLs, if another")
    parser.add_argument("--namespace-port", type=int, default=0)
    parser.add_argument("--aws-port", type=int, default=0)
    parser.add_argument("--account", default=DEFAULT_ACCOUNT, help="id of the AWS account")
    parser.add_argument("--partition", default="aws", choices=("aws", "aws-cn", "aws-us-gov"))
    parser.add_argument("--region", help="the only one that signatures may be scoped to")
    parser.add_argument(
        "--empty", action="store_true", help="with neither OIDC provider nor role in the account"
    )
    parser.add_argument(
        "--propagation-s", type=float, default=0.0, help="STS sees IAM's changes that much later"
    )
    parser.add_argument(
        "--sts-delay-s", type=float, default=0.0, help="STS takes that long to give credentials"
    )
    parser.add_argument("--token-file", type=Path, help="write a Namespace token file here")
    parser.add_argument(
        "--to-namespace", action="store_true", help="with an AWS workload that may log in"
    )
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
