"""Read a small file that another program rewrites."""

import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from broker.clock import Clock
from broker.files.off_loop import off_loop
from broker.lease import Refused, SourceError, Unavailable

T = TypeVar("T")

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls what may hang, and returns its result."""

MAX_BYTES = 1 << 20

REREAD_AFTER_S = (0.005, 0.01, 0.02, 0.04)
"""How long a writer that rewrites in place is given to finish. Source: namespace-api 3.3."""


class HalfWritten(Refused):
    """The content makes no sense; its writer may still be writing it."""

    word = "bad-token-file"


async def read_when_complete(
    read: Callable[[], T], *, path: Path, clock: Clock, run: Run = off_loop
) -> T:
    """Return the result of *read*, tried again a few times while it raises `HalfWritten`.

    It reads *path* by *run*, off the event loop: its file system may hang.

    Raises:
        Unavailable, Refused: As *read*; `HalfWritten` when it stays so.
    """
    for pause_s in REREAD_AFTER_S:
        try:
            return await _in_time(read, path, run)
        except HalfWritten:
            await clock.sleep(pause_s)
    return await _in_time(read, path, run)


async def exists(path: Path, *, run: Run = off_loop) -> bool:
    """Return `path_exists`, found out by *run*, off the event loop.

    Raises:
        Unavailable: Its file system hangs.
    """
    return await _in_time(lambda: path_exists(path), path, run)


def path_exists(path: Path) -> bool:
    """Return whether there is something at *path*, readable or not."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def source_record(copy: Path) -> Path:
    """Return the file that describes a *copy* which `namespace-broker copy-token` made.

    It is JSON with the ``path`` of the original, and a ``problem`` or null.
    """
    return copy.with_name(f"{copy.name}.source")


def original_of(path: Path) -> tuple[Path, str | None]:
    """Return the file that *path* is a copy of, or *path* itself, and why it was not copied."""
    try:
        document = json.loads(source_record(path).read_bytes())
        return Path(document["path"]), document["problem"]
    except (OSError, ValueError, LookupError, TypeError):
        return path, None


async def _in_time(work: Callable[[], T], path: Path, run: Run) -> T:
    try:
        return cast(T, await run(work))
    except TimeoutError as error:
        raise Unavailable(f"{path} was {error}", word="bad-token-file") from error


def read_text(path: Path, *, named_by: str) -> str:
    """Return the text in *path*, links followed; *named_by*, in errors, says who chose the path.

    Raises:
        HalfWritten: It is not UTF-8, or empty.
        Refused: It does not exist, may not be read, is no regular file, or is over 1 MiB.
        Unavailable: Reading it failed.
    """
    data = _bytes(path, named_by=named_by)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HalfWritten(f"{path} is not text; did its writer finish it?") from error
    if not text.strip():
        raise HalfWritten(f"{path} is empty; is its writer still running?")
    return text


def _bytes(path: Path, *, named_by: str) -> bytes:
    try:
        return _read(path)
    except SourceError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(
            f"{path}, which {named_by} names, does not exist; is its writer running?",
            word="no-identity",
        ) from error
    except PermissionError as error:
        raise Refused(
            f"{path} may not be read by uid {os.geteuid()}; let its owner or group admit it",
            word="bad-token-file",
        ) from error
    except ValueError as error:
        raise Refused(f"{named_by} is not a possible path", word="bad-token-file") from error
    except OSError as error:
        raise Unavailable(
            f"{path} could not be read: {error.strerror}", word="bad-token-file"
        ) from error


def _read(path: Path) -> bytes:
    # Non-blocking: opening a pipe would wait until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise Refused(f"{path} is {kind}; name the token file itself", word="bad-token-file")
        data = bytearray()
        while len(data) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES)):
            data += more
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise Refused(f"{path} is over 1 MiB, so not a token file", word="bad-token-file")
    return bytes(data)
