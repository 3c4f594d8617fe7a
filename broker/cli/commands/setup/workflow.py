"""What every `setup` command does: read the flags, show the plan, ask, carry it out, report."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from broker.cli.commands import PROGRAM
from broker.cli.errors import Failure, Misuse
from broker.cli.offline import explained, misuse, warn
from broker.cli.output import columns, printable
from broker.cli.parser import Options
from broker.config import Config, ConfigError, Flags, load_identity, validate
from broker.config.load import aws_endpoint_of, region_of_environment, upstream_of
from broker.credentials import IdToken
from broker.lease import Refused, SourceError
from broker.setup import arguments
from broker.setup.aws import AwsEndpoints, AwsSettings, Target
from broker.setup.plan import Plan, State
from broker.setup.render import Draft, rendered
from broker.setup.resource import Step

T = TypeVar("T")

SOMETHING_TO_DO = 3
"""Exit code of ``--dry-run`` where the plan would change something."""

PLACE = "setup"


def checked(check: Callable[[], T]) -> T:
    """Return what *check* returns.

    Raises:
        Misuse: A flag or a variable is wrong.
    """
    try:
        return check()
    except ConfigError as error:
        raise misuse(error) from error


def required(options: Options, name: str, next_step: str) -> str:
    text = options.text(name)
    if text is None:
        raise Misuse(f"--{name}", "is not given", next_step)
    return text


def aws_settings(options: Options) -> AwsSettings:
    """Return how to reach AWS, by flags and environment."""

    def read() -> AwsSettings:
        upstream = upstream_of(os.environ)
        return AwsSettings(
            profile=options.text("profile"),
            region=region_of(options),
            account=account_of(options),
            endpoints=AwsEndpoints(
                iam=aws_endpoint_of(os.environ, "AWS_ENDPOINT_URL_IAM"),
                sts=upstream.sts_endpoint,
                cognito=upstream.cognito_endpoint,
            ),
            ca_bundle=upstream.ca_bundle,
        )

    return checked(read)


def region_of(options: Options) -> str | None:
    text = options.text("region")
    if text is not None:
        return validate.region(text, place="--region")
    return region_of_environment(os.environ)


def account_of(options: Options) -> str | None:
    text = options.text("account")
    return None if text is None else arguments.account(text, place="--account")


def workspace_flag(options: Options) -> str | None:
    text = options.text("workspace")
    return None if text is None else arguments.workspace(text, place="--workspace")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalIdentity:
    """This machine's Namespace identity, by an ID token of its own."""

    config: Config
    identity: str
    token: IdToken

    @property
    def workspace(self) -> str:
        return self.token.subject.partition("/")[0]

    @property
    def claims(self) -> Mapping[str, object]:
        return {"iss": self.token.issuer, "sub": self.token.subject, "aud": self.token.audience}


def local_identity(options: Options, *, audience: str) -> LocalIdentity | None:
    """Return this machine's Namespace identity, None where there is none.

    Raises:
        Misuse, Failure: The configuration is wrong; Namespace refuses, or cannot be reached.
    """
    from broker.daemon.offline import obtain_id_token

    flags = Flags(config=options.text("config"))
    config = checked(lambda: load_identity(flags, os.environ, None))
    warn(config.warnings)
    (identity,) = config.identities
    try:
        lease = asyncio.run(obtain_id_token(config, identity, audience, runtime()))
    except SourceError as error:
        if error.word == "no-identity":
            return None
        raise Failure(f"identity/{identity}", str(error)) from error
    return LocalIdentity(config=config, identity=identity, token=lease.value)


def runtime() -> Any:
    """Return what a command's pipelines are made with."""
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    return Runtime(log=logger(form="auto", level="warning"))


