"""Start, get ready, serve until told to stop, and leave in good order. Owns every task."""

import asyncio
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from broker import __version__
from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.peer import Peers, why_unaskable
from broker.audit import AuditLog
from broker.clock import Clock, jumps
from broker.config import Address, Config, IdentityConfig
from broker.exposed import exposed
from broker.gate import Access, access_of, audit_of, note_use
from broker.pipelines import (
    FROM_AWS,
    Parts,
    Pipelines,
    exchange,
    first_leases,
    keeping,
    listen_to,
    obtain,
    obtain_all,
    obtain_id_token,
    obtain_namespace_token,
    wired,
)
from broker.secrecy import keep_memory_private
from broker.sockets import announced, endpoints_of, opened_sockets, prepare_runtime_dir
from broker.sources.circles import Ours, identity_leads_to, leads_to
from broker.starting import CannotStart, Misconfigured, explained
from broker.surfaces.control import Endpoints, client_facts
from broker.surfaces.crowd import Crowd
from broker.surfaces.http import serving
from broker.surfaces.message import Exchange, Surface
from broker.surfaces.session_tokens import SigningKeys
from broker.surfaces.token_files import TokenFile
from broker.telemetry import Metrics, Telemetry, logger
from broker.watch import watch
from broker.ways_out import (
    container_surface,
    control_surface,
    handing_on,
    imds_surface,
    limits_of,
    ops_surface,
    token_files,
)

