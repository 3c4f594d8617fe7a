"""The background tasks: every keeper and file watch, in one task group."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

from broker.clock import Clock, first_of, within
from broker.config import Config
from broker.credentials import NamespaceToken
from broker.daemon.wiring import Pipelines
from broker.files.watch import watch
from broker.keeper import Event, Keeper, Obtained, Renewed

Work = Callable[[], Coroutine[Any, Any, None]]


class TaskRegistry:
    """Starts the tasks that belong to an owner and ends them with it.

    An unexpected error in one of them ends the whole group.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: dict[object, list[asyncio.Task[None]]] = {}

    def start(self, owner: object, *works: Work) -> None:
        """Start the *works* of *owner*, unless they run already."""
        if owner not in self._running:
            self._running[owner] = [self._tasks.create_task(work()) for work in works]

    async def end(self, owners: Iterable[object]) -> None:
        """Cancel the tasks of *owners* and wait for their end."""
        ending = [task for owner in owners for task in self._running.pop(owner, ())]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def cancel_all(self) -> None:
        """Cancel every task; the group waits for them."""
        for tasks in self._running.values():
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def task_registry() -> AsyncIterator[TaskRegistry]:
    """Run tasks for the block, and end them with it."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        registry = TaskRegistry(tasks)
        try:
            yield registry
        except Exception as error:
            # The block's own error, which nobody should have to look for in an exception group.
            failure = error
        finally:
            registry.cancel_all()
    if failure is not None:
        raise failure


@asynccontextmanager
async def running(pipelines: Pipelines, clock: Clock) -> AsyncIterator[TaskRegistry]:
    """Run every keeper and file watch for the block."""
    async with task_registry() as tasks:
        start_pipelines(pipelines, tasks, clock)
        yield tasks


def start_pipelines(pipelines: Pipelines, tasks: TaskRegistry, clock: Clock) -> None:
    """Start every keeper and file watch that does not run yet."""
    for name, identity in pipelines.identities.items():
        watching = partial(watch, pipelines.watched[name], identity.renew_now, clock=clock)
        tasks.start(identity, partial(_run_identity, identity, pipelines.closing[name]), watching)
    for keeper in pipelines.dependants:
        tasks.start(keeper, keeper.run)


async def _run_identity(identity: Keeper[NamespaceToken], closing: AsyncExitStack) -> None:
    async with closing:
        await identity.run()


def connect_events(pipelines: Pipelines, config: Config, on_event: Callable[[Event], None]) -> None:
    """Send every lease's events to *on_event*, and wake what waits for an identity."""
    for keeper in pipelines.dependants:
        keeper.on_event = on_event
    for name, identity in pipelines.identities.items():
        roles = {entry.role.name for entry in config.roles if entry.identity == name}
        dependants: list[Keeper[Any]] = [
            keeper for key, keeper in pipelines.held.items() if key.partition(" ")[0] in roles
        ]
        dependants += [
            pipelines.id_tokens[entry.name] for entry in config.id_tokens if entry.identity == name
        ]
        identity.on_event = waking(dependants, on_event)


def waking(
    dependants: Sequence[Keeper[Any]], on_event: Callable[[Event], None]
) -> Callable[[Event], None]:
    """Return a listener to an identity's events that also wakes waiting *dependants*."""

    def listener(event: Event) -> None:
        on_event(event)
        # What was renewed because a dependant found it stale is that one's to try: to wake the
        # others for it would have them do the same, in a circle without a pause.
        if isinstance(event, Obtained | Renewed) and not event.found_stale:
            for keeper in dependants:
                # Without an error its first attempt is under way, and waits for this very lease.
                if keeper.status().error is not None and not keeper.is_attempting:
                    keeper.renew_now()

    return listener


class Settles(Protocol):
    """A keeper, or a token file: settled after its first lease, refusal or attempt to write."""

    async def settled(self) -> None: ...


async def first_leases(
    keepers: Iterable[Settles],
    *,
    clock: Clock,
    limit_s: float,
    stop: asyncio.Event | None = None,
) -> None:
    """Wait until all *keepers* have settled, at most *limit_s* seconds, and not beyond *stop*."""
    settled = asyncio.gather(*[keeper.settled() for keeper in keepers])
    works = [settled] if stop is None else [settled, asyncio.ensure_future(stop.wait())]
    with suppress(TimeoutError):
        await within(limit_s, first_of(*works), clock=clock)
