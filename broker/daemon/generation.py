"""Everything that is made from one configuration, or kept from another. Puts none in force."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from broker.config import Config
from broker.daemon.access import Access, Audit, access_of, audit_of
from broker.daemon.listeners import Sockets, endpoints_of, sockets_of
from broker.daemon.self_reference import refuse_circles
from broker.daemon.surfaces import (
    Kept,
    container_surface,
    control_surface,
    imds_surface,
    ops_surface,
    token_files,
)
from broker.daemon.wiring import Clouds, Parts, Pipelines, wire
from broker.http.message import Surface
from broker.surfaces.control import Endpoints
from broker.surfaces.token_file import TokenFile
from broker.telemetry.log import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """What outlives every configuration."""

    parts: Parts
    clouds: Clouds
    telemetry: Telemetry
    is_open: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One configuration, and what is made from it. Two may share what is the same in both."""

    config: Config
    pipelines: Pipelines
    files: Mapping[Kept, TokenFile[Any]]
    sockets: Sockets
    endpoints: Endpoints
    access: Access
    audit: Audit

    def surfaces(self, lasting: Lasting) -> dict[str, Surface]:
        """Return who is to answer, by the name of the sockets."""
        config, pipelines, access = self.config, self.pipelines, self.access
        metrics = lasting.telemetry.metrics
        return {
            "ops": ops_surface(pipelines, access, metrics),
            "control": control_surface(
                config, pipelines, access, self.endpoints, is_open=lasting.is_open
            ),
            "imds": imds_surface(config, pipelines, access, lasting.parts),
            "container": container_surface(config, pipelines, access),
        }


async def made_from(
    config: Config,
    lasting: Lasting,
    undo: AsyncExitStack,
    *,
    before: Generation | None = None,
) -> Generation:
    """Return what *config* says, with everything of *before* that it says too. Nobody is served by
    it yet, and nothing else is changed; what is opened for it is closed with *undo*.

    Raises:
        CannotStart: A port is taken, a file or directory cannot be used, or we would be our own
            client.
    """
    parts = lasting.parts
    pipelines = wire(config, lasting.clouds, before=before.pipelines if before else None)
    files = token_files(
        config, pipelines, parts, lasting.telemetry, undo, before=before.files if before else {}
    )
    sockets = sockets_of(config, parts, undo, before=before.sockets if before else None)
    endpoints = endpoints_of(config, sockets)
    refuse_circles(config, endpoints, parts.environ)
    access = access_of(config, pipelines, parts, undo, before=before.access if before else None)
    if before is not None and before.config.audit == config.audit:
        audit = before.audit
    else:
        audit = await audit_of(config, access, parts, lasting.telemetry)
        undo.push_async_callback(audit.closing.aclose)
    return Generation(
        config=config,
        pipelines=pipelines,
        files=files,
        sockets=sockets,
        endpoints=endpoints,
        access=access,
        audit=audit,
    )
