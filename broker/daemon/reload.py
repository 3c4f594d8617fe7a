"""Reload the configuration on request, and report what came of it."""

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

RESTART_ONLY = ("runtime_dir", "state_dir", "upstream")
"""The first two hold our own secrets and sockets. By the last, where the clouds are, every lease
would be obtained anew; it comes from the environment, which does not change while we run."""


async def reload_on(
    requested: asyncio.Event, broker: Broker, *, load: Load, log: Log, set_log: SetLog
) -> None:
    """Reload whenever *requested* is set; once more when it was set meanwhile."""
    while True:
        await requested.wait()
        requested.clear()
        await reload(broker, load=load, log=log, set_log=set_log)


async def reload(broker: Broker, *, load: Load, log: Log, set_log: SetLog) -> None:
    """Put in force what *load* returns, or report why not and leave everything as it is."""
    broker.reopen_audit()
    broker.service.reloading()
    try:
        # In a thread: the file may be on a slow disk, and names of users looked up far away.
        desired = await asyncio.to_thread(load)
        config, unchangeable = without_restart_only(desired, broker.current.config)
        changed = await broker.apply(config)
    except (ConfigError, CannotStart) as error:
        broker.telemetry.on_config(refused=str(error))
        log.error("config.refused", reason=str(error))
        broker.service.ready(note="the new configuration was refused")
    else:
        broker.telemetry.on_config(refused=None)
        set_log(config.log)
        log.info("config.reloaded", **changed)
        for key in unchangeable:
            log.warning("config.warning", reason=f"{key}: stays as it was; it takes a restart")
        for warning in config.warnings:
            log.warning("config.warning", reason=warning)
        broker.service.ready()


def without_restart_only(desired: Config, current: Config) -> tuple[Config, list[str]]:
    """Return *desired* with what only a restart can change as in *current*, and those keys."""
    kept = {name: getattr(current, name) for name in RESTART_ONLY}
    changed = [name for name, value in kept.items() if getattr(desired, name) != value]
    return replace(desired, **kept), changed