__all__ = [
    "CannotStart",
    "Parts",
    "Running",
    "exchange",
    "main",
    "obtain",
    "obtain_all",
    "obtain_id_token",
    "obtain_namespace_token",
    "private",
    "run",
    "serving_all",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A broker that serves, for who started it in this process."""

    endpoints: Endpoints
    pipelines: Pipelines
    client: Mapping[str, Any] = field(repr=False)
    """What ``/v1/client`` tells the owner, the container token with it."""


class Doors:
    """Opens surfaces on their sockets, all for one crowd and with the same ears, for as long as
    *stack* stands."""

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        config: Config,
        parts: Parts,
        access: Access,
        telemetry: Telemetry,
        audit: AuditLog | None,
    ) -> None:
        self._stack = stack
        self._clock = parts.clock
        self._limits = limits_of(config)
        self._access = access
        self._telemetry = telemetry
        self._audit = audit
        self._peers = stack.enter_context(Peers(access.cgroups))
        self._crowd = Crowd(
            connections=config.guard.max_connections,
            per_caller=config.guard.max_connections_per_caller,
        )
        telemetry.metrics.count_connections(self._crowd)

    async def open(self, surface: Surface, sockets: Iterable[socket.socket]) -> None:
        """Serve *surface* from here on.

        Raises:
            CannotStart: Another program listens there since the socket was bound.
        """
        opening = serving(
            surface,
            tuple(sockets),
            clock=self._clock,
            limits=self._limits,
            crowd=self._crowd,
            on_exchange=self._on_exchange,
            on_error=self._telemetry.on_bug,
            who=self._peers.caller_of,
        )
        with explained():
            await self._stack.enter_async_context(opening)

    def _on_exchange(self, exchange: Exchange) -> None:
        # The audit first: trouble in what follows must not cost its line.
        if self._audit is not None:
            self._audit.on_exchange(exchange)
        self._telemetry.on_exchange(exchange)
        note_use(exchange, self._access, now=self._clock.now())


@asynccontextmanager
async def serving_all(
    config: Config, parts: Parts, *, stop: asyncio.Event | None = None
) -> AsyncIterator[Running]:
    """Run the whole broker for the block.

    Ops and control open first; the credential surfaces when the first leases are there, or after
    the start-up limit. *stop* ends the waiting for them: the block is then to leave at once.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    settling = partial(first_leases, clock=parts.clock, limit_s=config.start_timeout_s, stop=stop)
    async with AsyncExitStack() as stack:
        pipelines = await stack.enter_async_context(wired(config, parts))
        metrics = Metrics(pipelines.keepers, clock=parts.clock)
        telemetry = Telemetry(log=parts.log, metrics=metrics, clock=parts.clock)
        listen_to(pipelines, config, telemetry.on_event)
        asyncio.get_running_loop().set_exception_handler(telemetry.on_loop_trouble)

        prepare_runtime_dir(config.runtime_dir, parts.environ)
        files = token_files(config, pipelines, parts, telemetry)
        for file in files:
            stack.callback(file.close)
        sockets = stack.enter_context(opened_sockets(config, parts))
        endpoints = endpoints_of(config, sockets)
        refuse_circles(config, endpoints, parts)
        warn_of_exposed(pipelines, parts)
        access = access_of(config, pipelines, parts)
        audit = await stack.enter_async_context(audit_of(config, access, parts, telemetry))
        doors = Doors(
            stack, config=config, parts=parts, access=access, telemetry=telemetry, audit=audit
        )

        tasks = await stack.enter_async_context(keeping(pipelines, parts.clock))
        for work in background(files, pipelines, access, parts):
            stack.callback(tasks.create_task(work).cancel)
        opened = asyncio.Event()
        control = control_surface(config, pipelines, access, endpoints, is_open=opened.is_set)
        await doors.open(ops_surface(pipelines, access, metrics), sockets.ops)
        await doors.open(control, [sockets.control])
        stack.enter_context(announced(config, endpoints))
        await settling(pipelines.keepers)
        await doors.open(imds_surface(config, pipelines, access, parts), sockets.imds)
        await doors.open(container_surface(config, pipelines, access), sockets.container)
        # Whoever waited for us must find what we write, too.
        await settling(files)
        opened.set()
        yield Running(
            endpoints=endpoints,
            pipelines=pipelines,
            client=owners_facts(config, endpoints, access),
        )


def background(
    files: Iterable[TokenFile[Any]], pipelines: Pipelines, access: Access, parts: Parts
) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield what goes on beside keepers and surfaces."""
    yield from (file.keep() for file in files)
    yield renew_after_jumps(pipelines, access.keys, parts.clock)
    yield watch(access.tokens.watched, access.tokens.look_again, clock=parts.clock)


def warn_of_exposed(pipelines: Pipelines, parts: Parts) -> None:
    """Tell of identities that others can read without any grant."""
    for paths in pipelines.watched.values():
        for sentence in exposed(paths()):
            parts.warn(sentence)


def owners_facts(config: Config, endpoints: Endpoints, access: Access) -> Mapping[str, Any]:
    """Return what the broker's own user is told of how to use it."""
    uid = os.geteuid()
    grant = access.rules.grant_for(Caller(uid=uid))
    return client_facts(
        endpoints,
        grant,
        container_token=access.tokens.newest(PLAIN_TOKEN),
        namespace=handing_on(config, access).facts_for(uid, endpoints, grant),
    )


def refuse_circles(config: Config, endpoints: Endpoints, parts: Parts) -> None:
    """Refuse to be our own client.

    Raises:
        Misconfigured: A source would read what we serve or write; names both.
    """
    ours = Ours(
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
        if circle := circle_of(identity, ours, parts.environ):
            raise Misconfigured(f"identities.{name}: {circle}")


def circle_of(identity: IdentityConfig, ours: Ours, environ: Mapping[str, str]) -> str | None:
    if identity.source in FROM_AWS:
        return leads_to(environ, ours=ours, profile=identity.profile)
    return identity_leads_to(
        environ,
        ours=ours,
        source=identity.source,
        token_file=identity.token_file,
        token_spec=identity.token_spec,
    )


async def renew_after_jumps(pipelines: Pipelines, keys: SigningKeys, clock: Clock) -> None:
    """Renew everything after a jump of the wall clock: this may be a thawed clone, whose twin
    holds the same leases and signing keys."""
    async for _ in jumps(clock):
        keys.add_key(clock.now())
        for keeper in pipelines.keepers:
            keeper.renew_now()


def raise_open_files_limit() -> None:
    """Take as many descriptors as we may: each surface holds up to ``max_connections``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def run(config: Config, parts: Parts, stop: asyncio.Event) -> None:
    """Be the daemon until *stop*.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    for warning in filter(None, (*config.warnings, why_unaskable())):
        parts.log.warning("config.warning", reason=warning)
    raise_open_files_limit()
    async with serving_all(config, parts, stop=stop) as running:
        if not stop.is_set():
            parts.log.info(
                "daemon.ready",
                version=__version__,
                imds=running.endpoints.imds,
                container=running.endpoints.container,
                ops=running.endpoints.ops,
                roles=list(running.pipelines.roles),
            )
        await stop.wait()
        parts.log.info("daemon.stopping")


def main(config: Config) -> int:
    """Be the daemon until SIGTERM or SIGINT, and return the exit code."""
    log = logger(form=config.log.format, level=config.log.level)
    keep_memory_private()
    try:
        asyncio.run(_until_signalled(config, Parts(log=log)))
    except CannotStart as error:
        print(f"namespace-broker: {error}", file=sys.stderr)  # noqa: T201 - an error is one line
        return error.exit_code
    return 0


async def _until_signalled(config: Config, parts: Parts) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A terminal that closes: leave in good order, unless nohup told us to stay.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    await run(config, parts, stop)


@asynccontextmanager
async def private(config: Config, parts: Parts) -> AsyncIterator[Running]:
    """Run a broker of one's own for the block, on free loopback ports, beside any other.

    It touches none of the secrets that the host's broker keeps. *config* has nothing but roles.
    """
    with tempfile.TemporaryDirectory(prefix="namespace-broker-") as folder:
        anywhere = (Address(host="127.0.0.1", port=0),)
        runtime = Path(folder)
        own = replace(
            config,
            runtime_dir=runtime,
            state_dir=None,
            imds=replace(config.imds, listen=anywhere),
            container=replace(
                config.container,
                listen=anywhere,
                token_file=runtime / "container-token",
                token_group=None,
            ),
            ops=replace(config.ops, listen=()),
        )
        async with serving_all(own, parts) as running:
            yield running
