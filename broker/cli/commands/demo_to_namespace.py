"""The demo's other direction: exchange an AWS identity for a Namespace token and renew it."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.commands.demo import PROGRAM_LIMIT_S, RENEWAL_S, python, say, until_interrupted
from broker.cli.environment import Variables
from broker.cli.errors import Failure
from broker.cli.output import rendered

if TYPE_CHECKING:
    from broker.daemon.lifecycle import Broker
    from broker.sandbox import Sandbox

WORKSPACE = "ws_1"

# What nsc and the Namespace SDKs do with the file, or with the address in the spec.
BY_FILE = """
import json, os, urllib.request
bearer = json.load(open(os.environ["NSC_TOKEN_FILE"]))["bearer_token"]
"""
BY_SPEC = """
import base64, json, os, urllib.request
spec = os.environ["NSC_TOKEN_SPEC"]
url = json.loads(base64.b64decode(spec + "=" * (-len(spec) % 4)))["metadata_url"]
bearer = urllib.request.urlopen(url + "/workload_token").read().decode()
"""
GET_TENANT = """
request = urllib.request.Request(
    os.environ["NSC_IAM_ENDPOINT"] + "/nsl.tenants.TenantsService/GetTenant",
    data=b"{}",
    headers={"Content-Type": "application/json", "Authorization": "Bearer " + bearer},
)
tenant = json.load(urllib.request.urlopen(request))["tenant"]
print(tenant["name"], tenant["tenant_id"])
"""

CONFIG = """
[identities.default]
source = "sts"
workspace = "{workspace}"
region = "{region}"

[namespace_tokens.default]
file = "{file}"
http = true

[container]
listen = ["127.0.0.1:0"]

[ops]
listen = ["127.0.0.1:0"]
"""


async def demonstrate(*, stay: bool) -> int:
    from broker.config import Flags, load
    from broker.daemon.lifecycle import run_broker
    from broker.daemon.runtime import Runtime
    from broker.sandbox import Sandbox
    from broker.telemetry.log import logger

    with tempfile.TemporaryDirectory(prefix="namespace-broker-demo-") as folder:
        home = Path(folder)
        async with Sandbox(workspace=WORKSPACE) as sandbox:
            role_arn = sandbox.guide_by_sts("builder")
            aws = sandbox.aws_environment(role_arn)
            become(aws)
            environ = {**aws, **sandbox.environment(), "HOME": folder}
            file = home / "nsc" / "token.json"
            config_file = home / "config.toml"
            config_file.write_text(
                CONFIG.format(workspace=WORKSPACE, region=aws["AWS_REGION"], file=file)
            )
            flags = Flags(config=str(config_file), runtime_dir=str(home / "run"))
            runtime = Runtime(
                environ=environ,
                log=logger(form="auto", level="warning"),
                renew_within_s=RENEWAL_S,
            )
            async with run_broker(load(flags, environ), runtime) as broker:
                show = TokenDemo(sandbox=sandbox, broker=broker, role_arn=role_arn, file=file)
                show.what_runs()
                await show.proof()
                show.how_to_use()
                await (show.until_interrupted() if stay else show.one_renewal())
    return 0


def become(aws: Mapping[str, str]) -> None:
    """Replace this process's AWS identity by the sandbox's role.

    The AWS credential chain reads the process's own environment.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(aws, AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDemo:
    """The output and the proof of this demo."""

    sandbox: Sandbox
    broker: Broker
    role_arn: str
    file: Path

    @property
    def exports(self) -> dict[str, str]:
        """Return the variables that nsc and the Namespace SDKs need."""
        return {
            "NSC_TOKEN_FILE": str(self.file),
            "NSC_TOKEN_SPEC": str(self.broker.client["namespace"]["token_spec"]),
            "NSC_IAM_ENDPOINT": self.sandbox.namespace.url,
        }

    def what_runs(self) -> None:
        say("Running on loopback, in this one process:")
        say(f"  AWS STS (sandbox)      {self.sandbox.aws.url}")
        say(f"  Namespace (sandbox)    {self.sandbox.namespace.url}")
        say(f"  broker, token spec     {self.broker.endpoints.container[0]}/nsc/v1/...")
        say(f"  broker, operations     {self.broker.endpoints.ops[0]}/readyz  /metrics")
        say(f"\nThe workload is the AWS role {self.role_arn}.")
        say("The workspace trusts it: issuer, subject and audience are checked at each exchange.")

    def how_to_use(self) -> None:
        """Write the variables to a file, and print the line that takes them."""
        file = self.file.parent / "demo.env"
        file.write_text(rendered(Variables(self.exports), "shell", {}))
        file.chmod(0o600)
        say(f"\nTo use it from another shell, paste:\n\n  . {file}")

    async def proof(self) -> None:
        say("\nProof: programs that have a few variables and no keys")
        await self.file_written()
        for name, reading in (("token file", BY_FILE), ("token spec", BY_SPEC)):
            say(f"  by {name}:  GetTenant  {await self.tenant(reading)}")

    async def file_written(self) -> None:
        async with asyncio.timeout(PROGRAM_LIMIT_S):
            while not self.file.exists():  # noqa: ASYNC110 - it is written by another task
                await asyncio.sleep(0.02)

    async def tenant(self, reading: str) -> str:
        known: dict[str, str] = {"PATH": os.environ.get("PATH", os.defpath), **self.exports}
        (shown,) = await python(reading + GET_TENANT, environment=known)
        if not self.sandbox.namespace.calls_of("GetTenant"):
            raise Failure("demo", "the sandbox saw no call with the broker's token")
        return shown

    async def one_renewal(self) -> None:
        say(f"\nTokens last an hour; here they are renewed every {RENEWAL_S:g} s. Waiting ...")
        await self.renewed()
        say("\nDone.")

    async def until_interrupted(self) -> None:
        say(f"\nTokens last an hour; here they are renewed every {RENEWAL_S:g} s. Ctrl-C ends it.")
        await until_interrupted(self.renewals())
        say("\nEnded.")

    async def renewals(self) -> None:
        while True:
            await self.renewed()

    async def renewed(self) -> None:
        """Wait for another token in the file, and show that it works."""
        before = self.in_file()
        keeper = self.broker.pipelines.identities["default"]
        while self.in_file() == before:
            await keeper.change(keeper.current(), within_s=1.0)
        say(f"  renewed in {self.file.name}; GetTenant  {await self.tenant(BY_FILE)}")

    def in_file(self) -> Any:
        return json.loads(self.file.read_text())
