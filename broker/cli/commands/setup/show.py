"""`setup show`: what stands of both directions, one after the other."""

import sys
from types import ModuleType

from broker.cli.commands.setup import show_to_aws, show_to_namespace
from broker.cli.commands.setup.flags import SETTING_UP
from broker.cli.errors import Failure, Misuse, complain
from broker.cli.parser import JSON, Flag, Options

DESCRIPTION = """Show what stands of both directions of trust for a role, and whether it would let
us in. For more, and as JSON, name one: setup show to-aws, setup show to-namespace.

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


def run(options: Options) -> int:
    to_aws = shown("to-aws", show_to_aws, options)
    print()
    to_namespace = shown("to-namespace", show_to_namespace, options)
    return 0 if to_aws or to_namespace else 1


def shown(name: str, module: ModuleType, options: Options) -> bool:
    """Show one direction, and say whether it would let us in.

    Raises:
        Misuse: A flag is no good.
    """
    flags = {flag.name for flag in module.FLAGS}
    given = {flag: value for flag, value in options.values.items() if flag in flags}
    print(f"{name}\n")
    sys.stdout.flush()
    try:
        return bool(module.run(Options(module.FLAGS, given)) == 0)
    except Misuse:
        raise
    except Failure as failure:
        complain(failure.line)
        return False
