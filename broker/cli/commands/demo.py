"""`demo`: both clouds and the broker on loopback in one process, used by real AWS clients."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.environment import Variables, container_variables, imds_variables
from broker.cli.errors import Failure
from broker.cli.output import rendered
from broker.cli.parser import SWITCH, Flag

if TYPE_CHECKING:
    from broker.cli.parser import Options
    from broker.credentials import AwsCredentials
    from broker.daemon.lifecycle import Broker
    from broker.sandbox import Sandbox

DESCRIPTION = """Try the broker on this machine: no account, no root, no configuration.

Starts a sandbox Namespace and a sandbox AWS, which check requests as the real ones do, and a broker
between them, on free loopback ports. Then boto3 and the AWS CLI, which are given a few environment
variables and no keys, ask AWS who they are and copy a file to S3.

On a terminal it runs until Ctrl-C, so that you can try it from another one.

    namespace-broker demo
"""

FLAGS = (
    Flag("once", "Exit after the proof, even on a terminal.", kind=SWITCH),
    Flag(
        "to-namespace",
        "Show the other direction: exchange an AWS identity for a Namespace token.",
        kind=SWITCH,
    ),
)

PROGRAM_LIMIT_S = 45.0
INSTALL = f"{sys.executable} -m pip install boto3 'moto[s3]' flask flask-cors"
RENEWAL_S = 20.0
"""How often leases are renewed here, so that it can be seen. They last an hour, as real ones do."""

IDENTITY = """
import boto3
session = boto3.session.Session()
print(session.client("sts").get_caller_identity()["Arn"])
print(session.get_credentials().access_key)
"""

COPY = """
import sys, boto3
s3 = boto3.client("s3")
s3.upload_file(sys.argv[1], sys.argv[2], "test2.txt")
print(s3.get_object(Bucket=sys.argv[2], Key="test2.txt")["Body"].read().decode().strip())
"""


def run(options: Options) -> int:
    missing = [name for name in ("boto3", "moto", "flask") if not importlib.util.find_spec(name)]
    if missing:
        raise Failure(
            "demo",
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            INSTALL,
        )
    stay = sys.stdout.isatty() and sys.stdin.isatty() and not options.switch("once")
    if options.switch("to-namespace"):
        from broker.cli.commands.demo_to_namespace import demonstrate as the_other_direction

        return asyncio.run(the_other_direction(stay=stay))
    return asyncio.run(demonstrate(stay=stay))


async def demonstrate(*, stay: bool) -> int:
    from broker.daemon.lifecycle import run_broker
    from broker.daemon.runtime import Runtime
    from broker.sandbox import Sandbox
    from broker.telemetry.log import logger

    with tempfile.TemporaryDirectory(prefix="namespace-broker-demo-") as folder:
        home = Path(folder)
        async with Sandbox(s3=True) as sandbox:
            token = home / "token.json"
            sandbox.namespace.write_token_file(token)
            environ = {**sandbox.environment(), "NSC_TOKEN_FILE": str(token), "HOME": folder}
            runtime = Runtime(
                environ=environ,
                log=logger(form="auto", level="warning"),
                renew_within_s=RENEWAL_S,
            )
            config = loopback_config(sandbox, environ, home)
            async with run_broker(config, runtime) as broker:
                show = CredentialsDemo(sandbox=sandbox, broker=broker, home=home)
                show.what_runs()
                await show.proof()
                show.how_to_use()
                await (show.until_interrupted() if stay else show.one_renewal())
    return 0


def loopback_config(sandbox: Sandbox, environ: Mapping[str, str], home: Path) -> Any:
    from broker.config import Flags, load

    anywhere = "127.0.0.1:0"
    flags = Flags(
        config=os.devnull,
        role_arns=(sandbox.role_arn,),
        region="us-east-1",
        imds=(anywhere,),
        container=(anywhere,),
        ops=(anywhere,),
        runtime_dir=str(home / "run"),
    )
    return replace(load(flags, environ), state_dir=home / "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way for a program to find the broker: its name and its variables."""

    name: str
    file: str
    variables: Variables

    def environment(self, home: Path) -> dict[str, str]:
        """Return a program's whole environment: these variables, PATH and HOME."""
        known = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home)}
        return {**known, **self.variables.set}


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsDemo:
    """The output and the proof of the demo."""

    sandbox: Sandbox
    broker: Broker
    home: Path

    def ways(self) -> Sequence[Way]:
        client = self.broker.client
        token_file = self.home / "container.token"
        if not token_file.exists():
            descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(client["container_token"])
        nothing: dict[str, str] = {}
        found = (
            Way(
                name="IMDS",
                file="imds",
                variables=imds_variables(client, role=None, environ=nothing),
            ),
            Way(
                name="the container endpoint",
                file="container",
                variables=container_variables(
                    client, role=None, token_file=str(token_file), environ=nothing
                ),
            ),
        )
        # Point clients to the sandbox's AWS; a real host needs no such variables.
        sandbox = self.sandbox.client_environment()
        return [replace(way, variables=with_more(way.variables, sandbox)) for way in found]

    def what_runs(self) -> None:
        endpoints = self.broker.endpoints
        say("Running on loopback, in this one process:")
        say(f"  Namespace (sandbox)    {self.sandbox.namespace.url}")
        say(f"  AWS STS, S3 (sandbox)  {self.sandbox.aws.url}")
        say(f"  broker, IMDS           {endpoints.imds[0]}")
        say(f"  broker, container      {endpoints.container[0]}")
        say(f"  broker, operations     {endpoints.ops[0]}/readyz  /metrics")

    def how_to_use(self) -> None:
        """Write each way's variables to a file, and print the line that takes them."""
        say("\nTo use it from another shell, paste one of these:\n")
        for way in self.ways():
            file = self.home / f"{way.file}.env"
            file.write_text(rendered(way.variables, "shell", {}))
            file.chmod(0o600)
            say(f"  . {file}; aws sts get-caller-identity    # by {way.name}")

    async def proof(self) -> None:
        """Run real AWS clients in each way, and check what reached the sandbox."""
        say("\nProof: programs that have a few variables and no keys")
        for number, way in enumerate(self.ways(), 1):
            say(f"\n  by {way.name}:")
            environment = way.environment(self.home)
            arn, key = await python(IDENTITY, environment=environment)
            self.must_have_arrived(key)
            say(f"    boto3    sts get-caller-identity  {arn}")
            bucket = f"bucket-{number}"
            await python(
                "import sys, boto3; boto3.client('s3').create_bucket(Bucket=sys.argv[1])",
                bucket,
                environment=environment,
            )
            text = self.home / "test.txt"
            text.write_text("hello from a program that holds no key\n")
            (came_back,) = await python(COPY, str(text), bucket, environment=environment)
            say(f"    boto3    s3 upload and read back  {came_back!r}")
            await self.aws_cli(way, text, bucket)
            say(f"    verified by the sandbox: key id ...{key[-4:]}, session token and signature")

    async def aws_cli(self, way: Way, text: Path, bucket: str) -> None:
        aws = aws_command()
        if aws is None:
            say("    aws      not installed here, so not shown")
            return
        environment = way.environment(self.home)
        copied = await output(
            [*aws, "s3", "cp", text.name, f"s3://{bucket}/test3.txt", "--no-progress"],
            environment=environment,
            cwd=self.home,
        )
        say(f"    aws      s3 cp                    {copied[-1]}")

    def must_have_arrived(self, key: str) -> None:
        """Fail unless the sandbox verified a request signed with *key*."""
        if key not in {seen.access_key_id for seen in self.sandbox.aws.verified_identities}:
            raise Failure("demo", "the sandbox saw no request signed with the broker's keys")

    async def one_renewal(self) -> None:
        say(f"\nLeases last an hour; here they are renewed every {RENEWAL_S:g} s. Waiting ...")
        await self.renewed_from(self.key())
        say("\nDone.")

    async def until_interrupted(self) -> None:
        say(f"\nLeases last an hour; here they are renewed every {RENEWAL_S:g} s. Ctrl-C ends it.")
        await until_interrupted(self.renewals())
        say("\nEnded.")

    async def renewals(self) -> None:
        while True:
            await self.renewed_from(self.key())

    async def renewed_from(self, old: AwsCredentials) -> None:
        """Wait for the next renewal, and show that the previous keys still work."""
        while (new := self.key()).access_key_id == old.access_key_id:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        arn, _ = await python(
            IDENTITY,
            environment={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self.home),
                "AWS_ACCESS_KEY_ID": old.access_key_id,
                "AWS_SECRET_ACCESS_KEY": old.secret_access_key,
                "AWS_SESSION_TOKEN": old.session_token,
                **self.sandbox.client_environment(),
            },
        )
        say(
            f"  role/deploy renewed: key ...{new.access_key_id[-4:]};"
            f" ...{old.access_key_id[-4:]} still works ({arn.rpartition(':')[2]})"
        )

    def key(self) -> AwsCredentials:
        (keeper,) = self.broker.pipelines.roles.values()
        return keeper.current().value


