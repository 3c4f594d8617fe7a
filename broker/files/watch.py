"""Watch files for changes."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from broker.clock import Clock
from broker.files.off_loop import off_loop

LOOK_S = 1.0
"""How often each file is checked: one stat, far less than the edge cases of inotify cost."""

Stamp = tuple[int, int, int, int] | None


async def _forever_off_loop(work: Callable[[], Any]) -> Any:
    return await off_loop(work, limit_s=None)


async def watch(
    paths: Callable[[], Iterable[Path]],
    changed: Callable[[], None],
    *,
    clock: Clock,
    run: Callable[[Callable[[], Any]], Awaitable[Any]] = _forever_off_loop,
) -> None:
    """Call *changed* each time one of *paths* appears, goes, or is another file than before.

    The files are looked at by *run*, off the event loop: their file system may hang.
    """
    before = await run(lambda: _stamps(paths()))
    while True:
        await clock.sleep(LOOK_S)
        after = await run(lambda: _stamps(paths()))
        if after != before:
            changed()
        before = after


def _stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        at = path.stat()
    except OSError:
        return None
    return at.st_dev, at.st_ino, at.st_mtime_ns, at.st_size
