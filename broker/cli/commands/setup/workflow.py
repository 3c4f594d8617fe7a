"""What every `setup` command does in the same way: read, show the plan, ask, do, and say what was
done. Knows no direction."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from broker.cli.errors import Failure, Misuse
from broker.cli.offline import explained, misuse, warn
from broker.cli.output import columns, printable
from broker.cli.parser import Options
from broker.config import Config, ConfigError, Flags, Upstream, load_identity, validate
from broker.config.load import aws_endpoint_of, region_of_environment, upstream_of
from broker.credentials import IdToken
from broker.lease import SourceError
from broker.setup.aws import AwsEndpoints, AwsSettings
from broker.setup.plan import Plan
from broker.setup.resource import Step

T = TypeVar("T")

SOMETHING_TO_DO = 3
"""Exit of ``--dry-run`` where the plan would change something."""

PLACE = "setup"


# What was said.


def checked(check: Callable[[], T]) -> T:
    """Return what *check* does.

    Raises:
        Misuse: Something that was said is no good.
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


def aws_of(options: Options) -> AwsSettings:
    """Return which AWS is meant, by flags and environment."""

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
    said = options.text("region")
    if said is not None:
        return validate.region(said, place="--region")
    return region_of_environment(os.environ)


def account_of(options: Options) -> str | None:
    from broker.setup import arguments

    said = options.text("account")
    return None if said is None else arguments.account(said, place="--account")


def upstream() -> Upstream:
    return checked(lambda: upstream_of(os.environ))


# Who we are at Namespace.


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHand:
    """The Namespace identity of this machine, by an ID token of its own."""

    config: Config
    identity: str
    token: IdToken

    @property
    def workspace(self) -> str:
        return self.token.subject.partition("/")[0]

    @property
    def claims(self) -> Mapping[str, object]:
        return {
            "iss": self.token.issuer,
            "sub": self.token.subject,
            "aud": self.token.audience,
        }


def at_hand(options: Options, *, audience: str) -> AtHand | None:
    """Return the Namespace identity of this machine, None where there is none.

    Raises:
        Misuse, Failure: Wrong configuration; Namespace refuses it, or is not reached.
    """
    from broker.daemon.offline import obtain_id_token

    flags = Flags(config=options.text("config"))
    config = checked(lambda: load_identity(flags, os.environ, None))
    warn(config.warnings)
    (identity,) = config.identities
    obtaining = obtain_id_token(config, identity, audience, runtime())
    try:
        lease = asyncio.run(obtaining)
    except SourceError as error:
        if error.word == "no-identity":
            return None
        raise Failure(f"identity/{identity}", str(error)) from error
    return AtHand(config=config, identity=identity, token=lease.value)


def runtime() -> Any:
    """Return what pipelines are made with, for a command."""
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    return Runtime(log=logger(form="auto", level="warning"))


def workspace_of(options: Options, *, audience: str) -> tuple[str, AtHand | None]:
    """Return the workspace that is meant, and the identity that was asked for it, if one was.

    Raises:
        Misuse, Failure: It is not said, and there is no identity to read it from; or as `at_hand`.
    """
    from broker.setup import arguments

    said = options.text("workspace")
    if said is not None:
        return checked(lambda: arguments.workspace(said, place="--workspace")), None
    found = at_hand(options, audience=audience)
    if found is None:
        raise Misuse(
            "--workspace",
            "is not given, and this machine has no Namespace identity to read it from",
            "give the workspace's id, or run `nsc login`",
        )
    place = f"identity/{found.identity}"
    return checked(lambda: arguments.workspace(found.workspace, place=place)), found


# Asking the clouds.


def waited_for(doing: Coroutine[Any, Any, T]) -> T:
    """Return what *doing* does, its troubles as the one line of a command."""
    with explained(PLACE):
        return asyncio.run(doing)


# Showing a plan, and asking.


def lines_of(plan: Plan, states: Mapping[int, str] | None = None) -> str:
    """Return the plan as a table, with what differs below each row. *states* stand in a column of
    their own, by the number of the step."""
    header, rows = ["DO", "WHAT", "NOTE"], [row_of(step) for step in plan.steps]
    if states is not None:
        header = ["STATE", *header]
        rows = [[states[number], *row] for number, row in enumerate(rows)]
    head, *table = columns(header, rows).splitlines()
    lines = [head]
    for row, step in zip(table, plan.steps, strict=True):
        lines.append(row)
        lines += [f"          {printable(line)}" for line in step.diff if states is None]
    return "".join(f"{line}\n" for line in lines)


def row_of(step: Step) -> list[str]:
    return [step.kind, step.title, step.note]


@dataclass(kw_only=True)
class Work:
    """A plan on its way: what is asked for by flags, and which steps stand."""

    options: Options
    plan: Plan
    heading: str
    question: str = "Do this?"
    nothing: str = "Nothing to do: everything stands as it is wanted."
    done: list[Step] = field(default_factory=list)

    @property
    def as_json(self) -> bool:
        return self.options.switch("json")

    def agreed(self) -> bool:
        """Show the plan; say whether it is to be carried out.

        Raises:
            Failure: Nobody can be asked, or the answer was no.
        """
        if not self.as_json:
            sys.stdout.write(f"{printable(self.heading)}\n\n{lines_of(self.plan)}\n")
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
            self.show_json()
            raise Failure("--yes", "is not given, and nobody is asked with --json", _AS_IT_WAS)
        if not sys.stdin.isatty():
            raise Failure("--yes", "is not given, and there is no terminal to ask at", _AS_IT_WAS)
        print(f"{self.question} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failure("", "nothing was changed", "answer y, or give --yes, to go on")

    def carry_out(self, doing: Coroutine[Any, Any, T]) -> T:
        """Return what *doing* does; where it does not come to its end, say what was done."""
        try:
            result = waited_for(doing)
        except BaseException:
            self._show_states()
            raise
        if not self.as_json:
            print("Done.")
        return result

    def _show_states(self) -> None:
        if self.as_json:
            self.show_json()
            return
        states = {
            number: "done" if number < len(self.done) else "not done"
            for number in range(len(self.plan.steps))
        }
        sys.stdout.write(lines_of(self.plan, states) + "\n")
        sys.stdout.flush()

    def show_json(self, **more: object) -> None:
        """Print plan and outcome as one document."""
        steps = [
            {**told, "done": number < len(self.done) or told["do"] == "keep"}
            for number, told in enumerate(self.plan.as_json())
        ]
        print(json.dumps({"steps": steps, **more}, indent=2))

    def ended_early(self) -> int | None:
        """Return the exit code of ``--dry-run``, None without it."""
        if not self.options.switch("dry-run"):
            return None
        if self.as_json:
            self.show_json()
        return SOMETHING_TO_DO if self.plan.pending else 0


_AS_IT_WAS = "give --yes to carry out the plan; nothing was changed"


def say(text: str) -> None:
    print(f"namespace-broker: {printable(text)}", file=sys.stderr, flush=True)


def removed(
    options: Options,
    *,
    plan: Plan,
    heading: str,
    take_back: Callable[[Work], Coroutine[Any, Any, None]],
) -> int:
    """Be a `setup remove` command: show *plan*, ask, do what *take_back* does, and return the exit
    code."""
    work = Work(
        options=options,
        plan=plan,
        heading=heading,
        question="Take this back?",
        nothing="Nothing to take back.",
    )
    if work.agreed():
        work.carry_out(take_back(work))
    early = work.ended_early()
    if early is not None:
        return early
    if work.as_json:
        work.show_json()
    return 0
