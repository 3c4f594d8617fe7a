"""The broker's life: start, serve, apply another configuration, drain, leave."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.peer import Peers
from broker.access.rules import limited
from broker.clock import CHECK_S, Clock, ClockSkew, clock_steps
from broker.config import Address, Config
from broker.daemon.access import (
    recorded_token_scope,
    replace_tokens_that_open_more,
    token_scope,
)
from broker.daemon.errors import CannotStart
from broker.daemon.generation import Generation, Shared, build, differences
from broker.daemon.handover import ServiceNotifier
from broker.daemon.listeners import (
    Listeners,
    announce,
    announced,
    has_address,
    is_in_place,
    prepare_directories,
)
from broker.daemon.process import readable_by_others
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
from broker.files.external import original_of
from broker.files.off_loop import off_loop
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


@asynccontextmanager
async def run_broker(
    config: Config, runtime: Runtime, *, stop: asyncio.Event | None = None
) -> AsyncIterator["Broker"]:
    """Run the whole broker for the block, which begins when the first leases are there.

    It begins after the start-up limit at the latest, and at once when *stop* is set: then the block
    is to leave. Every surface answers from the first moment on.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        started = asyncio.Event()
        metrics = Metrics((), clock=runtime.clock)
        telemetry = Telemetry(log=runtime.log, metrics=metrics, clock=runtime.clock)
        runtime.skew.on_change = telemetry.on_skew
        shared = Shared(
            runtime=runtime,
            clouds=await open_clouds(config.upstream, runtime, stack),
            telemetry=telemetry,
            has_started=started.is_set,
        )
        asyncio.get_running_loop().set_exception_handler(shared.telemetry.on_loop_trouble)
        prepare_directories(config, runtime.environ)
        first = await build(config, shared, stack)
        peers = stack.enter_context(
            Peers(first.access.cgroups, subordinates=first.access.subordinates)
        )
        broker = Broker(first, shared, peers=peers, stop=stop)
        stack.push_async_callback(broker.close_audit)
        broker.tasks = await stack.enter_async_context(task_registry())
        await broker.start(stack)
        started.set()
        yield broker


