"""`setup remove to-aws`: take back what `setup to-aws` makes."""

from broker.cli.commands.setup.flags import CHANGING, SETTING_UP, TO_AWS
from broker.cli.commands.setup.to_aws import asked_of, hands, look
from broker.cli.commands.setup.workflow import Work, aws_of, removed, waited_for
from broker.cli.parser import Options
from broker.clock import SystemClock
from broker.setup.apply import take_back
from broker.setup.clouds import Aws, opened_aws
from broker.setup.plan import removal
from broker.setup.steps import Standing

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
    looked = waited_for(look(aws, asked, workspace, deeply=True))
    return removed(
        options,
        plan=removal(looked.standing),
        heading=looked.heading,
        take_back=lambda work: taken_back(aws, work, looked.standing),
    )


async def taken_back(aws: Aws, work: Work, standing: tuple[Standing, ...]) -> None:
    async with opened_aws(aws, clock=SystemClock()) as opened:
        await take_back(work.plan, standing, hands(opened), work.done.append)
