"""An AWS workload that hands its Namespace token on, and how readers find that token."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.sandbox import Sandbox
from tests.support.broker_process import ANYWHERE, LIMIT_S, BrokerProcess, broker_process
from tests.support.namespace_sdk import load_defaults
from tests.support.nsc import Nsc

PROJECT = Path(__file__).parents[2]
GET_TENANT = "nsl.tenants.TenantsService/GetTenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Programs of the AWS role *arn*.

    *identity* is the broker's ``[identities.aws]``, *file* where it writes the token.
    """

    sandbox: Sandbox
    folder: Path
    arn: str
    identity: str
    file: Path
    aws: Mapping[str, str] = field(repr=False)

    @contextmanager
    def broker(
        self, *flags: str, config: str | None = None, environ: Mapping[str, str] | None = None
    ) -> Iterator[BrokerProcess]:
        """Run a broker for the block that hands the token on by file and address.

        *environ* stands in place of the role's keys.
        """
        path = self.folder / "config.toml"
        path.write_text(config or handing_on(self.file, self.identity))
        with broker_process(
            self.sandbox,
            self.folder,
            *("--config", str(path), "--runtime-dir", str(self.folder / "run")),
            *("--container", ANYWHERE, "--ops", ANYWHERE, "--log-format", "json"),
            *flags,
            environ={"AWS_EC2_METADATA_DISABLED": "true", **(environ or self.aws)},
            defaults=False,
        ) as broker:
            yield broker

    def refusal(
        self, *flags: str, config: str | None = None, environ: Mapping[str, str] | None = None
    ) -> str:
        """Return the line with which a broker ends that does not start: wrong use, exit 2."""
        with self.broker(*flags, config=config, environ=environ) as broker:
            assert broker.process.wait(LIMIT_S) == 2
        *_, line = (self.folder / "log-0").read_text().splitlines()
        assert line.startswith("namespace-broker: ")
        return line

    def by_file(self) -> Nsc:
        """Return nsc in an environment that names the file."""
        return self.nsc(NSC_TOKEN_FILE=str(self.file))

    def by_spec(self) -> Nsc:
        """Return nsc in an environment that has the spec that our `env` prints, and no more."""
        return self.nsc(NSC_TOKEN_SPEC=self.told()["NSC_TOKEN_SPEC"])

    def nsc(self, **environ: str) -> Nsc:
        return Nsc(environ=environ, config=self.folder / "nothing-here", older=True)

    def by_sdk(self) -> str:
        """Return what the Go and TypeScript SDKs would send."""
        named = {"NSC_TOKEN_FILE": str(self.file)}
        return load_defaults(named, config=self.folder / "nothing-here")

    def told(self) -> dict[str, str]:
        """Return the variables that `namespace-broker env` prints."""
        printed: dict[str, str] = json.loads(self.command("env", "--for", "json"))
        return printed

    def command(self, *words: str) -> str:
        """Return what one of our commands prints, to the broker's own user."""
        runtime_dir = ("--runtime-dir", str(self.folder / "run"))
        return subprocess.run(
            [sys.executable, "-m", "broker", *words, *runtime_dir],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "XDG_RUNTIME_DIR": str(self.folder),
            },
            cwd=PROJECT,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            timeout=LIMIT_S,
        ).stdout


def workload_by(sandbox: Sandbox, folder: Path, *, source: str) -> Workload:
    """Return a workload that Namespace trusts as the guide has it, by sts or cognito."""
    identity = f'source = "{source}"\nworkspace = "{sandbox.namespace.workspace}"'
    if source == "cognito":
        arn, pool_id = sandbox.guide_by_cognito()
        identity += f'\nidentity_pool = "{pool_id}"'
    else:
        arn = sandbox.guide_by_sts()
    return Workload(
        sandbox=sandbox,
        folder=folder,
        arn=arn,
        identity=identity,
        file=folder / "nsc" / "token.json",
        aws=sandbox.aws_environment(arn),
    )


def handing_on(file: Path, identity: str = 'source = "auto"') -> str:
    """Return the configuration that hands a token on in *file* and by address."""
    return f"""
[identities.aws]
{identity}

[namespace_tokens.aws]
file = "{file}"
http = true
"""


def workspace_of(sandbox: Sandbox, bearer: str) -> str:
    """Return the name of the workspace that Namespace takes *bearer* for."""
    request = urllib.request.Request(
        f"{sandbox.namespace.url}/{GET_TENANT}",
        data=b"{}",
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LIMIT_S) as answer:
        return str(json.load(answer)["tenant"]["name"])