class Broker:
    """A running broker."""

    tasks: TaskRegistry

    def __init__(
        self, first: Generation, shared: Shared, *, peers: Peers, stop: asyncio.Event | None
    ) -> None:
        self.current = first
        self.service = ServiceNotifier(shared.runtime, pipelines=lambda: self.current.pipelines)
        self._shared = shared
        self._runtime = shared.runtime
        self.telemetry = shared.telemetry
        peers.complete = lambda caller: limited(caller, self.current.access.rules)
        self._stop = stop
        self._applying = asyncio.Lock()
        guard = first.config.guard
        self._limiter = ConnectionLimiter(
            connections=guard.max_connections, per_caller=guard.max_connections_per_caller
        )
        self.telemetry.metrics.count_connections(self._limiter)
        self.telemetry.metrics.follow(first.pipelines.keepers)
        self._listeners = Listeners(
            ServerContext(
                clock=self._runtime.clock,
                limiter=self._limiter,
                caller_of=peers.caller_of,
                on_exchange=self._on_exchange,
                on_error=self.telemetry.on_bug,
            )
        )

    @property
    def endpoints(self) -> BrokerEndpoints:
        return self.current.endpoints

    @property
    def pipelines(self) -> Pipelines:
        return self.current.pipelines

    @property
    def restored(self) -> tuple[str, ...]:
        """The names of the leases that an earlier process handed over."""
        return tuple(self.service.restored)

    @property
    def client(self) -> Mapping[str, Any]:
        """The answer of ``/v1/client`` for the owner, with the container token."""
        current, uid = self.current, os.geteuid()
        grant = current.access.rules.grant_for(Caller(uid=uid))
        exports = handing_on(current.config, current.pipelines, current.access)
        return client_facts(
            current.endpoints,
            grant,
            container_token=current.access.tokens.newest(PLAIN_TOKEN),
            namespace=exports.facts_for(uid, current.endpoints, grant),
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve every surface, and wait for the first leases; everything ends with *stack*.

        Raises:
            CannotStart: A file cannot be written.
        """
        current = self.current
        scope = recorded_token_scope(current.config)
        replace_tokens_that_open_more(current.access, before=scope, runtime=self._runtime)
        self.service.starting(limit_s=current.config.start_timeout_s)
        self.service.restore()
        self.tasks.start(readable_by_others, self._warn_of_readable_identities)
        self._start_pipelines(current.pipelines, current.config)
        self._start_files(current)
        self.tasks.start(self, self._renew_after_resume, self._repair)
        self.tasks.start(self.service, self.service.beat)
        self._switch_surfaces(current)
        stack.enter_context(announced(current.config, current.endpoints, current.sockets))
        stack.push_async_callback(self._listeners.close_all)
        for name, sockets in current.sockets.all.items():
            await self._listeners.open(name, sockets)
        await self._settled(current.pipelines.keepers)
        # Programs that wait for us also expect the files that we write. A file without a lease has
        # settled too, so they are looked at only now.
        await self._settled(current.files.values())
        # What IMDS says of the machine may be known only now.
        self._switch_surfaces(current)
        stack.callback(self.service.stopping)
        self.service.ready()
        if current.sockets.all.get("ops"):
            self.tasks.start(self.telemetry.metrics, self.telemetry.metrics.load)

    async def apply(self, config: Config) -> Mapping[str, list[str]]:
        """Put *config* in force and return what has changed.

        Leases, files and sockets that are the same in both are kept. New leases are waited for, as
        at the start, before anybody is served by the new configuration.

        Raises:
            CannotStart: It cannot be put in force; everything is as it was.
        """
        async with self._applying:
            return await self._apply(config)

    async def _apply(self, config: Config) -> Mapping[str, list[str]]:
        before = self.current
        async with AsyncExitStack() as undo:
            now = await build(config, self._shared, undo, before=before)
            new = _without(now.pipelines.keepers, before.pipelines.keepers)
            undo.push_async_callback(self._listeners.close, _sockets_without(now, before))
            for name, sockets in now.sockets.all.items():
                await self._listeners.open(name, sockets)
            undo.callback(self._connect_events, before.pipelines, before.config)
            undo.push_async_callback(self.tasks.end, new)
            self._start_pipelines(now.pipelines, now.config)
            await self._settled(new)
            announce(now.config, now.endpoints, now.sockets)
            undo.pop_all()
        # From here on without an await, so that nobody is answered by half of each.
        self.current = now
        scope = token_scope(before.config)
        replace_tokens_that_open_more(now.access, before=scope, runtime=self._runtime)
        self._switch_surfaces(now)
        for keeper in now.pipelines.keepers:
            if keeper.is_refused and keeper not in new:
                keeper.renew_now()
        await self._retire(before)
        return differences(before, now)

    async def _retire(self, before: Generation) -> None:
        """End what only *before* had, then write the new files."""
        current = self.current
        gone = _without(before.files.values(), current.files.values())
        for file in gone:
            if any(file.path == path and _has_lease(keeper) for path, _, keeper in current.files):
                file.leave_in_place()
        await self.tasks.end(gone)
        if before.access.tokens is not current.access.tokens:
            await self.tasks.end([before.access.tokens])
        self._start_files(current)
        await self.tasks.end(_without(before.pipelines.keepers, current.pipelines.keepers))
        self.telemetry.metrics.follow(current.pipelines.keepers)
        await self._listeners.close(_sockets_without(before, current))
        if before.audit is not current.audit:
            await before.audit.closing.aclose()
        await self.tasks.end([readable_by_others])
        self.tasks.start(readable_by_others, self._warn_of_readable_identities)
        await self._settled(_without(current.files.values(), before.files.values()))

    def reopen_audit(self) -> None:
        """Write to the audit file that is there now: it may have been rotated."""
        if self.current.audit.log is not None:
            self.current.audit.log.reopen()

    async def close_audit(self) -> None:
        await self.current.audit.closing.aclose()

    def _start_pipelines(self, pipelines: Pipelines, config: Config) -> None:
        self._connect_events(pipelines, config)
        start_pipelines(pipelines, self.tasks, self._runtime.clock)

    def _connect_events(self, pipelines: Pipelines, config: Config) -> None:
        def on_event(event: Event) -> None:
            self._listeners.forget_answers()
            self.telemetry.on_event(event)
            self.service.on_event(event)

        connect_events(pipelines, config, on_event)

    def _start_files(self, generation: Generation) -> None:
        """Watch the container tokens and write the token files, those that are new."""
        tokens, clock = generation.access.tokens, self._runtime.clock

        def reread() -> None:
            tokens.reread()
            self._listeners.forget_answers()

        self.tasks.start(tokens, partial(watch, tokens.watched, reread, clock=clock))
        for file in generation.files.values():
            self.tasks.start(file, file.keep)

    def _switch_surfaces(self, generation: Generation) -> None:
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
            limit_s=self.current.config.start_timeout_s,
            stop=self._stop,
        )

    async def _renew_after_resume(self) -> None:
        await renew_after_resume(
            lambda: self.current.pipelines.keepers,
            self.current.access.keys,
            clock=self._runtime.clock,
            skew=self._runtime.skew,
            boot_id=self._runtime.boot_id,
        )

    async def _repair(self) -> None:
        """Listen on addresses that appear later, and make our directory anew when it was removed.

        Both are what applying the same configuration again does.
        """
        tried: set[Address] = set()
        while True:
            await self._runtime.clock.sleep(CHECK_S)
            config, sockets = self.current.config, self.current.sockets
            appeared = set(filter(has_address, sockets.lacking))
            is_gone = not is_in_place(sockets) and config.runtime_dir.parent.is_dir()
            if is_gone or not appeared <= tried:
                await self._apply_again()
            tried = appeared
            await self._look_at_copies()

    async def _look_at_copies(self) -> None:
        """Show why the identity's file, of which we have a copy, was not copied."""
        paths = [path for each in self.current.pipelines.watched.values() for path in each()]
        with suppress(TimeoutError):
            found = await off_loop(lambda: [original_of(path)[1] for path in paths])
            self.telemetry.on_copy(problem=next(filter(None, found), None))

    async def _apply_again(self) -> None:
        current = self.current
        try:
            prepare_directories(current.config, self._runtime.environ)
            changed = await self.apply(current.config)
        except CannotStart as error:
            self._runtime.warn(str(error))
        else:
            self.current.access.tokens.reread()
            self._runtime.log.info("listeners.repaired", **changed)

    async def _warn_of_readable_identities(self) -> None:
        paths = [path for each in self.current.pipelines.watched.values() for path in each()]
        # In a thread: the files are not ours, and their file system may hang.
        for warning in await asyncio.to_thread(lambda: list(readable_by_others(paths))):
            self._runtime.warn(warning)

    def _on_exchange(self, exchange: Exchange) -> None:
        # The audit first: an error in what follows must not cost its line.
        if self.current.audit.log is not None:
            self.current.audit.log.on_exchange(exchange)
        self.telemetry.on_exchange(exchange)
        answer = exchange.answer
        if answer.rule is not None:  # rules were asked
            role = answer.role if answer.status == 200 and answer.issued is not None else "none"
            usage = self.current.access.usage
            usage.note(answer.rule, exchange.caller, role=role, at=exchange.at)


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
    skew: ClockSkew,
    boot_id: Callable[[], str],
) -> None:
    """Renew everything, with a new signing key, after a step of the clock or another *boot_id*.

    asyncio's clock stands still while a machine is suspended or snapshotted, and a clone wakes up
    with the leases and keys of its twin.
    """
    async for step in clock_steps(clock):
        found = boot_id()
        if step:
            skew.observe(timedelta())  # the renewals measure it anew
        if step or found != keys.made_on:
            keys.add_key(clock.now(), on=found)
            for keeper in keepers():
                keeper.renew_now()
