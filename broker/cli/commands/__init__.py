"""Every command: its name and its summary.

A command is a module of that name in this package, with a ``DESCRIPTION``, its ``FLAGS``, and
``run(options) -> int``; or a `Command` in one.
"""

PROGRAM = "namespace-broker"

COMMANDS = {
    "run": "Run the broker in the foreground until SIGTERM or Ctrl-C.",
    "check": "Validate the configuration and show what would run.",
    "wait": "Wait until the running broker has every credential.",
    "status": "Show the running broker's leases and their state.",
    "env": "Print the environment that lets AWS clients use the broker.",
    "exec": "Run a program with that environment; starts a private broker if none runs.",
    "credential-process": "Print credentials in the format of AWS's credential_process setting.",
    "login": "Exchange an AWS identity for a Namespace token and save it for nsc.",
    "setup to-aws": "Let programs on Namespace use AWS.",
    "setup show": "Show both directions of trust and if they would admit us.",
    "setup show to-aws": "Show the trust in AWS and if it would admit this identity.",
    "setup remove to-aws": "Remove the trust that `setup to-aws` created.",
    "setup to-namespace": "Let AWS workloads use Namespace.",
    "setup show to-namespace": "Show the trust at Namespace and if it would admit the workload.",
    "setup remove to-namespace": "Remove the trust that `setup to-namespace` created.",
    "token": "Show the Namespace token's details, or print the token.",
    "who": "Show what a caller would get, and by which rule.",
    "install": "Install the broker as a systemd service.",
    "uninstall": "Remove the systemd service.",
    "metadata-address": "Add or remove EC2's metadata addresses on the loopback device.",
    "copy-token": "Keep a copy of a token file for the service.",
    "demo": "Try it all on this machine: no account, no root, no configuration.",
}
HIDDEN = frozenset({"metadata-address", "copy-token"})
"""Commands for our own systemd units, which help, completion and manual leave out."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from broker.cli.parser import Flag, Options


class Command:
    """A command that shares a module with others: it has what a command's module has."""

    __slots__ = ("DESCRIPTION", "FLAGS", "run")

    def __init__(
        self, description: str, flags: "tuple[Flag, ...]", run: "Callable[[Options], int]"
    ) -> None:
        self.DESCRIPTION = description
        self.FLAGS = flags
        self.run = run


def load(name: str) -> "Any":
    """Import a command: its module, or the `Command` of that name in the module it shares."""
    words = name.replace("-", "_").split(" ")
    path = ".".join(["broker.cli.commands", *words[:2]])
    module = __import__(path, fromlist=["run"])
    return getattr(module, words[2]) if len(words) > 2 else module
