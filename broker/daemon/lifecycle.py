"""The broker while it serves: what is in force, and how another configuration takes its place.
Reads none."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.peer import Peers
from broker.clock import Clock, clock_steps
from broker.config import Config
from broker.daemon.access import note_use
from broker.daemon.generation import Generation, Shared, build, differences
from broker.daemon.handover import ServiceNotifier
from broker.daemon.listeners import (
    Listeners,
    announce,
    announced,
    is_listening,
    prepare_runtime_dir,
)
from broker.daemon.process import exposed
from broker.daemon.runtime import Runtime, open_clouds
from broker.daemon.surfaces import handing_on, limits_of
from broker.daemon.tasks import (
    Settles,
    TaskRegistry,
    connect_events,
    first_leases,
    start_pipelines,
    task_registry,
)
from broker.daemon.wiring import Pipelines
from broker.files.watch import watch
from broker.http.limits import ConnectionLimiter
from broker.http.message import Exchange
from broker.http.server import ServerContext
from broker.keeper import Event, Keeper
from broker.lease import NotReady
from broker.surfaces.control import BrokerEndpoints, client_facts
from broker.surfaces.session_tokens import SessionKeys
from broker.telemetry.events import Telemetry
from broker.telemetry.metrics import Metrics

CREDENTIALS = ("imds", "container")
"""The surfaces that open when there is something to serve."""


@asynccontextmanager
async def run_broker(
    config: Config, runtime: Runtime, *, stop: asyncio.Event | None = None
) -> AsyncIterator["Broker"]:
    """Run the whole broker for the block.

    Ops and control open first; the credential surfaces when the first leases are there, or after
    the start-up limit. *stop* ends the waiting for them: the block is then to leave at once.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        opened = asyncio.Event()
        metrics = Metrics((), clock=runtime.clock)
        shared = Shared(
            runtime=runtime,
            clouds=await open_clouds(config.upstream, runtime, stack),
            telemetry=Telemetry(log=runtime.log, metrics=metrics, clock=runtime.clock),
            is_open=opened.is_set,
        )
        asyncio.get_running_loop().set_exception_handler(shared.telemetry.on_loop_trouble)
        prepare_runtime_dir(config.runtime_dir, runtime.environ)
        first = await build(config, shared, stack)
        peers = stack.enter_context(Peers(first.access.cgroups))
        broker = Broker(first, shared, peers=peers, stop=stop)
        stack.push_async_callback(broker.end_audit)
        broker.tasks = await stack.enter_async_context(task_registry())
        await broker.start(stack)
        opened.set()
        yield broker


