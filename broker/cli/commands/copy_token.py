"""`copy-token`: copy a token file that only root may read, for our own unit."""

import os
from pathlib import Path

from broker.cli.errors import Failure, Misuse
from broker.cli.parser import Flag, Options
from broker.installer.token_copy import NotCopied, keep_copy
from broker.systemd.notify import Notifier

DESCRIPTION = """Copy a token file for the service, repeat while it changes, and exit.

    namespace-broker copy-token --from /var/run/nsc/token.json --to COPY

For root's unit namespace-broker-token.service.
"""

FLAGS = (
    Flag("from", "The token file.", metavar="FILE"),
    Flag("to", "The copy.", metavar="FILE"),
)


def run(options: Options) -> int:
    source, target = options.text("from"), options.text("to")
    if source is None or target is None:
        raise Misuse("copy-token", "needs --from and --to", "give both")
    supervisor = Notifier.from_environment(os.environ, os.getpid())
    try:
        keep_copy(Path(source), Path(target), on_first=lambda: supervisor.ready("copied"))
    except NotCopied as error:
        raise Failure("", str(error)) from error
    finally:
        supervisor.close()
    return 0