def with_more(variables: Variables, more: Mapping[str, str]) -> Variables:
    return Variables(
        {**variables.set, **more},
        must_go=variables.must_go,
        should_go=variables.should_go,
        note=variables.note,
    )


def aws_command() -> list[str] | None:
    """Return the AWS CLI's command: beside this Python, else on the path."""
    beside = Path(sys.executable).with_name("aws")
    if beside.exists():
        return [sys.executable, "-I", str(beside)]
    found = shutil.which("aws")
    return [found] if found else None


async def python(program: str, *arguments: str, environment: Mapping[str, str]) -> Sequence[str]:
    return await output([sys.executable, "-I", "-c", program, *arguments], environment=environment)


async def output(
    command: Sequence[str], *, environment: Mapping[str, str], cwd: Path | None = None
) -> Sequence[str]:
    """Return the lines that *command* prints.

    Raises:
        Failure: It failed or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROGRAM_LIMIT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Failure("demo", f"a program took more than {PROGRAM_LIMIT_S:g} s") from None
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise Failure(
            "demo", f"a program failed: {''.join(last)}", "is something filtering loopback?"
        )
    return output.decode().splitlines()


def say(text: str) -> None:
    print(text, flush=True)


async def until_interrupted(meanwhile: Coroutine[Any, Any, None]) -> None:
    """Run *meanwhile* until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    task = asyncio.create_task(meanwhile)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
    task.cancel()
