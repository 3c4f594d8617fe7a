"""What the demos print, and the programs of others that they run."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.cli.errors import Failure

PROGRAM_LIMIT_S = 45.0


async def python(program: str, *arguments: str, environment: Mapping[str, str]) -> Sequence[str]:
    return await output([sys.executable, "-c", program, *arguments], environment=environment)


async def output(
    command: Sequence[str], *, environment: Mapping[str, str], cwd: Path | None = None
) -> Sequence[str]:
    """Return the lines that *command* prints.

    Raises:
        Failure: It failed, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROGRAM_LIMIT_S):
            shown, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Failure("demo", f"a program took more than {PROGRAM_LIMIT_S:g} s") from None
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise Failure(
            "demo", f"a program failed: {''.join(last)}", "is something filtering loopback?"
        )
    return shown.decode().splitlines()


def say(text: str) -> None:
    print(text, flush=True)


async def until_interrupted(meanwhile: Coroutine[Any, Any, None]) -> None:
    """Do *meanwhile* until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    task = asyncio.create_task(meanwhile)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
    task.cancel()
