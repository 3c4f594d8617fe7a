"""`exec`: run a program with the environment that `env` prints."""

from __future__ import annotations

import os
import sys
import time

from broker.cli import control_client
from broker.cli.control_client import client_of, denied
from broker.cli.environment import variables_for
from broker.cli.errors import Failure, NotRunning
from broker.cli.isolation import isolated, standing_before
from broker.cli.parser import CONFIG, REGION, ROLE, ROLE_ARN, RUNTIME_DIR, SWITCH, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.cli.control_client import Reply
    from broker.cli.environment import Variables
    from broker.cli.parser import Options

DESCRIPTION = """Run a program with an environment in which every AWS client finds credentials.

Nothing stands before these credentials: variables and profiles in ~/.aws that name another identity
are set aside, and their settings, such as the region, stay. Without credentials the program is not
started.

Where no broker runs, a private one is started for as long as the program runs; it needs --role-arn
or a configuration file. The exit code is the program's.

    namespace-broker exec -- aws s3 ls
    namespace-broker exec --role-arn arn:aws:iam::123456789012:role/deploy -- make release
"""

FLAGS = (
    Flag("anyway", "Start the program even without credentials.", kind=SWITCH),
    ROLE,
    ROLE_ARN,
    REGION,
    CONFIG,
    RUNTIME_DIR,
)
RUNS = "CMD..."

LEASE_WITHIN_S = 10.0
PAUSE_S = 0.1
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
    if client.get("roles") and not options.switch("anyway"):
        require_lease(options, str(role or client.get("default_role")))
    variables = variables_for(
        client, "container", role=role, environ=os.environ, with_token_file=takes_token_file()
    )
    return become(options.words, environment_of(variables, os.environ))


def require_lease(options: Options, role: str) -> None:
    """Wait for the role's lease.

    Raises:
        Failure: It is refused, or there is none within the limit.
    """
    deadline = time.monotonic() + LEASE_WITHIN_S
    runtime_dir, query = options.text("runtime-dir"), {"role": role}
    while True:
        reply = control_client.ask("/v1/credentials", runtime_dir, query)
        if reply.status == 200:
            return
        if reply.document.get("code") != "not-ready":
            raise denied(reply, role)
        ready = control_client.ask("/v1/ready", runtime_dir, query)
        if time.monotonic() > deadline or "refused" in states_of(ready):
            raise no_lease(reply.message)
        time.sleep(PAUSE_S)


def states_of(ready: Reply) -> set[str]:
    return {str(lease.get("state")) for lease in ready.document.get("leases") or ()}


def takes_token_file() -> bool:
    """Return whether programs may get the token's file beside its value (C-83).

    One that root starts may become another user, who could not read it.
    """
    return os.getuid() != 0


def no_lease(reason: str) -> Failure:
    return Failure("exec", f"no credentials: {reason}", "--anyway starts the program all the same")


def environment_of(variables: Variables, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the program's environment, in which nothing stands before us.

    What was set aside is printed.

    Raises:
        Failure: The settings to keep cannot be written.
    """
    environment = variables.over(environ)
    if not any(name.startswith("AWS_CONTAINER_") for name in variables.set):
        return environment
    aside = standing_before(environ)
    if str(aside):
        print(f"namespace-broker: exec: set aside {aside}", file=sys.stderr, flush=True)
    return isolated(aside, environ).over(environment)


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
