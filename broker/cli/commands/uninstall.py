"""`uninstall`: remove what `install` created."""

from broker.cli.commands.install import failure_of, say, this_host
from broker.cli.parser import SWITCH, Flag, Options
from broker.installer.host import Refusal
from broker.installer.uninstall import uninstall

DESCRIPTION = """Stop the service and remove what install created: units, addresses, sockets.

The configuration, the state and the audit log are kept, unless --purge is given.

    sudo namespace-broker uninstall
"""

FLAGS = (Flag("purge", "Also remove configuration, state and logs.", kind=SWITCH),)


def run(options: Options) -> int:
    try:
        left = uninstall(this_host(), purge=options.switch("purge"), say=say)
    except Refusal as refusal:
        raise failure_of(refusal) from refusal
    if left:
        print(f"Kept: {', '.join(map(str, left))}; --purge removes them.")
    else:
        print("Nothing is left.")
    return 0
