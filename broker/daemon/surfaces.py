"""Build every surface and token file writer from the configuration."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from broker.access.caller import PLAIN_TOKEN
from broker.access.caller_lookup import CallerLookup
from broker.clock import Clock
from broker.config import Config
from broker.credentials import IdToken, NamespaceToken
from broker.daemon import host
from broker.daemon.access import Access
from broker.daemon.errors import Misconfigured
from broker.daemon.runtime import Runtime
from broker.daemon.wiring import Pipelines
from broker.http.limits import Limits
from broker.http.message import Surface
from broker.keeper import Keeper
from broker.lease import NotReady
from broker.surfaces.container import Container
from broker.surfaces.control import BrokerEndpoints, Control, NamespaceExports
from broker.surfaces.imds import Imds
from broker.surfaces.imds_tree import Instance, instance_id_from
from broker.surfaces.namespace import ContainerRouter, NamespaceTokens
from broker.surfaces.ops import Ops
from broker.surfaces.session_tokens import SessionTokens
from broker.surfaces.token_file import BareJwt, FileFormat, TokenFileWriter, TokenJson
from broker.telemetry.events import Telemetry
from broker.telemetry.metrics import Metrics


def ops_surface(
    pipelines: Pipelines, access: Access, metrics: Metrics, *, files_written: Callable[[], bool]
) -> Surface:
    return Ops(
        keepers=pipelines.keepers,
        guard=access.guard,
        metrics=metrics.text,
        files_written=files_written,
    )


def control_surface(
    config: Config,
    pipelines: Pipelines,
    access: Access,
    endpoints: BrokerEndpoints,
    *,
    is_open: Callable[[], bool],
    files_written: Callable[[], bool],
    problems: Mapping[str, str],
) -> Surface:
    return Control(
        keepers=pipelines.keepers,
        roles=pipelines.roles,
        leases=pipelines.held,
        identities=pipelines.identities,
        id_tokens=by_audience(config, pipelines),
        rules=access.rules,
        callers=CallerLookup(access.facts, subordinates=access.subordinates),
        usage=access.usage,
        owner_uid=os.geteuid(),
        container_token=lambda: access.tokens.newest(PLAIN_TOKEN),
        exports=handing_on(config, pipelines, access),
        endpoints=endpoints,
        is_open=is_open,
        files_written=files_written,
        problems=problems,
    )


def imds_surface(config: Config, pipelines: Pipelines, access: Access, runtime: Runtime) -> Surface:
    return Imds(
        pipelines.held,
        rules=access.rules,
        guard=access.guard,
        tokens=SessionTokens(access.keys),
        instance=instance_of(config, pipelines, runtime.clock),
        v1=config.imds.v1,
    )


def container_surface(config: Config, pipelines: Pipelines, access: Access) -> Surface:
    container = Container(
        pipelines.held, rules=access.rules, guard=access.guard, container_tokens=access.tokens
    )
    if not config.id_tokens and not any(each.http for each in config.namespace_tokens):
        return container
    namespace = NamespaceTokens(
        served_identities(config, pipelines),
        id_tokens=by_audience(config, pipelines),
        rules=access.rules,
        guard=access.guard,
        container_tokens=access.tokens,
        token_spec_signer=access.token_spec_signer,
    )
    return ContainerRouter(namespace=namespace, container=container)


def by_audience(config: Config, pipelines: Pipelines) -> Mapping[str, Keeper[IdToken]]:
    """Return the kept ID tokens by audience; the first of two for the same one."""
    return {each.audience: pipelines.id_tokens[each.name] for each in reversed(config.id_tokens)}


def served_identities(config: Config, pipelines: Pipelines) -> dict[str, Keeper[NamespaceToken]]:
    """Return the identities whose token is served over HTTP."""
    return {
        each.identity: pipelines.identities[each.identity]
        for each in config.namespace_tokens
        if each.http
    }


def handing_on(config: Config, pipelines: Pipelines, access: Access) -> NamespaceExports:
    """Return the ways to a Namespace token, for a caller who may have one."""
    files = {each.identity: each.file for each in config.namespace_tokens if each.file}
    return NamespaceExports(
        files={identity: str(file) for identity, file in files.items()},
        http=served_identities(config, pipelines),
        token_spec_signer=access.token_spec_signer,
    )


FileKey = tuple[Path, str | None, Keeper[Any]]
"""A file, its group, and the keeper whose leases it holds."""


def token_files(
    config: Config,
    pipelines: Pipelines,
    runtime: Runtime,
    telemetry: Telemetry,
    undo: AsyncExitStack,
    *,
    before: Mapping[FileKey, TokenFileWriter[Any]],
) -> dict[FileKey, TokenFileWriter[Any]]:
    """Open every configured token file, to be closed with *undo*; reuse those of *before*.

    Raises:
        Misconfigured: A place must not be used.
    """
    files: dict[FileKey, TokenFileWriter[Any]] = {}
    for path, group, keeper, form in configured_files(config, pipelines):
        kept = (path, group, keeper)
        if kept in before and before[kept].is_in_place():
            files[kept] = before[kept]
            continue
        try:
            files[kept] = TokenFileWriter(
                path,
                keeper=keeper,
                file_format=form,
                clock=runtime.clock,
                group=group,
                on_event=telemetry.on_file,
            )
        except ValueError as error:
            raise Misconfigured(str(error)) from error
        except OSError as error:
            raise Misconfigured(f"{error.filename}: {error.strerror}") from error
        undo.callback(files[kept].close)
    return files


def configured_files(
    config: Config, pipelines: Pipelines
) -> Iterator[tuple[Path, str | None, Keeper[Any], FileFormat[Any]]]:
    """Yield path, group, keeper and format of each configured token file."""
    for each in config.namespace_tokens:
        if each.file is not None:
            yield each.file, each.group, pipelines.identities[each.identity], TokenJson()
    for entry in config.id_tokens:
        if entry.file is not None:
            yield entry.file, None, pipelines.id_tokens[entry.name], BareJwt()


def instance_of(config: Config, pipelines: Pipelines, clock: Clock) -> Instance:
    """Return what IMDS says of this machine: as configured, else by Namespace, else by the host."""
    default = next((e.role for e in config.roles if e.role.name == config.default_role), None)
    return Instance(
        instance_id=config.imds.instance_id
        or _namespace_instance_id(pipelines)
        or instance_id_from(host.machine_id()),
        read_at=clock.now(),
        region=config.region,
        availability_zone=config.availability_zone,
        account_id=default.arn.split(":")[4] if default else None,
        hostname=socket.gethostname(),
        local_ipv4=host.local_ipv4(),
        mac=host.mac(),
        architecture=host.architecture(),
    )


def _namespace_instance_id(pipelines: Pipelines) -> str | None:
    for identity in pipelines.identities.values():
        with suppress(NotReady):
            return identity.current().value.instance_id
    return None


def limits_of(config: Config) -> Limits:
    return Limits(
        header_bytes=config.guard.header_bytes,
        header_timeout_s=config.guard.header_timeout_s,
        idle_timeout_s=config.guard.idle_timeout_s,
    )
