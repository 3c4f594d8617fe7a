"""What a daemon without an AWS identity never loads."""

import asyncio
import sys
from pathlib import Path

from broker.sandbox import Sandbox

PROGRAM = """
import asyncio, sys
from pathlib import Path
from broker.clock import SystemClock
from broker.keeper import Keeper
from broker.sources.aws.assume_role import AssumedRole, StsClient
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import identity_source
from broker.credentials import Role

async def main(iam_url, sts_url, token_file):
    clock = SystemClock()
    role = Role(name="deploy", arn="arn:aws:iam::123456789012:role/deploy", region="eu-central-1")
    async with HttpClient() as http, asyncio.TaskGroup() as tasks:
        iam = NamespaceIam(http, iam_url)
        identity = Keeper("identity/default", identity_source(
            source="token-file", token_file=Path(token_file), token_spec=None, environ={},
            iam=iam, http=http, clock=clock), clock=clock)
        running = tasks.create_task(identity.run())
        token = IdTokenFor("sts.amazonaws.com", bearer=identity, iam=iam, clock=clock)
        sts = StsClient(http, clock=clock, endpoint=sts_url)
        lease = await AssumedRole(role, token=token, sts=sts, warn=print).fetch()
        running.cancel()
    return lease.value.account_id

print(asyncio.run(main(*sys.argv[1:])))
print(sorted({"aiobotocore", "botocore", "jwt", "cryptography"} & sys.modules.keys()))
"""


async def test_credentials_are_had_without_botocore_or_cryptography(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    token_file = tmp_path / "token.json"
    sandbox.namespace.write_token_file(token_file)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        sandbox.namespace.url,
        sandbox.aws.url,
        str(token_file),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert output.decode().split("\n")[:2] == ["123456789012", "[]"]
