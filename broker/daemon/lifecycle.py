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
from broker.config import Config
from broker.daemon.access import note_use
from broker.daemon.differences import differences
from broker.daemon.doors import Company, Doors
from broker.daemon.exposed import exposed
from broker.daemon.generation import Generation, Lasting, made_from
from broker.daemon.listeners import announce, announced, is_listening, prepare_runtime_dir
from broker.daemon.resume import renew_after_clones
from broker.daemon.supervision import Supervised
from broker.daemon.surfaces import handing_on, limits_of
from broker.daemon.tasks import Upkeep, upkeep
from broker.daemon.wiring import (
    Parts,
    Pipelines,
    Settles,
    first_leases,
    keep,
    listen_to,
    opened_clouds,
)
from broker.files.watch import watch
from broker.http.limits import Crowd
from broker.http.message import Exchange
from broker.keeper import Event, Keeper
from broker.lease import NotReady
from broker.surfaces.control import Endpoints, client_facts
from broker.telemetry.log import Metrics, Telemetry

CREDENTIALS = ("imds", "container")
"""The surfaces that open when there is something to serve."""


@asynccontextmanager
async def serving_all(
    config: Config, parts: Parts, *, stop: asyncio.Event | None = None
) -> AsyncIterator["Running"]:
    """Run the whole broker for the block.

    Ops and control open first; the credential surfaces when the first leases are there, or after
    the start-up limit. *stop* ends the waiting for them: the block is then to leave at once.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        opened = asyncio.Event()
        metrics = Metrics((), clock=parts.clock)
        lasting = Lasting(
            parts=parts,
            clouds=await opened_clouds(config.upstream, parts, stack),
            telemetry=Telemetry(log=parts.log, metrics=metrics, clock=parts.clock),
            is_open=opened.is_set,
        )
        asyncio.get_running_loop().set_exception_handler(lasting.telemetry.on_loop_trouble)
        prepare_runtime_dir(config.runtime_dir, parts.environ)
        first = await made_from(config, lasting, stack)
        peers = stack.enter_context(Peers(first.access.cgroups))
        running = Running(first, lasting, peers=peers, stop=stop)
        stack.push_async_callback(running.end_audit)
        running.kept = await stack.enter_async_context(upkeep())
        await running.start(stack)
        opened.set()
        yield running


class Running:
    """A broker that serves, for who started it in this process."""

    kept: Upkeep
    """Everything that goes on in the background."""

    def __init__(
        self, first: Generation, lasting: Lasting, *, peers: Peers, stop: asyncio.Event | None
    ) -> None:
        self.now = first
        """What is in force."""
        self.supervised = Supervised(lasting.parts, pipelines=lambda: self.now.pipelines)
        self._lasting = lasting
        self._parts = lasting.parts
        self._telemetry = lasting.telemetry
        self._stop = stop
        guard = first.config.guard
        self._crowd = Crowd(
            connections=guard.max_connections, per_caller=guard.max_connections_per_caller
        )
        self._telemetry.metrics.count_connections(self._crowd)
        self._telemetry.metrics.follow(first.pipelines.keepers)
        self._doors = Doors(
            Company(
                clock=self._parts.clock,
                crowd=self._crowd,
                who=peers.caller_of,
                on_exchange=self._on_exchange,
                on_error=self._telemetry.on_bug,
            )
        )

    @property
    def endpoints(self) -> Endpoints:
        return self.now.endpoints

    @property
    def pipelines(self) -> Pipelines:
        return self.now.pipelines

    @property
    def restored(self) -> tuple[str, ...]:
        """The leases that it began with, by name: those of the process before it."""
        return tuple(self.supervised.restored)

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
        now, doors, sockets = self.now, self._doors, self.now.sockets.all
        self.supervised.restore()
        self._warn_of_exposed()
        self._keep(now.pipelines, now.config)
        self._keep_secrets(now)
        self.kept.begin(self, self._renew_after_clones)
        self.kept.begin(self.supervised, self.supervised.beat)
        stack.push_async_callback(doors.close_all)
        self._answer_by(now)
        for name in ("ops", "control"):
            await doors.open(name, sockets[name])
        stack.enter_context(announced(now.config, now.endpoints, now.sockets))
        # systemd's own sockets listen already: who waits there gets an answer now.
        for name in CREDENTIALS:
            await doors.open(name, filter(is_listening, sockets[name]))
        if all(is_listening(sock) for name in CREDENTIALS for sock in sockets[name]):
            self.supervised.ready()
        await self._settled(now.pipelines.keepers)
        # What IMDS tells of the machine may be known only now.
        self._answer_by(now)
        for name in CREDENTIALS:
            await doors.open(name, sockets[name])
        stack.push_async_callback(doors.close_all)
        stack.callback(self.supervised.stopping)
        self.supervised.ready()
        # Whoever waited for us must find what we write, too.
        await self._settled(now.files.values())

    async def follow(self, config: Config) -> Mapping[str, list[str]]:
        """Put *config* in force in place of what is, and return what is different.

        What is bought, kept or listened on in the same way goes on. New leases are waited for, as
        at the start, before anybody is served by the new configuration.

        Raises:
            CannotStart: It cannot be put in force; then everything is as it was.
        """
        before = self.now
        async with AsyncExitStack() as undo:
            now = await made_from(config, self._lasting, undo, before=before)
            new = _without(now.pipelines.keepers, before.pipelines.keepers)
            undo.callback(self._listen, before.pipelines, before.config)
            undo.push_async_callback(self.kept.end, new)
            self._keep(now.pipelines, now.config)
            await self._settled(new)
            undo.push_async_callback(self._doors.close, _sockets_without(now, before))
            for name, sockets in now.sockets.all.items():
                await self._doors.open(name, sockets)
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
        await self.kept.end(gone)
        if before.access.tokens is not now.access.tokens:
            await self.kept.end([before.access.tokens])
        self._keep_secrets(now)
        await self.kept.end(_without(before.pipelines.keepers, now.pipelines.keepers))
        self._telemetry.metrics.follow(now.pipelines.keepers)
        await self._doors.close(_sockets_without(before, now))
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
        keep(pipelines, self.kept, self._parts.clock)

    def _listen(self, pipelines: Pipelines, config: Config) -> None:
        listen_to(pipelines, config, told_to(self._telemetry.on_event, self.supervised.on_event))

    def _keep_secrets(self, generation: Generation) -> None:
        """Keep the files with tokens in them, those that are not kept yet."""
        tokens, clock = generation.access.tokens, self._parts.clock
        self.kept.begin(tokens, partial(watch, tokens.watched, tokens.look_again, clock=clock))
        for file in generation.files.values():
            self.kept.begin(file, file.keep)

    def _answer_by(self, generation: Generation) -> None:
        guard = generation.config.guard
        self._crowd.resize(
            connections=guard.max_connections, per_caller=guard.max_connections_per_caller
        )
        self._doors.change(generation.surfaces(self._lasting), limits=limits_of(generation.config))

    async def _settled(self, settling: Iterable[Settles]) -> None:
        await first_leases(
            settling,
            clock=self._parts.clock,
            limit_s=self.now.config.start_timeout_s,
            stop=self._stop,
        )

    async def _renew_after_clones(self) -> None:
        await renew_after_clones(
            lambda: self.now.pipelines.keepers,
            self.now.access.keys,
            clock=self._parts.clock,
            incarnation=self._parts.incarnation,
        )

    def _warn_of_exposed(self) -> None:
        """Tell of identities that others can read without any grant."""
        for paths in self.now.pipelines.watched.values():
            for sentence in exposed(paths()):
                self._parts.warn(sentence)

    def _on_exchange(self, exchange: Exchange) -> None:
        # The audit first: trouble in what follows must not cost its line.
        if self.now.audit.log is not None:
            self.now.audit.log.on_exchange(exchange)
        self._telemetry.on_exchange(exchange)
        note_use(exchange, self.now.access, now=self._parts.clock.now())


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
