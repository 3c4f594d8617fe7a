"""`run`: the daemon, in the foreground."""

from typing import NoReturn

from broker.cli.flags import Options

DESCRIPTION = """Run the broker, in the foreground, until SIGTERM or Ctrl-C.

It takes this machine's Namespace identity from where nsc has it (NSC_TOKEN_SPEC, NSC_TOKEN_FILE,
/var/run/nsc, the login of nsc), trades it for AWS credentials, renews those at half their life,
and serves them to the AWS clients of this host.

\b
A working broker:
    namespace-broker run --role-arn arn:aws:iam::123456789012:role/deploy

\b
With the address of EC2, where every client looks by itself (root, or a socket of systemd):
    namespace-broker run --role-arn ... --imds 169.254.169.254:80

For everything else there is a configuration file; a flag wins over it.
"""


def run(options: Options) -> NoReturn:
    import gc
    import os
    import signal

    # Whoever tells us to reload means the daemon, which takes this up; else it would end the start.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # To collect garbage while modules are imported takes a fifth of the start, and finds none.
    gc.disable()
    try:
        from broker.cli.broker_flags import broker_flags
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


def leave(code: int) -> NoReturn:
    """End this process as it stands: clients wait for the next one.

    To be taken apart by Python costs a tenth of a second, and who hangs in a thread, on a name
    server or a disk, would be waited for.
    """
    import os

    from broker.cli.main import give_up_on_output

    give_up_on_output()
    os._exit(code)
