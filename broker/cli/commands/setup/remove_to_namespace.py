"""`setup remove to-namespace`: take back what `setup to-namespace` makes."""

from broker.cli.commands.setup.flags import CHANGING, SETTING_UP, TO_NAMESPACE
from broker.cli.commands.setup.to_namespace import look, task_of
from broker.cli.commands.setup.workflow import Work, removed, waited_for
from broker.cli.parser import Options
from broker.setup.both_clouds import ToNamespaceTask, open_clouds
from broker.setup.plan import State, plan_removal, revert

DESCRIPTION = """Take back what setup to-namespace makes, with the same flags.

Shows first what would go. What goes is what is exactly as we would have made it: the policy and the
trust relationship that these flags make, an identity pool only with our tag on it (managed-by =
namespace-broker). Outbound web identity federation is never switched off, and the role is not
touched otherwise.

    namespace-broker setup remove to-namespace --via sts --role-name builder
"""

FLAGS = (*TO_NAMESPACE, *CHANGING, *SETTING_UP)


def run(options: Options) -> int:
    task = task_of(options)
    looked = waited_for(look(task, deep=True, without_role=True))
    return removed(
        options,
        plan=plan_removal(looked.standing),
        heading=looked.heading,
        take_back=lambda work: taken_back(task, work, looked.standing),
    )


async def taken_back(task: ToNamespaceTask, work: Work, standing: tuple[State, ...]) -> None:
    async with open_clouds(task, without_role=True) as clouds:
        await revert(work.plan, standing, clouds.access, work.done.append)
