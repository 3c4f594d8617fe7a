"""`setup remove to-aws`: take back what `setup to-aws` makes."""

from broker.cli.commands.setup.flags import CHANGING, SETTING_UP, TO_AWS
from broker.cli.commands.setup.to_aws import asked_of, hands, look
from broker.cli.commands.setup.workflow import Work, aws_of, removed, waited_for
from broker.cli.parser import Options
from broker.clock import SystemClock
from broker.setup.aws import AwsSettings, open_aws
from broker.setup.plan import State, plan_removal, revert

DESCRIPTION = """Take back what setup to-aws makes, with the same flags.

Shows first what would go. What goes is what is exactly as we would have made it: a provider or a
role only with our tag on it (managed-by = namespace-broker), else only our statement and the
policies that are named; a provider that another role trusts stays.

    namespace-broker setup remove to-aws --role-name deploy
"""

FLAGS = (*TO_AWS, *CHANGING, *SETTING_UP)


def run(options: Options) -> int:
    asked, workspace, _ = asked_of(options)
    aws = aws_of(options)
    looked = waited_for(look(aws, asked, workspace, deep=True))
    return removed(
        options,
        plan=plan_removal(looked.standing),
        heading=looked.heading,
        take_back=lambda work: taken_back(aws, work, looked.standing),
    )


async def taken_back(aws: AwsSettings, work: Work, standing: tuple[State, ...]) -> None:
    async with open_aws(aws, clock=SystemClock()) as opened:
        await revert(work.plan, standing, hands(opened), work.done.append)
