"""`run`: run the broker in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from broker.cli.parser import CONFIG, MANY, REGION, SECONDS, Flag, Options

if TYPE_CHECKING:
    from broker.config import Flags

DESCRIPTION = """Run the broker in the foreground until SIGTERM or Ctrl-C.

It reads this machine's Namespace identity where nsc does (NSC_TOKEN_SPEC, NSC_TOKEN_FILE,
/var/run/nsc, nsc's login), exchanges it for AWS credentials, renews those at half their life, and
serves them to the AWS clients of this host.

A working broker:
    namespace-broker run --role-arn arn:aws:iam::123456789012:role/deploy

On EC2's own address, where every client looks by default (as root, or on a socket of systemd):
    namespace-broker run --role-arn ... --imds 169.254.169.254:80

Everything else is in the configuration file; a flag wins over it.
"""

FLAGS = (
    CONFIG,
    Flag(
        "role-arn",
        "A role to serve; repeatable. NAME=ARN names it, else it has its role's name."
        " The first is the default.",
        kind=MANY,
        metavar="ARN",
    ),
    REGION,
    Flag(
        "imds",
        "Serve EC2 instance metadata here: HOST:PORT or [V6]:PORT; repeatable; port 0 picks one."
        " Default: off.",
        kind=MANY,
        metavar="ADDR",
    ),
    Flag(
        "container",
        "Serve container credentials here; repeatable; or off. Default: 127.0.0.1:8170.",
        kind=MANY,
        metavar="ADDR",
    ),
    Flag(
        "ops",
        "Serve health and metrics here; repeatable; or off. Default: 127.0.0.1:8171.",
        kind=MANY,
        metavar="ADDR",
    ),
    Flag(
        "container-token-file",
        "The token that clients of the container endpoint send; created 0600 when absent."
        " Default: container-token in the runtime directory.",
        metavar="FILE",
    ),
    Flag(
        "state-dir",
        "Directory of what must survive a restart. Default: $STATE_DIRECTORY, else none.",
        metavar="DIR",
    ),
    Flag(
        "runtime-dir",
        "Directory of the control socket. Default: $RUNTIME_DIRECTORY, else"
        " $XDG_RUNTIME_DIR/namespace-broker, else one of your own in the temporary directory.",
        metavar="DIR",
    ),
    Flag(
        "log-format",
        "auto is console on a terminal, else json.",
        choices=("auto", "console", "json"),
    ),
    Flag(
        "log-level", "The least severe level to log.", choices=("debug", "info", "warning", "error")
    ),
    Flag(
        "start-timeout",
        "Serve credential requests after this long even without credentials. Default: 10.",
        kind=SECONDS,
        metavar="SECONDS",
    ),
)


def run(options: Options) -> NoReturn:
    import gc
    import os
    import signal

    # A reload signal is meant for the daemon, which unblocks it; until then it would end the start.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # Collecting garbage during imports takes a fifth of the start and finds none.
    gc.disable()
    try:
        from broker.cli.offline import configured, misuse
        from broker.config import ConfigError, load
        from broker.daemon.main import main
    finally:
        gc.freeze()
        gc.enable()
    flags = broker_flags(options)
    try:
        config = configured(flags)
    except ConfigError as error:
        raise misuse(error) from error
    leave(main(config, lambda: load(flags, os.environ)))


def broker_flags(options: Options) -> Flags:
    """Return the flags of `run` and `check` as the configuration takes them."""
    from broker.config import Flags

    return Flags(
        config=options.text("config"),
        role_arns=options.many("role-arn"),
        region=options.text("region"),
        imds=options.many("imds"),
        container=options.many("container"),
        ops=options.many("ops"),
        container_token_file=options.text("container-token-file"),
        state_dir=options.text("state-dir"),
        runtime_dir=options.text("runtime-dir"),
        log_format=options.text("log-format"),
        log_level=options.text("log-level"),
        start_timeout_s=options.seconds("start-timeout"),
    )


def leave(code: int) -> NoReturn:
    """End this process at once: clients wait for the next one.

    Python's own shutdown takes a tenth of a second, and waits for threads that hang in a name
    server or a disk.
    """
    import os

    from broker.cli.main import give_up_on_output

    give_up_on_output()
    os._exit(code)
