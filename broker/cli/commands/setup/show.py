"""`setup show`: what exists of the trust, and whether it would admit us."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from broker.cli.commands import Command
from broker.cli.commands.setup import to_aws as to_aws_command
from broker.cli.commands.setup import to_namespace as to_namespace_command
from broker.cli.commands.setup.flags import SETTING_UP, TO_AWS, TO_NAMESPACE
from broker.cli.commands.setup.to_namespace import HOLDS
from broker.cli.commands.setup.workflow import LocalIdentity, Observed, completed, local_identity
from broker.cli.errors import Failure, Misuse, complain
from broker.cli.output import columns, printable
from broker.cli.parser import JSON, Flag, Options
from broker.policy import StatementVerdict, Verdict
from broker.setup.both_clouds import ToNamespaceTask, open_clouds
from broker.setup.plan import Plan, plan_changes
from broker.setup.resources import IamRole
from broker.setup.to_aws import AUDIENCE, subject_in
from broker.setup.verify import Requirement

DESCRIPTION = """Show what exists of both directions of trust for a role, and whether it would admit
us. For more, and as JSON, name one: setup show to-aws, setup show to-namespace.

Exit code 0: it would, in at least one direction; 1: in none.

    namespace-broker setup show --role-name deploy
    namespace-broker setup show to-aws --role-name deploy
"""

FLAGS = (
    Flag("role-name", "The role, of both directions.", metavar="NAME"),
    Flag(
        "via",
        "How AWS vouches for workloads that use Namespace.",
        choices=("sts", "cognito"),
        default="sts",
    ),
    *(flag for flag in SETTING_UP if flag is not JSON),
)

EXISTS = {"keep": "stands", "create": "missing", "change": "differs"}


def run(options: Options) -> int:
    aws = show_direction("to-aws", to_aws, options)
    print()
    namespace = show_direction("to-namespace", to_namespace, options)
    return 0 if aws or namespace else 1


def show_direction(name: str, command: Command, options: Options) -> bool:
    """Show one direction, and return whether it would admit us.

    Raises:
        Misuse: A flag is wrong.
    """
    flags = {flag.name for flag in command.FLAGS}
    values = {flag: value for flag, value in options.values.items() if flag in flags}
    print(f"{name}\n")
    sys.stdout.flush()
    try:
        return command.run(Options(command.FLAGS, values)) == 0
    except Misuse:
        raise
    except Failure as failure:
        complain(failure.line)
        return False


def show_to_aws(options: Options) -> int:
    task = to_aws_command.task_of(options)
    identity = task.identity
    if identity is None and task.workspace:
        identity = local_identity(options, audience=AUDIENCE)
    observed = completed(to_aws_command.observe(task))
    plan = plan_changes(observed.states)
    verdict = None if identity is None else to_aws_command.verdict_on(observed, identity)
    if options.switch("json"):
        print_json(
            observed,
            plan,
            claims=None if identity is None else dict(identity.claims),
            admitted=None if verdict is None else verdict.admitted,
            reason=None if verdict is None else verdict.reason,
            statements=[
                {"applies": one.applies, **statement_json(one)}
                for one in (verdict.statements if verdict else ())
            ],
        )
    else:
        print_lines(observed, plan, aws_lines(observed, plan, identity, verdict))
    return 0 if (not plan.pending if verdict is None else verdict) else 1


def aws_lines(
    observed: Observed, plan: Plan, identity: LocalIdentity | None, verdict: Verdict | None
) -> Iterator[str]:
    """Yield the identity's claims, each condition that they are checked against, the verdict."""
    if identity is None or verdict is None:
        role, _ = observed.state_of(IamRole)
        whose = "Namespace identity" if observed.target.workspace else "token of that issuer"
        yield f"This machine has no {whose} to check. " + (
            "The trust is not as setup to-aws would make it."
            if plan.pending
            else f"The trust admits {subject_in(role)}."
        )
        return
    for claim, value in identity.claims.items():
        yield f"{claim}  {value}"
    yield ""
    yield from statement_lines(verdict.statements)
    if verdict.statements:
        yield ""
    if verdict.undecided:
        yield f"Whether it would be admitted is not known: {verdict.reason}"
    else:
        yield f"It {'would' if verdict else 'would not'} be admitted: {verdict.reason}"


