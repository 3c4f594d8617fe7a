"""AWS clients as programs of their own: what is run, and how it ended."""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUCKET = "clients"
PROGRAMS = Path(__file__).parent / "programs"
SCRIPTS = Path(sys.executable).parent
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended; a negative code is the signal that ended it."""

    code: int
    output: str
    errors: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client, the operation that it calls once, and how it says that it found no keys."""

    name: str
    argv: tuple[str, ...]
    operation: str
    complaint: str

    def run(self, environ: Mapping[str, str]) -> Ran:
        """Let it call once, in a process that has *environ* only."""
        return run(*self.argv, environ=environ)


def run(*argv: str, environ: Mapping[str, str]) -> Ran:
    """Run a program to its end, with one line on its stdin."""
    began_at_s = time.monotonic()
    done = subprocess.run(
        argv, env=environ, input="once\n", text=True, capture_output=True, timeout=LIMIT_S
    )
    return Ran(
        code=done.returncode,
        output=done.stdout,
        errors=done.stderr,
        took_s=time.monotonic() - began_at_s,
    )


def program(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(PROGRAMS / f"{name}.py"), *arguments)


BOTO3 = Client(
    name="boto3",
    argv=program("with_boto3"),
    operation="GetCallerIdentity",
    complaint="credentials",
)
AIOBOTOCORE = Client(
    name="aiobotocore",
    argv=program("with_aiobotocore"),
    operation="GetCallerIdentity",
    complaint="credentials",
)
AWS_CLI = Client(
    name="aws-cli",
    argv=(str(SCRIPTS / "aws"), "sts", "get-caller-identity"),
    operation="GetCallerIdentity",
    complaint="credentials",
)
AWSCRT = Client(
    name="awscrt",
    argv=program("with_awscrt"),
    operation="GetCallerIdentity",
    complaint="AwsCrtError",
)
OBSTORE = Client(
    name="obstore",
    argv=program("with_obstore", BUCKET),
    operation="PutObject",
    complaint="404",
)
CLIENTS = (BOTO3, AIOBOTOCORE, AWS_CLI, AWSCRT, OBSTORE)
