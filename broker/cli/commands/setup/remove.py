"""`setup remove`: remove the trust that `setup` created."""

from collections.abc import Callable, Coroutine
from typing import Any

from broker.cli.commands import Command
from broker.cli.commands.setup import to_aws as to_aws_command
from broker.cli.commands.setup import to_namespace as to_namespace_command
from broker.cli.commands.setup.flags import CHANGING, SETTING_UP, TO_AWS, TO_NAMESPACE
from broker.cli.commands.setup.workflow import Observed, PlanRun, completed
from broker.cli.parser import Options
from broker.clock import SystemClock
from broker.setup.aws import open_aws
from broker.setup.both_clouds import open_clouds
from broker.setup.plan import plan_removal, revert


def remove_to_aws(options: Options) -> int:
    task = to_aws_command.task_of(options)
    observed = completed(to_aws_command.observe(task, deep=True))

    async def carry_out(work: PlanRun) -> None:
        async with open_aws(task.aws, clock=SystemClock()) as account:
            access = to_aws_command.access(account)
            await revert(work.plan, observed.states, access, work.done.append)

    return remove(options, observed, carry_out)


def remove_to_namespace(options: Options) -> int:
    task = to_namespace_command.task_of(options)
    observed = completed(to_namespace_command.observe(task, deep=True, without_role=True))

    async def carry_out(work: PlanRun) -> None:
        async with open_clouds(task, without_role=True) as clouds:
            await revert(work.plan, observed.states, clouds.access, work.done.append)

    return remove(options, observed, carry_out)


def remove(
    options: Options,
    observed: Observed,
    carry_out: Callable[[PlanRun], Coroutine[Any, Any, None]],
) -> int:
    """Show what would be removed, ask, do it, and return the exit code."""
    work = PlanRun(
        options=options,
        plan=plan_removal(observed.states),
        heading=observed.heading,
        question="Remove this?",
        nothing="Nothing to remove.",
    )
    if work.confirmed():
        work.carry_out(carry_out(work))
    code = work.dry_run_code()
    if code is not None:
        return code
    if work.as_json:
        work.print_json()
    return 0


to_aws = Command(
    """Remove the trust that `setup to-aws` created, given the same flags.

Shows first what would be removed. Only what is exactly as these flags make it is removed: a
provider or a role only with our tag on it (managed-by = namespace-broker), else only our statement
and the policies that are named; a provider that another role trusts stays.

    namespace-broker setup remove to-aws --role-name deploy
""",
    (*TO_AWS, *CHANGING, *SETTING_UP),
    remove_to_aws,
)
to_namespace = Command(
    """Remove the trust that `setup to-namespace` created, given the same flags.

Shows first what would be removed. Only what is exactly as these flags make it is removed: the
policy and the trust relationship, an identity pool only with our tag on it (managed-by =
namespace-broker). Outbound web identity federation is never switched off, and the role is not
changed otherwise.

    namespace-broker setup remove to-namespace --via sts --role-name builder
""",
    (*TO_NAMESPACE, *CHANGING, *SETTING_UP),
    remove_to_namespace,
)
