"""One HTTP server on loopback, and how scripted faults look on the wire."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import format_datetime

from aiohttp import web

from broker.sandbox.faults import Fault

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LEAVE_AFTER_S = 0.1


class LoopbackServer:
    """Serves every request with one handler; port 0 picks a free one."""

    def __init__(
        self, handler: Handler, *, now: Callable[[], datetime], host: str, port: int
    ) -> None:
        self._now = now
        self._host = host
        self._port = port
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", handler)
        app.on_response_prepare.append(self._set_date)
        # A body must arrive as it was signed, and a hanging answer must end with its client.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            shutdown_timeout=_LEAVE_AFTER_S,
        )

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=2048)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _set_date(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(self._now(), usegmt=True)


async def play(
    request: web.Request,
    fault: Fault | None,
    *,
    true_answer: Callable[[], Awaitable[web.Response]],
    scripted: Callable[[Fault], web.Response],
) -> web.StreamResponse:
    """Answer *request*, truthfully or as *fault* says."""
    if fault is None:
        return await true_answer()
    if fault.delay_s:
        await asyncio.sleep(fault.delay_s)
    if fault.reset:
        await _reset(request)
    answer = scripted(fault) if fault.replaces_the_answer else await true_answer()
    answer.headers.update(fault.headers)
    return await _half_of(request, answer) if fault.truncated else answer


def scripted_document(fault: Fault, *, status: int) -> web.Response:
    """Answer as a plain document: the scripted body, else the message as text."""
    if fault.body is None:
        return web.Response(status=status, text=fault.message or "internal error")
    return web.Response(status=status, body=fault.body)


async def _reset(request: web.Request) -> None:
    """Make the kernel send RST, by closing with a linger of zero."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    await _until_disconnected()


async def _half_of(request: web.Request, answer: web.Response) -> web.StreamResponse:
    body = answer.body if isinstance(answer.body, bytes) else b""
    half = web.StreamResponse(status=answer.status, headers=answer.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    await _until_disconnected()
    return half


async def _until_disconnected() -> None:
    """Wait for the server to cancel this handler, as it does when the connection is gone."""
    await asyncio.Event().wait()