def completed(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* to its end; its errors become the one line of a command."""
    with explained(PLACE):
        return asyncio.run(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What exists, in which account and workspace, and as whom it was read."""

    target: Target
    caller: str
    role_arn: str
    states: tuple[State, ...]

    @property
    def heading(self) -> str:
        workspace = f"workspace {self.target.workspace}, " if self.target.workspace else ""
        return (
            f"Account {self.target.account} ({self.caller}), {workspace}region {self.target.region}"
        )

    def state_of(self, kind: type) -> tuple[Any, Any]:
        """Return the desired resource of that kind, and what exists of it."""
        return next(
            (each.desired, each.actual) for each in self.states if isinstance(each.desired, kind)
        )


def table_of(plan: Plan, states: Mapping[int, str] | None = None) -> str:
    """Return the plan as a table, with the differences below each row.

    *states*, by the number of the step, are a column of their own, without differences.
    """
    header, rows = ["DO", "WHAT", "NOTE"], [[one.kind, one.title, one.note] for one in plan.steps]
    if states is not None:
        header = ["STATE", *header]
        rows = [[states[number], *row] for number, row in enumerate(rows)]
    head, *table = columns(header, rows).splitlines()
    lines = [head]
    for row, step in zip(table, plan.steps, strict=True):
        lines.append(row)
        lines += [f"          {printable(line)}" for line in step.diff if states is None]
    return "".join(f"{line}\n" for line in lines)


@dataclass(kw_only=True)
class PlanRun:
    """A plan that is shown, confirmed and carried out; ``done`` are the steps so far."""

    options: Options
    plan: Plan
    heading: str
    question: str = "Do this?"
    nothing: str = "Nothing to do: everything is as desired."
    done: list[Step] = field(default_factory=list)

    @property
    def as_json(self) -> bool:
        return self.options.switch("json")

    def confirmed(self) -> bool:
        """Show the plan, and ask; return whether to carry it out.

        Raises:
            Failure: Nobody can be asked, or the answer was no.
        """
        if not self.as_json:
            sys.stdout.write(f"{printable(self.heading)}\n\n{table_of(self.plan)}\n")
            if not self.plan.pending:
                print(self.nothing)
            sys.stdout.flush()
        if self.options.switch("dry-run") or not self.plan.pending:
            return False
        if not self.options.switch("yes"):
            self._ask()
        return True

    def _ask(self) -> None:
        if self.as_json:
            self.print_json()
            raise Failure("--yes", "is not given, and nobody is asked with --json", _UNCHANGED)
        if not sys.stdin.isatty():
            raise Failure("--yes", "is not given, and there is no terminal to ask at", _UNCHANGED)
        print(f"{self.question} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failure("", "nothing was changed", "answer y, or give --yes, to go on")

    def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* returns; where it fails, show which steps are done."""
        try:
            result = completed(work)
        except BaseException:
            self._show_states()
            raise
        if not self.as_json:
            print("Done.")
        return result

    def _show_states(self) -> None:
        if self.as_json:
            self.print_json()
            return
        states = {
            number: "done" if number < len(self.done) else "not done"
            for number in range(len(self.plan.steps))
        }
        sys.stdout.write(table_of(self.plan, states) + "\n")
        sys.stdout.flush()

    def print_json(self, **more: object) -> None:
        """Print plan and outcome as one document."""
        steps = [
            {**step, "done": number < len(self.done) or step["do"] == "keep"}
            for number, step in enumerate(self.plan.as_json())
        ]
        print(json.dumps({"steps": steps, **more}, indent=2))

    def dry_run_code(self) -> int | None:
        """Return the exit code of ``--dry-run``, None without it."""
        if not self.options.switch("dry-run"):
            return None
        if self.as_json:
            self.print_json()
        return SOMETHING_TO_DO if self.plan.pending else 0

    def report(self, *, role_arn: str, proof: Callable[[], str], config: str, command: str) -> bool:
        """Obtain the proof, unless ``--no-verify`` is given, and print everything.

        Return whether it is printed as text, to which the caller adds what comes next.
        """
        result = None
        if not self.options.switch("no-verify"):
            try:
                result = proof()
            except Failure:
                if self.as_json:
                    self.print_json(role_arn=role_arn, proof=None)
                raise
        if self.as_json:
            self.print_json(role_arn=role_arn, proof=result, config=config, next_command=command)
        elif result:
            print(f"\n{result}")
        return not self.as_json


_UNCHANGED = "give --yes to carry out the plan; nothing was changed"


def report_wait(pause_s: float, reason: Refused) -> None:
    text = (
        f"not admitted yet ({reason.word}): it takes up to some minutes until this is known "
        f"everywhere; trying again in {pause_s:g} s"
    )
    print(f"{PROGRAM}: {printable(text)}", file=sys.stderr, flush=True)


def render_form(options: Options) -> str | None:
    """Return the form that ``--render`` asks for, None without it.

    Raises:
        Misuse: Another flag has no meaning with it.
    """
    form = options.text("render")
    if form is None:
        return None
    if options.switch("yes"):
        raise Misuse("--yes", "has no meaning with --render", "leave it out: nothing is changed")
    if options.switch("json") and form != "json":
        raise Misuse("--json", f"has no meaning with --render {form}", "give --render json")
    return form


def print_draft(draft: Draft, form: str) -> int:
    sys.stdout.write(rendered(draft, form))
    return 0


def command_line() -> tuple[str, ...]:
    """Return the words of this command line."""
    return (PROGRAM, *sys.argv[1:])
