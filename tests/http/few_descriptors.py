"""Serve with few descriptors, in a process of its own.

Prints its port, and each refusal that it is told of. Ends when a line comes on stdin.
"""

import asyncio
import resource
import sys
from pathlib import Path

from broker.clock import SystemClock
from broker.http.bind import bind
from broker.http.message import Exchange
from broker.http.server import serving
from tests.support.http_plain import Plain

TO_SPARE = 20


def say(exchange: Exchange) -> None:
    if exchange.answer.refusal:
        print(exchange.answer.refusal, flush=True)


async def main() -> None:
    listener = bind("127.0.0.1", 0)
    leave = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, leave.set)
    most = len(list(Path("/proc/self/fd").iterdir())) + TO_SPARE
    async with serving(Plain(), [listener], clock=SystemClock(), on_exchange=say):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        print(listener.getsockname()[1], flush=True)
        await leave.wait()


if __name__ == "__main__":
    asyncio.run(main())
