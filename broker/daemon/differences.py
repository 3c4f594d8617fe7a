"""What is different from one configuration to the next, for the log; and what a start alone can
change. Changes nothing."""

from collections.abc import Mapping
from dataclasses import fields, replace

from broker.config import Config
from broker.daemon.generation import Generation

BY_A_START = ("runtime_dir", "state_dir", "upstream")
"""Where our own secrets and sockets are, and where the clouds are: by the latter every lease would
be bought anew, and they are told by the environment, which stays what it was."""


def followed(wanted: Config, before: Config) -> tuple[Config, list[str]]:
    """Return *wanted* with what only a start can change as *before*, and the keys of that."""
    kept = {name: getattr(before, name) for name in BY_A_START}
    stuck = [name for name, value in kept.items() if getattr(wanted, name) != value]
    return replace(wanted, **kept), stuck


def differences(before: Generation, now: Generation) -> Mapping[str, list[str]]:
    """Return what was put in force, as the fields of a log line."""
    had, has = before.pipelines.fingerprints, now.pipelines.fingerprints
    listened, listens = _urls(before), _urls(now)
    return {
        "changed": [
            field.name
            for field in fields(Config)
            if field.name != "warnings"
            and getattr(before.config, field.name) != getattr(now.config, field.name)
        ],
        "leases_added": [name for name in has if name not in had],
        "leases_changed": [name for name in has if had.get(name, has[name]) != has[name]],
        "leases_removed": [name for name in had if name not in has],
        "listeners_opened": [url for url in listens if url not in listened],
        "listeners_closed": [url for url in listened if url not in listens],
    }


def _urls(generation: Generation) -> tuple[str, ...]:
    endpoints = generation.endpoints
    return (*endpoints.imds, *endpoints.container, *endpoints.ops)
