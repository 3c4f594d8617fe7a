"""python -m bench.bare: the least that can answer: a constant, by aiohttp or by asyncio alone.

What the broker costs is read beside these. They know no credentials.
"""

import argparse
import asyncio
import json
import signal

BODY_TYPE = "application/json"


class Constant(asyncio.Protocol):
    """Answers each request head with the same bytes. Parses nothing."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._unread = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            self._unread = self._unread[end + 4 :]
            self._transport.write(self._answer)


async def serve_by_asyncio(body: bytes) -> int:
    """Serve on a free loopback port, and return it."""
    head = (
        "HTTP/1.1 200 OK\r\n"
        f"Content-Type: {BODY_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"
    )
    answer = head.encode() + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Constant(answer), "127.0.0.1", 0, backlog=1024)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def serve_by_aiohttp(body: bytes) -> int:
    """Serve on a free loopback port, and return it."""
    from aiohttp import web  # here: the other server starts without it, and is smaller

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type=BODY_TYPE)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    port: int = runner.addresses[0][1]
    return port


async def serve(kind: str, body_bytes: int) -> None:
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    body = b"x" * body_bytes
    port = await (serve_by_aiohttp(body) if kind == "aiohttp" else serve_by_asyncio(body))
    print(json.dumps({"event": "ready", "port": port}), flush=True)
    await leave.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description=__doc__)
    parser.add_argument("kind", choices=("aiohttp", "asyncio"))
    parser.add_argument("body_bytes", type=int)
    options = parser.parse_args()
    asyncio.run(serve(options.kind, options.body_bytes))
