"""Run calls that may hang, as on a dead file system, off the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import BoundedSemaphore, Thread
from typing import TypeVar

T = TypeVar("T")

LIMIT_S = 5.0
MAX_HANGING = 16
"""Calls that may be under way at once: each that hangs keeps a thread."""

_slots = BoundedSemaphore(MAX_HANGING)


async def off_loop(work: Callable[[], T], *, limit_s: float | None = LIMIT_S) -> T:
    """Return the result of *work*, called in a thread of its own; *limit_s* None waits for ever.

    Not in the event loop's executor: calls that hang would use up its threads, which the resolver
    needs. A call that takes longer is abandoned, and its thread ends when the call does.

    Raises:
        TimeoutError: It took longer, or too many others hang already.
    """
    if not _slots.acquire(blocking=False):
        raise TimeoutError("too many calls hang already")
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        outcome = _outcome_of(work)
        _slots.release()
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(_settle, result, outcome)

    Thread(target=run, name="may-hang", daemon=True).start()
    try:
        async with asyncio.timeout(limit_s):
            return await result
    except TimeoutError as error:
        if result.done() and not result.cancelled():
            raise  # the call's own
        message = f"not done within {limit_s:g} s, as if its file system hung"
        raise TimeoutError(message) from error


def _outcome_of(work: Callable[[], T]) -> Callable[[], T]:
    """Call *work*, and return what returns its result or raises its error."""
    try:
        value = work()
    except Exception as caught:
        error = caught

        def raise_error() -> T:
            raise error

        return raise_error
    return lambda: value


def _settle(result: "asyncio.Future[T]", outcome: Callable[[], T]) -> None:
    if result.done():  # it was abandoned
        return
    try:
        result.set_result(outcome())
    except Exception as error:
        result.set_exception(error)
