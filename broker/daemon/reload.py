"""Read the configuration again when told to, and say what came of it. Makes nothing from it."""

import asyncio
from collections.abc import Callable

from broker.config import Config, ConfigError
from broker.config.model import LogConfig
from broker.daemon.differences import followed
from broker.daemon.errors import CannotStart
from broker.daemon.lifecycle import Running
from broker.telemetry.log import Log

Load = Callable[[], Config]
Speak = Callable[[LogConfig], None]


async def reloads(
    running: Running, told: asyncio.Event, *, load: Load, log: Log, speak: Speak
) -> None:
    """Reload whenever *told* is set, for ever; once more, when it was set meanwhile."""
    while True:
        await told.wait()
        told.clear()
        await reload(running, load=load, log=log, speak=speak)


async def reload(running: Running, *, load: Load, log: Log, speak: Speak) -> None:
    """Put in force what *load* returns, or say why not and leave everything as it is.

    *speak* changes how the log is written.
    """
    running.reopen_audit()
    running.supervised.reloading()
    try:
        # In a thread: names of users may be looked up far away.
        wanted = await asyncio.to_thread(load)
        config, unchangeable = followed(wanted, running.now.config)
        changed = await running.follow(config)
    except (ConfigError, CannotStart) as error:
        log.error("config.refused", reason=str(error))
        running.supervised.ready(note="the new configuration was refused")
    else:
        speak(config.log)
        log.info("config.reloaded", **changed)
        for key in unchangeable:
            log.warning("config.warning", reason=f"{key}: stays as it was; it takes a restart")
        for warning in config.warnings:
            log.warning("config.warning", reason=warning)
        running.supervised.ready()
