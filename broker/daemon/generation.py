"""One configuration, and everything that is built from it."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from broker.config import (
    AwsIdentityConfig,
    Config,
    IdentityConfig,
)
from broker.daemon.access import Access, Audit, access_of, audit_of
from broker.daemon.errors import Misconfigured, explained
from broker.daemon.listeners import Sockets, endpoints_of, sockets_of
from broker.daemon.runtime import Clouds, Runtime
from broker.daemon.surfaces import (
    FileKey,
    container_surface,
    control_surface,
    imds_surface,
    ops_surface,
    token_files,
)
from broker.daemon.wiring import Pipelines, wire
from broker.files.off_loop import off_loop
from broker.http.message import Surface
from broker.sources.aws.self_reference import (
    OwnOutputs,
    aws_self_reference,
    identity_self_reference,
)
from broker.surfaces.control import BrokerEndpoints
from broker.surfaces.token_file import TokenFileWriter
from broker.telemetry.events import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What outlives a configuration."""

    runtime: Runtime
    clouds: Clouds
    telemetry: Telemetry
    has_started: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One configuration, and what is built from it; two share what is the same in both."""

    config: Config
    pipelines: Pipelines
    files: Mapping[FileKey, TokenFileWriter[Any]]
    sockets: Sockets
    endpoints: BrokerEndpoints
    access: Access
    audit: Audit

    def surfaces(self, shared: Shared) -> dict[str, Surface]:
        """Return every surface by the name of its sockets."""
        config, pipelines, access = self.config, self.pipelines, self.access
        metrics = shared.telemetry.metrics
        return {
            "ops": ops_surface(pipelines, access, metrics, files_written=self._files_written),
            "control": control_surface(
                config,
                pipelines,
                access,
                self.endpoints,
                is_open=shared.has_started,
                files_written=self._files_written,
                problems=shared.telemetry.problems,
            ),
            "imds": imds_surface(config, pipelines, access, shared.runtime),
            "container": container_surface(config, pipelines, access),
        }

    def _files_written(self) -> bool:
        return all(file.is_written for file in self.files.values())


async def build(
    config: Config,
    shared: Shared,
    undo: AsyncExitStack,
    *,
    before: Generation | None = None,
) -> Generation:
    """Build what *config* says, reusing everything of *before* that is the same.

    Nobody is served by it yet. What is opened for it is closed with *undo*. It is built off the
    event loop: the files that are looked at may be on a disk that is slow or hangs.

    Raises:
        CannotStart: A port is taken, a file or directory cannot be used, or the broker would be
            its own client.
    """
    building = partial(_build_without_audit, config, shared, undo, before=before)
    generation = await off_loop(building, limit_s=None)
    with explained("identities: "):
        environ = shared.runtime.environ
        await off_loop(partial(refuse_self_reference, config, generation.endpoints, environ))
    if before is not None and before.config.audit == config.audit:
        return replace(generation, audit=before.audit)
    audit = await audit_of(config, generation.access, shared.runtime, shared.telemetry)
    undo.push_async_callback(audit.closing.aclose)
    return replace(generation, audit=audit)


def _build_without_audit(
    config: Config, shared: Shared, undo: AsyncExitStack, *, before: Generation | None
) -> Generation:
    runtime = shared.runtime
    pipelines = wire(config, shared.clouds, before=before.pipelines if before else None)
    files = token_files(
        config, pipelines, runtime, shared.telemetry, undo, before=before.files if before else {}
    )
    sockets = sockets_of(config, runtime, undo, before=before.sockets if before else None)
    endpoints = endpoints_of(config, sockets)
    access = access_of(config, pipelines, runtime, undo, before=before.access if before else None)
    return Generation(
        config=config,
        pipelines=pipelines,
        files=files,
        sockets=sockets,
        endpoints=endpoints,
        access=access,
        audit=Audit(),
    )


def refuse_self_reference(
    config: Config, endpoints: BrokerEndpoints, environ: Mapping[str, str]
) -> None:
    """Raise if the broker would be its own client.

    Raises:
        Misconfigured: An identity's source leads to what we serve or write; names both.
    """
    ours = OwnOutputs(
        urls={
            **dict.fromkeys(endpoints.imds, "imds.listen"),
            **dict.fromkeys(endpoints.container, "container.listen"),
            **dict.fromkeys(endpoints.ops, "ops.listen"),
        },
        files={
            **{
                each.file: f"namespace_tokens.{each.identity}.file"
                for each in config.namespace_tokens
                if each.file
            },
            **{each.file: f"id_tokens.{each.name}.file" for each in config.id_tokens if each.file},
        },
    )
    for name, identity in config.identities.items():
        if found := self_reference_of(identity, ours, environ):
            raise Misconfigured(f"identities.{name}: {found}")


def self_reference_of(
    identity: IdentityConfig, ours: OwnOutputs, environ: Mapping[str, str]
) -> str | None:
    if isinstance(identity, AwsIdentityConfig):
        return aws_self_reference(environ, ours=ours, profile=identity.profile)
    return identity_self_reference(
        environ,
        ours=ours,
        source=identity.source,
        token_file=identity.token_file,
        token_spec=identity.token_spec,
    )


def differences(before: Generation, now: Generation) -> Mapping[str, list[str]]:
    """Return what has changed, as the fields of a log line."""
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
