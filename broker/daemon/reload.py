"""Read the configuration again when told to, and say what came of it. Makes nothing from it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from broker.config import Config, ConfigError
from broker.config.model import LogConfig
from broker.daemon.errors import CannotStart
from broker.daemon.lifecycle import Broker
from broker.telemetry.log import Log

Load = Callable[[], Config]
SetLog = Callable[[LogConfig], None]


async def reload_on(
    broker: Broker, requested: asyncio.Event, *, load: Load, log: Log, set_log: SetLog
) -> None:
    """Reload whenever *told* is set, for ever; once more, when it was set meanwhile."""
    while True:
        await requested.wait()
        requested.clear()
        await reload(broker, load=load, log=log, set_log=set_log)


async def reload(broker: Broker, *, load: Load, log: Log, set_log: SetLog) -> None:
    """Put in force what *load* returns, or say why not and leave everything as it is.

    *set_log* changes how the log is written.
    """
    broker.reopen_audit()
    broker.service.reloading()
    try:
        # In a thread: names of users may be looked up far away.
        wanted = await asyncio.to_thread(load)
        config, unchangeable = with_restart_only_keys(wanted, broker.now.config)
        changed = await broker.apply(config)
    except (ConfigError, CannotStart) as error:
        log.error("config.refused", reason=str(error))
        broker.service.ready(note="the new configuration was refused")
    else:
        set_log(config.log)
        log.info("config.reloaded", **changed)
        for key in unchangeable:
            log.warning("config.warning", reason=f"{key}: stays as it was; it takes a restart")
        for warning in config.warnings:
            log.warning("config.warning", reason=warning)
        broker.service.ready()


BY_A_START = ("runtime_dir", "state_dir", "upstream")
"""Where our own secrets and sockets are, and where the clouds are: by the latter every lease would
be bought anew, and they are told by the environment, which stays what it was."""


def with_restart_only_keys(wanted: Config, before: Config) -> tuple[Config, list[str]]:
    """Return *wanted* with what only a start can change as *before*, and the keys of that."""
    kept = {name: getattr(before, name) for name in BY_A_START}
    stuck = [name for name, value in kept.items() if getattr(wanted, name) != value]
    return replace(wanted, **kept), stuck
