"""`metadata-address`: add or remove EC2's metadata addresses, for our own unit."""

import os
import sys
from pathlib import Path

from broker.cli.errors import Failure, Misuse
from broker.cli.parser import SWITCH, Flag, Options
from broker.installer import addresses

DESCRIPTION = """Add EC2's metadata addresses to the loopback device, or remove them.

    namespace-broker metadata-address --add

For root's unit namespace-broker-address.service. Where something already answers at one of them, as
on EC2 itself, nothing is done: exit code 1.
"""

FLAGS = (
    Flag("add", "Add them, unless something answers there.", kind=SWITCH),
    Flag("remove", "Remove what was added.", kind=SWITCH),
)


def run(options: Options) -> int:
    if options.switch("add") is options.switch("remove"):
        raise Misuse("metadata-address", "needs one of --add and --remove", "give one")
    folder = os.environ.get("RUNTIME_DIRECTORY")
    if not folder:
        raise Misuse("RUNTIME_DIRECTORY", "is not set", "let systemd start this")
    try:
        if options.switch("remove"):
            addresses.remove(Path(folder))
        else:
            add(Path(folder))
    except addresses.CannotAdd as error:
        raise Failure("", str(error)) from error
    return 0


def add(folder: Path) -> None:
    for address in addresses.ADDRESSES:
        if addresses.answers(address.host):
            raise Failure(address.host, addresses.TAKEN, addresses.LEAVE_IT)
    addresses.add(folder, warn=warn)


def warn(text: str) -> None:
    print(f"namespace-broker: warning: {text}", file=sys.stderr)
