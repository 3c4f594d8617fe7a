"""Watch files for changes."""

from collections.abc import Callable, Iterable
from pathlib import Path

from broker.clock import Clock

LOOK_S = 1.0
"""How often each file is checked: one stat, far less than the edge cases of inotify cost."""

Stamp = tuple[int, int, int, int] | None


async def watch(
    paths: Callable[[], Iterable[Path]], changed: Callable[[], None], *, clock: Clock
) -> None:
    """Call *changed* each time one of *paths* appears, goes, or is another file than before."""
    before = _stamps(paths())
    while True:
        await clock.sleep(LOOK_S)
        after = _stamps(paths())
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
