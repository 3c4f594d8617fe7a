"""`setup show`: what stands of both directions, one after the other."""

import sys
from types import ModuleType

from broker.cli.commands.setup import show_to_aws, show_to_namespace
from broker.cli.errors import Failure, Misuse
from broker.cli.flags import COMMANDS, Options
from broker.cli.main import complain

DESCRIPTION = """Show what stands of both directions of trust for a role, and whether it would let
us in. For more, and as JSON, name one: setup show to-aws, setup show to-namespace.

Exit code 0: it would, in at least one direction; 1: in none.

\b
    namespace-broker setup show --role-name deploy
    namespace-broker setup show to-aws --role-name deploy
"""


def run(options: Options) -> int:
    to_aws = shown("setup show to-aws", show_to_aws, options)
    print()
    to_namespace = shown("setup show to-namespace", show_to_namespace, options)
    return 0 if to_aws or to_namespace else 1


def shown(name: str, module: ModuleType, options: Options) -> bool:
    """Show one direction, and say whether it would let us in.

    Raises:
        Misuse: A flag is no good.
    """
    command = COMMANDS[name]
    flags = {flag.name for flag in command.flags}
    said = {flag: value for flag, value in options.said.items() if flag in flags}
    print(f"{name.rpartition(' ')[2]}\n")
    sys.stdout.flush()
    try:
        return bool(module.run(Options(command, said)) == 0)
    except Misuse:
        raise
    except Failure as failure:
        complain(failure.line)
        return False