def show_to_namespace(options: Options) -> int:
    task = to_namespace_command.task_of(options)
    observed, requirements = completed(observe_and_check(task))
    plan = plan_changes(observed.states)
    is_admitted = would_be_admitted(requirements, plan)
    if options.switch("json"):
        print_json(observed, plan, admitted=is_admitted, judged=[*map(as_json, requirements)])
    else:
        print_lines(observed, plan, namespace_lines(requirements, observed, plan))
    return 0 if is_admitted else 1


async def observe_and_check(task: ToNamespaceTask) -> tuple[Observed, tuple[Requirement, ...]]:
    async with open_clouds(task, without_role=True) as clouds:
        observed = await to_namespace_command.observed_in(clouds)
        return observed, await clouds.requirements(observed.states)


def would_be_admitted(requirements: Sequence[Requirement], plan: Plan) -> bool:
    """Return whether everything holds; unknown counts where all is as we would make it."""
    if any(one.holds is False for one in requirements):
        return False
    return all(one.holds for one in requirements) or not plan.pending


def namespace_lines(
    requirements: Sequence[Requirement], observed: Observed, plan: Plan
) -> Iterator[str]:
    """Yield each requirement with its conditions, and the verdict."""
    for one in requirements:
        yield f"{HOLDS[one.holds]:<8}{one.what}: {one.reason}"
        yield from statement_lines(one.relevant_statements, indent=8)
    yield ""
    if would_be_admitted(requirements, plan):
        yield f"{observed.role_arn} would be admitted."
    elif any(one.holds is False for one in requirements):
        yield f"{observed.role_arn} would not be admitted."
    else:
        yield f"{observed.role_arn} is not known to be admitted: only signing in tells."


def statement_lines(statements: Iterable[StatementVerdict], *, indent: int = 0) -> Iterator[str]:
    for statement in statements:
        yield f"{' ' * indent}{statement.place} ({statement.effect})"
        for check in statement.checks:
            yield f"{' ' * indent}  {HOLDS[check.holds]:<8}{check.text}"


def statement_json(statement: StatementVerdict) -> dict[str, object]:
    return {
        "place": statement.place,
        "effect": statement.effect,
        "checks": [{"told": check.text, "holds": check.holds} for check in statement.checks],
    }


def as_json(requirement: Requirement) -> dict[str, object]:
    return {
        "what": requirement.what,
        "holds": requirement.holds,
        "reason": requirement.reason,
        "statements": [statement_json(one) for one in requirement.relevant_statements],
    }


def print_json(observed: Observed, plan: Plan, **more: Any) -> None:
    document = {
        "account": observed.target.account,
        "workspace": observed.target.workspace,
        "role_arn": observed.role_arn,
        "things": [
            {"what": step.title, "stands": EXISTS[step.kind], "note": step.note}
            for step in plan.steps
        ],
        **more,
    }
    print(json.dumps(document, indent=2))


def print_lines(observed: Observed, plan: Plan, lines: Iterable[str]) -> None:
    rows = [[EXISTS[step.kind], step.title, step.note] for step in plan.steps]
    table = columns(["STATE", "WHAT", "NOTE"], rows)
    sys.stdout.write(f"{printable(observed.heading)}\n\n{table}\n")
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)


to_aws = Command(
    """Show what exists of what setup to-aws makes, and check this machine's Namespace identity
against every condition of it. Changes nothing.

Exit code 0: it would be admitted; 1: it would not.

    namespace-broker setup show to-aws --role-name deploy
""",
    (*TO_AWS, *SETTING_UP),
    show_to_aws,
)
to_namespace = Command(
    """Show what exists of what setup to-namespace makes, and check the role that the workload runs
as against every condition of it. Changes nothing.

Exit code 0: it would be admitted; 1: it would not, or nobody can tell.

    namespace-broker setup show to-namespace --via sts --role-name builder
""",
    (*TO_NAMESPACE, *SETTING_UP),
    show_to_namespace,
)
