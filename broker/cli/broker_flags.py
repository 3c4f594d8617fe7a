"""The flags of `run` and `check` as the configuration takes them."""

from broker.cli.flags import Options
from broker.config import Flags


def broker_flags(options: Options) -> Flags:
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
