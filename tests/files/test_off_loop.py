"""Calls that may hang do not hold up the event loop, nor the end of the process."""

import asyncio
import subprocess
import sys
import threading

import pytest

from broker.files.off_loop import MAX_HANGING, off_loop


async def test_the_result_or_the_error_comes_back() -> None:
    def fail() -> None:
        raise FileNotFoundError("gone")

    assert await off_loop(lambda: 7) == 7
    with pytest.raises(FileNotFoundError, match="gone"):
        await off_loop(fail)


async def test_a_call_that_hangs_is_abandoned_and_too_many_are_not_begun() -> None:
    go_on = threading.Event()
    ended = [threading.Event() for _ in range(MAX_HANGING)]

    def hang(number: int) -> None:
        go_on.wait()
        ended[number].set()

    for number in range(MAX_HANGING):
        with pytest.raises(TimeoutError, match=r"not done within .* as if its file system hung"):
            await off_loop(lambda number=number: hang(number), limit_s=0.001)  # type: ignore[misc]
    with pytest.raises(TimeoutError, match="too many calls hang already"):
        await off_loop(lambda: None)
    go_on.set()
    for each in ended:
        await asyncio.to_thread(each.wait)
    async with asyncio.timeout(10):
        while True:
            try:
                assert await off_loop(lambda: 7) == 7
                break
            except TimeoutError:
                await asyncio.sleep(0)


def test_the_process_ends_while_a_call_hangs() -> None:
    program = """
import asyncio, threading
from broker.files.off_loop import off_loop

async def main():
    try:
        await off_loop(threading.Event().wait, limit_s=0.001)
    except TimeoutError:
        print("abandoned")

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60
    )

    assert done.stdout == "abandoned\n"
