"""Keep a copy of a token file that only root may read.

Root runs this, so it distrusts what it reads, and replaces the copy atomically.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from broker.files.external import source_record
from broker.files.private import read_private, write_private

SETTLED_S = 1.0
"""How long the file is watched after its last change."""
LOOK_S = 0.02
LARGEST_BYTES = 1 << 20
MODE = 0o404
"""Readable by others: only the broker can reach it, and it is in none of root's groups."""

Stamp = tuple[int, int, int] | None


class NotCopied(Exception):
    """The file was not copied and the previous copy is unchanged; the text says why."""


def keep_copy(
    source: Path,
    target: Path,
    *,
    on_first: Callable[[], None],
    settled_s: float = SETTLED_S,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Copy *source* to *target* at each change, until nothing has changed for *settled_s* seconds.

    systemd does not notice a change while it runs us. The copy of a file that is gone by the end is
    removed. *on_first* is called after the first look.

    Raises:
        NotCopied: In the end the file has something that must not be copied.
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
            record_source(source, target, None if trouble is None else str(trouble))
        if first:
            on_first()
            first = False
        sleep(LOOK_S)
    if seen is None:
        target.unlink(missing_ok=True)
        record_source(source, target, f"{source} does not exist; is its writer running?")
    if trouble is not None:
        raise trouble


def record_source(source: Path, target: Path, problem: str | None) -> None:
    """Write beside the copy what it is a copy of, so that errors name the file people know."""
    document = {"path": str(source), "problem": problem}
    write_private(source_record(target), json.dumps(document).encode(), mode=MODE)


def copied(source: Path, target: Path) -> NotCopied | None:
    """Copy once; return the reason where the content must not be copied."""
    try:
        content = read_private(source, max_mode=0o7777, max_bytes=LARGEST_BYTES)
        if not isinstance(json.loads(content), dict):
            raise ValueError
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return NotCopied(f"{source} is not JSON; is its writer still running?")
    except ValueError as error:
        return NotCopied(str(error) or f"{source} is not a JSON object; is it a token file?")
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
