"""`exec`: run a program with the environment that `env` prints."""

from __future__ import annotations

import os
import sys

from broker.cli.control_client import client_of
from broker.cli.environment import variables_for
from broker.cli.errors import NotRunning
from broker.cli.parser import CONFIG, REGION, ROLE, ROLE_ARN, RUNTIME_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.cli.parser import Options

DESCRIPTION = """Run a program with an environment in which every AWS client finds credentials.

Where no broker runs, a private one is started for as long as the program runs; it needs --role-arn
or a configuration file. The exit code is the program's.

    namespace-broker exec -- aws s3 ls
    namespace-broker exec --role-arn arn:aws:iam::123456789012:role/deploy -- make release
"""

FLAGS = (ROLE, ROLE_ARN, REGION, CONFIG, RUNTIME_DIR)
RUNS = "CMD..."

NOT_FOUND = 127
NOT_RUNNABLE = 126


def run(options: Options) -> int:
    if options.text("role-arn") is not None:
        return run_with_private_broker(options)
    role = options.text("role")
    try:
        client = client_of(options)
    except NotRunning as not_running:
        return run_with_private_broker(options, or_else=not_running)
    variables = variables_for(client, "container", role=role, environ=os.environ)
    return become(options.words, variables.over(os.environ))


def become(words: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """Replace this process with the program; return a shell's exit code where that fails."""
    import signal

    # Python ignores these two signals, and the program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    sys.stdout.flush()
    try:
        os.execvpe(words[0], words, environ)  # noqa: S606 - the program is what was asked for
    except (OSError, ValueError) as error:
        return not_started(words[0], error)


def not_started(program: str, error: Exception) -> int:
    """Print why the program did not start; return a shell's exit code for it."""
    missing = isinstance(error, FileNotFoundError) or not program
    why = "no such program" if missing else getattr(error, "strerror", None) or "no program name"
    line = f"namespace-broker: exec: {program!a} cannot be run ({why}); is it in PATH?"
    print(line, file=sys.stderr)
    return NOT_FOUND if missing else NOT_RUNNABLE


def run_with_private_broker(options: Options, *, or_else: NotRunning | None = None) -> int:
    # Expensive imports, needed only where no broker runs.
    from broker.cli.offline import misuse
    from broker.cli.private_broker import run_with_it
    from broker.config import NoRole

    try:
        return run_with_it(options)
    except NoRole as error:
        raise or_else or misuse(error) from error
