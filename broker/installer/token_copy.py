"""Keep a copy of a token file that only root may read. Knows no service and no lease.

Root runs this, so what it reads is looked at with suspicion, and what it writes is whole.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from broker.files.private import read_private, write_private

SETTLED_S = 1.0
"""How long the file is looked at after its last change."""
LOOK_S = 0.02
LARGEST_BYTES = 1 << 20
MODE = 0o404
"""Whoever gets to it may read it: the broker alone does, and is in no group of root's."""

Stamp = tuple[int, int, int] | None


class NotCopied(Exception):
    """What is there was not copied, and the copy before is as it was; the text says why."""


def keep_copy(
    source: Path,
    target: Path,
    *,
    on_first: Callable[[], None],
    settled_s: float = SETTLED_S,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Copy *source* over *target*, again upon each change, until it has been quiet for *settled_s*
    seconds: systemd does not notice what changes while it runs us. A file that is gone by then
    has its copy removed. *on_first* is called after the first look.

    Raises:
        NotCopied: In the end there is something that is not to be copied.
        OSError: The copy cannot be written.
    """
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    seen: Stamp = (-1, -1, -1)
    trouble: NotCopied | None = None
    quiet_since = now()
    first = True
    while now() - quiet_since < settled_s or first:
        stamp = stamp_of(source)
        if stamp != seen:
            seen, quiet_since = stamp, now()
            trouble = copied(source, target)
        if first:
            on_first()
            first = False
        sleep(LOOK_S)
    if seen is None:
        target.unlink(missing_ok=True)
    if trouble is not None:
        raise trouble


def copied(source: Path, target: Path) -> NotCopied | None:
    """Copy once, and return why not, where it must not be."""
    try:
        content = read_private(source, max_mode=0o7777, max_bytes=LARGEST_BYTES)
        if not isinstance(json.loads(content), dict):
            raise ValueError
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return NotCopied(f"{source} holds no JSON; is its writer still running?")
    except ValueError as error:
        return NotCopied(str(error) or f"{source} holds no JSON object; is it a token file?")
    except OSError as error:
        return NotCopied(f"{source} cannot be read ({error.strerror}); who wrote it?")
    write_private(target, content, mode=MODE)
    return None


def stamp_of(path: Path) -> Stamp:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
