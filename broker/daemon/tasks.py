"""A task for each thing that goes on in the background, all in one group. Knows none of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


class TaskRegistry:
    """Begins the tasks of a thing, and ends them when that goes; a bug in one ends the group."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: dict[object, list[asyncio.Task[None]]] = {}

    def begin(self, thing: object, *works: Work) -> None:
        """Begin the *works* of *thing*, unless they go on already."""
        if thing not in self._running:
            self._running[thing] = [self._tasks.create_task(work()) for work in works]

    async def end(self, things: Iterable[object]) -> None:
        """End the works of *things*, and wait for their end."""
        ending = [task for thing in things for task in self._running.pop(thing, ())]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def end_all(self) -> None:
        """Tell all to end; the group waits for it."""
        for tasks in self._running.values():
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def task_registry() -> AsyncIterator[TaskRegistry]:
    """Have things kept for the block; its end is theirs."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        kept = TaskRegistry(tasks)
        try:
            yield kept
        except Exception as error:
            # The block's own, which nobody should have to look for in an exception group.
            failure = error
        finally:
            kept.end_all()
    if failure is not None:
        raise failure
