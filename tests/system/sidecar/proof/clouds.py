"""Both clouds in a container, and TLS before them for a broker that accepts nothing else.

Run by the broker's own image.
"""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from broker.sandbox import Sandbox

Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TLS = Path("/tls")
NAME = "clouds"
NAMESPACE_PORT, AWS_PORT = 8001, 8002
OVER_TLS = {8441: NAMESPACE_PORT, 8442: AWS_PORT}


async def main(token_file: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    sandbox = Sandbox(
        host="0.0.0.0",
        advertised_host=NAME,
        namespace_port=NAMESPACE_PORT,
        aws_port=AWS_PORT,
    )
    async with sandbox, contextlib.AsyncExitStack() as stack:
        for port, inner in OVER_TLS.items():
            front = await asyncio.start_server(relay_to(inner), "0.0.0.0", port, ssl=tls)
            await stack.enter_async_context(front)
        sandbox.namespace.write_token_file(token_file)
        print("listening", flush=True)
        await asyncio.Event().wait()


def relay_to(port: int) -> Served:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    return serve


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
