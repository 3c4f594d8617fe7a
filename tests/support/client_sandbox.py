"""Both clouds, a broker and an empty home, for trying clients."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3

from broker.sandbox import Sandbox
from tests.support.client_broker_process import BrokerProcess, broker_process
from tests.support.clients import BUCKET, SCRIPTS

REGION = "us-east-1"
SURFACES = ("imds", "container")
EVERYWHERE = ("--imds", "127.0.0.1:0", "--container", "127.0.0.1:0", "--ops", "127.0.0.1:0")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """*environ* is what every process here has besides: time, where the test moves it."""

    sandbox: Sandbox
    broker: BrokerProcess
    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def bare_environment(self) -> dict[str, str]:
        """Return what any program here has; it says where AWS is, and nothing of keys."""
        path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "HOME": str(self.home)}
        return own | self.sandbox.client_environment() | dict(self.environ)

    def client_environment(self, surface: str) -> dict[str, str]:
        """Return that, and what ``env`` tells of *surface*."""
        return self.bare_environment() | self.broker.tells_clients(surface=surface)


def namespace_identity(sandbox: Sandbox) -> dict[str, str]:
    """Return a broker's environment on a runner: who it is, and where the two clouds are."""
    return {**sandbox.environment(), "NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}


@contextmanager
def world_of(
    sandbox: Sandbox,
    *flags: str,
    folder: Path,
    role_arn: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[World]:
    """Run a broker of *sandbox* for the block, serving both surfaces on free ports."""
    home = folder / "home"
    home.mkdir()
    always = ("--role-arn", role_arn or sandbox.role_arn, "--region", REGION)
    with broker_process(
        *always,
        *(flags or EVERYWHERE),
        folder=folder,
        environ=namespace_identity(sandbox) | dict(environ or {}),
    ) as broker:
        yield World(sandbox=sandbox, broker=broker, home=home, environ=environ or {})


@contextmanager
def world_with_nothing_to_serve(sandbox: Sandbox, *, folder: Path) -> Iterator[World]:
    """Yield the same with a broker whose role trusts another workspace."""
    refused = sandbox.aws.add_role("theirs", trust_policy=sandbox.guide_trust(subject="ws_2/*"))
    with world_of(sandbox, folder=folder, role_arn=refused) as world:
        yield world


def make_bucket(sandbox: Sandbox) -> str:
    """Make the bucket that clients write to. Once for each test: moto's are the whole process's."""
    keys = sandbox.aws.role_session(sandbox.role_arn)
    s3 = boto3.client(
        "s3",
        endpoint_url=sandbox.aws.url,
        region_name=REGION,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token,
    )
    s3.create_bucket(Bucket=BUCKET)
    s3.close()
    return BUCKET
