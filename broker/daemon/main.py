"""The daemon as a process: its signals, its log, its exit code."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from broker import __version__
from broker.access.peer import identity_problems
from broker.config import Address, Config, replace_keys
from broker.config.model import LogConfig
from broker.daemon.errors import CannotStart, Misconfigured
from broker.daemon.lifecycle import Broker, run_broker
from broker.daemon.process import (
    AbandonableExecutor,
    keep_memory_private,
    raise_open_files_limit,
)
from broker.daemon.reload import Load, SetLog, reload_on
from broker.daemon.runtime import Runtime
from broker.files import locations
from broker.systemd import Inherited, Notifier, NotServable, take_inherited
from broker.telemetry.log import LogOutput, complaint


def _keep_log(_: LogConfig) -> None: ...


async def run(
    config: Config,
    runtime: Runtime,
    stop: asyncio.Event,
    *,
    reload: asyncio.Event | None = None,
    load: Load | None = None,
    set_log: SetLog = _keep_log,
) -> None:
    """Run the daemon until *stop*.

    Whenever *reload* is set, put in force what *load* returns; *set_log* changes the log's format
    and level.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    warnings = (*runtime.inherited.warnings, *config.warnings, *identity_problems())
    for warning in warnings:
        runtime.log.warning("config.warning", reason=warning)
    raise_open_files_limit()
    async with run_broker(config, runtime, stop=stop) as broker, asyncio.TaskGroup() as tasks:
        if not stop.is_set():
            runtime.log.info(
                "daemon.ready",
                version=__version__,
                imds=broker.endpoints.imds,
                container=broker.endpoints.container,
                ops=broker.endpoints.ops,
                roles=list(broker.pipelines.roles),
                restored=broker.restored,
            )
        reloading = tasks.create_task(
            reload_on(
                reload or asyncio.Event(),
                broker,
                load=load or (lambda: config),
                log=runtime.log,
                set_log=set_log,
            )
        )
        await stop.wait()
        runtime.log.info("daemon.stopping")
        reloading.cancel()


def main(config: Config, load: Load | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT and return the exit code.

    SIGHUP puts in force what *load* returns, or *config* again; *load* may raise ConfigError. The
    process is to end by `os._exit`, because threads that hang are abandoned.
    """
    output = LogOutput(form=config.log.format, level=config.log.level)
    keep_memory_private()
    try:
        # Before the environment is copied: systemd's variables are for this process alone.
        inherited, supervisor = from_systemd()
        runtime = Runtime(log=output.log, inherited=inherited, supervisor=supervisor)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run_until_signalled(config, runtime, load=load, output=output))
    except CannotStart as error:
        output.close()
        print(complaint(str(error)), file=sys.stderr)  # noqa: T201 - an error is one line
        return error.exit_code
    finally:
        output.close()
    return 0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where it is installed: it halves what a request costs."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def from_systemd() -> tuple[Inherited, Notifier]:
    """Take what systemd passed to this process, and its variables out of the environment.

    Raises:
        Misconfigured: A socket that nothing can be served on.
    """
    pid = os.getpid()
    supervisor = Notifier.from_environment(os.environ, pid)
    try:
        return take_inherited(os.environ, pid), supervisor
    except NotServable as error:
        raise Misconfigured(str(error)) from error


async def _run_until_signalled(
    config: Config, runtime: Runtime, *, load: Load | None, output: LogOutput
) -> None:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(AbandonableExecutor())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hung_up = stop if ends_with_its_terminal() else reload
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    # `run` blocks it until there is a handler, so that it does not end the process.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    await run(
        config,
        runtime,
        stop,
        reload=reload,
        load=load,
        set_log=lambda log: output.change(form=log.format, level=log.level),
    )


def ends_with_its_terminal() -> bool:
    """Return whether SIGHUP means that our terminal was closed.

    Without a terminal, and under nohup, it means to reload the configuration.
    """
    has_terminal = any(os.isatty(descriptor) for descriptor in (0, 1, 2))
    return has_terminal and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@asynccontextmanager
async def private(config: Config, runtime: Runtime) -> AsyncIterator[Broker]:
    """Run a private broker for the block, on free loopback ports, beside any other.

    It uses none of the files of the host's broker. *config* has nothing but roles.
    """
    with locations.short_temporary_directory("namespace-broker-") as directory:
        free_port, runtime_dir = (Address(host="127.0.0.1", port=0),), Path(directory)
        own = replace(
            config,
            runtime_dir=runtime_dir,
            state_dir=None,
            imds=replace_keys(config.imds, listen=free_port),
            container=replace(
                config.container,
                listen=free_port,
                token_file=runtime_dir / "container-token",
                token_group=None,
            ),
            ops=replace(config.ops, listen=()),
        )
        async with run_broker(own, runtime) as broker:
            yield broker