class Broker:
    """A broker that serves, for who started it in this process."""

    tasks: TaskRegistry
    """Everything that goes on in the background."""

    def __init__(
        self, first: Generation, shared: Shared, *, peers: Peers, stop: asyncio.Event | None
    ) -> None:
        self.now = first
        """What is in force."""
        self.service = ServiceNotifier(shared.runtime, pipelines=lambda: self.now.pipelines)
        self._shared = shared
        self._runtime = shared.runtime
        self._telemetry = shared.telemetry
        self._stop = stop
        guard = first.config.guard
        self._limiter = ConnectionLimiter(
            connections=guard.max_connections, per_caller=guard.max_connections_per_caller
        )
        self._telemetry.metrics.count_connections(self._limiter)
        self._telemetry.metrics.follow(first.pipelines.keepers)
        self._listeners = Listeners(
            ServerContext(
                clock=self._runtime.clock,
                limiter=self._limiter,
                caller_of=peers.caller_of,
                on_exchange=self._on_exchange,
                on_error=self._telemetry.on_bug,
            )
        )

    @property
    def endpoints(self) -> BrokerEndpoints:
        return self.now.endpoints

    @property
    def pipelines(self) -> Pipelines:
        return self.now.pipelines

    @property
    def restored(self) -> tuple[str, ...]:
        """The leases that it began with, by name: those of the process before it."""
        return tuple(self.service.restored)

    @property
    def client(self) -> Mapping[str, Any]:
        """What ``/v1/client`` tells the owner, the container token with it."""
        now, uid = self.now, os.geteuid()
        grant = now.access.rules.grant_for(Caller(uid=uid))
        return client_facts(
            now.endpoints,
            grant,
            container_token=now.access.tokens.newest(PLAIN_TOKEN),
            namespace=handing_on(now.config, now.access).facts_for(uid, now.endpoints, grant),
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Open every surface, each at its time; all end with *stack*.

        Raises:
            CannotStart: Another program listens there, or a file cannot be written.
        """
        now, listeners, sockets = self.now, self._listeners, self.now.sockets.all
        self.service.restore()
        self._warn_of_exposed()
        self._keep(now.pipelines, now.config)
        self._keep_secrets(now)
        self.tasks.start(self, self._renew_after_resume)
        self.tasks.start(self.service, self.service.beat)
        stack.push_async_callback(listeners.close_all)
        self._answer_by(now)
        for name in ("ops", "control"):
            await listeners.open(name, sockets[name])
        stack.enter_context(announced(now.config, now.endpoints, now.sockets))
        # systemd's own sockets listen already: who waits there gets an answer now.
        for name in CREDENTIALS:
            await listeners.open(name, filter(is_listening, sockets[name]))
        if all(is_listening(sock) for name in CREDENTIALS for sock in sockets[name]):
            self.service.ready()
        await self._settled(now.pipelines.keepers)
        # What IMDS tells of the machine may be known only now.
        self._answer_by(now)
        for name in CREDENTIALS:
            await listeners.open(name, sockets[name])
        stack.push_async_callback(listeners.close_all)
        stack.callback(self.service.stopping)
        self.service.ready()
        # Whoever waited for us must find what we write, too.
        await self._settled(now.files.values())

    async def apply(self, config: Config) -> Mapping[str, list[str]]:
        """Put *config* in force in place of what is, and return what is different.

        What is bought, kept or listened on in the same way goes on. New leases are waited for, as
        at the start, before anybody is served by the new configuration.

        Raises:
            CannotStart: It cannot be put in force; then everything is as it was.
        """
        before = self.now
        async with AsyncExitStack() as undo:
            now = await build(config, self._shared, undo, before=before)
            new = _without(now.pipelines.keepers, before.pipelines.keepers)
            undo.callback(self._listen, before.pipelines, before.config)
            undo.push_async_callback(self.tasks.end, new)
            self._keep(now.pipelines, now.config)
            await self._settled(new)
            undo.push_async_callback(self._listeners.close, _sockets_without(now, before))
            for name, sockets in now.sockets.all.items():
                await self._listeners.open(name, sockets)
            announce(now.config, now.endpoints, now.sockets)
            undo.pop_all()
        # Nothing is waited for from here to the end of the switch.
        self.now = now
        self._answer_by(now)
        for keeper in now.pipelines.keepers:
            if keeper.is_refused and keeper not in new:
                keeper.renew_now()
        await self._retire(before)
        return differences(before, now)

    async def _retire(self, before: Generation) -> None:
        """End what was in force and is not any more."""
        now, gone = self.now, _without(before.files.values(), self.now.files.values())
        for file in gone:
            if any(file.path == path and _has_lease(keeper) for path, _, keeper in now.files):
                file.leave_in_place()
        await self.tasks.end(gone)
        if before.access.tokens is not now.access.tokens:
            await self.tasks.end([before.access.tokens])
        self._keep_secrets(now)
        await self.tasks.end(_without(before.pipelines.keepers, now.pipelines.keepers))
        self._telemetry.metrics.follow(now.pipelines.keepers)
        await self._listeners.close(_sockets_without(before, now))
        if before.audit is not now.audit:
            await before.audit.closing.aclose()
        self._warn_of_exposed()
        await self._settled(_without(now.files.values(), before.files.values()))

    def reopen_audit(self) -> None:
        """Go on in the audit's file that is there now: it may have been rotated."""
        if self.now.audit.log is not None:
            self.now.audit.log.reopen()

    async def end_audit(self) -> None:
        await self.now.audit.closing.aclose()

    def _keep(self, pipelines: Pipelines, config: Config) -> None:
        """Keep the leases of *pipelines*, those that are not kept yet."""
        self._listen(pipelines, config)
        start_pipelines(pipelines, self.tasks, self._runtime.clock)

    def _listen(self, pipelines: Pipelines, config: Config) -> None:
        connect_events(pipelines, config, told_to(self._telemetry.on_event, self.service.on_event))

    def _keep_secrets(self, generation: Generation) -> None:
        """Keep the files with tokens in them, those that are not kept yet."""
        tokens, clock = generation.access.tokens, self._runtime.clock
        self.tasks.start(tokens, partial(watch, tokens.watched, tokens.reread, clock=clock))
        for file in generation.files.values():
            self.tasks.start(file, file.keep)

    def _answer_by(self, generation: Generation) -> None:
        guard = generation.config.guard
        self._limiter.resize(
            connections=guard.max_connections, per_caller=guard.max_connections_per_caller
        )
        self._listeners.change(
            generation.surfaces(self._shared), limits=limits_of(generation.config)
        )

    async def _settled(self, settling: Iterable[Settles]) -> None:
        await first_leases(
            settling,
            clock=self._runtime.clock,
            limit_s=self.now.config.start_timeout_s,
            stop=self._stop,
        )

    async def _renew_after_resume(self) -> None:
        await renew_after_resume(
            lambda: self.now.pipelines.keepers,
            self.now.access.keys,
            clock=self._runtime.clock,
            boot_id=self._runtime.boot_id,
        )

    def _warn_of_exposed(self) -> None:
        """Tell of identities that others can read without any grant."""
        for paths in self.now.pipelines.watched.values():
            for sentence in exposed(paths()):
                self._runtime.warn(sentence)

    def _on_exchange(self, exchange: Exchange) -> None:
        # The audit first: trouble in what follows must not cost its line.
        if self.now.audit.log is not None:
            self.now.audit.log.on_exchange(exchange)
        self._telemetry.on_exchange(exchange)
        note_use(exchange, self.now.access, now=self._runtime.clock.now())


def told_to(*listeners: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return what tells each of *listeners*."""

    def heard(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return heard


def _without(these: Iterable[Any], those: Iterable[Any]) -> list[Any]:
    others = set(those)
    return [each for each in these if each not in others]


def _sockets_without(these: Generation, those: Generation) -> list[Any]:
    return _without(sum(these.sockets.all.values(), ()), sum(those.sockets.all.values(), ()))


def _has_lease(keeper: Keeper[Any]) -> bool:
    try:
        keeper.current()
    except NotReady:
        return False
    return True


async def renew_after_resume(
    keepers: Callable[[], Iterable[Keeper[Any]]],
    keys: SessionKeys,
    *,
    clock: Clock,
    boot_id: Callable[[], str],
) -> None:
    """Renew everything, with a signing key of our own, after the wall clock jumped or this became
    another *boot_id*: it may be a thawed clone, whose twin holds the same leases and keys.

    asyncio's clock stands still while a machine is suspended or snapshotted, and a clone wakes up
    with everything that its twin holds.
    """
    async for jumped in clock_steps(clock):
        found = boot_id()
        if jumped or found != keys.made_on:
            keys.add_key(clock.now(), on=found)
            for keeper in keepers():
                keeper.renew_now()
