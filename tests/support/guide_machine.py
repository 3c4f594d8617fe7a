"""A machine on which somebody follows the guide: our commands, with nsc beside them."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path

from broker.cli.main import main
from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.clients import SCRIPTS
from tests.support.nsc import Nsc
from tests.support.workload import workspace_of

PROJECT = Path(__file__).parents[2]
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    output: str
    errors: str

    def well(self) -> "Done":
        """Return this, of a command that has to have ended well."""
        assert self.code == 0, self.errors
        return self

    def complaint(self, code: int = 1) -> str:
        """Return the one line of a command that has to have failed, warnings left out."""
        assert self.code == code, self.output + self.errors
        said = [line for line in self.errors.splitlines() if ": warning: " not in line]
        (line,) = said
        assert line.startswith("namespace-broker: ")
        return line


class Terminal(io.StringIO):
    """A terminal, at which all of it was typed."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One with a home of its own, in which commands run, and that environment."""

    sandbox: Sandbox
    home: Path
    environ: Mapping[str, str] = field(repr=False)

    def having(self, **environ: str) -> "Machine":
        """Return the machine with these variables too."""
        return replace(self, environ={**self.environ, **environ})

    def being(self, role_arn: str) -> "Machine":
        """Return the machine with keys of that role, as AWS Lambda has them."""
        return self.having(**self.sandbox.aws_environment(role_arn))

    def does(self, *words: str) -> Done:
        """Run one of our commands to its end."""
        return self.runs(sys.executable, "-m", "broker", *words)

    def does_here(self, *words: str, typed: str | None = None) -> Done:
        """Run one of our commands in this process, which saves starting one.

        With *typed* it runs at a terminal on which somebody types that.
        """
        output, errors = io.StringIO(), io.StringIO()
        kept, variables, read = dict(os.environ), self.variables, sys.stdin
        os.environ.clear()
        os.environ.update(variables)
        sys.stdin = io.StringIO() if typed is None else Terminal(typed)
        try:
            with chdir(self.home), redirect_stdout(output), redirect_stderr(errors):
                code = main(list(words))
        finally:
            sys.stdin = read
            os.environ.clear()
            os.environ.update(kept)
        return Done(code=code, output=output.getvalue(), errors=errors.getvalue())

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment of a program on it."""
        own = {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return own | dict(self.environ)

    def runs(self, *argv: str) -> Done:
        """Run any program to its end."""
        ran = subprocess.run(
            argv,
            env=self.variables,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        return Done(code=ran.returncode, output=ran.stdout, errors=ran.stderr)

    @property
    def login(self) -> Path:
        """Where nsc and the SDKs look when nobody tells them anything."""
        return self.home / ".config" / "ns" / "token.json"

    def nsc(self) -> Nsc:
        return Nsc(environ={}, config=self.login.parent)

    def workspace(self) -> str:
        """Return the name of the workspace that a call of nsc's would reach now."""
        return workspace_of(self.sandbox, self.nsc().bearer())

    def profile(self, name: str, keys: IssuedKeys) -> None:
        """Write a profile into the shared credentials file, as `aws configure` does."""
        members = {
            "aws_access_key_id": keys.access_key_id,
            "aws_secret_access_key": keys.secret_access_key,
            "aws_session_token": keys.session_token,
        }
        lines = [f"{key} = {value}" for key, value in members.items() if value]
        shared = self.home / ".aws" / "credentials"
        shared.parent.mkdir()
        shared.write_text("\n".join([f"[{name}]", *lines, ""]))
