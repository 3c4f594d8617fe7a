"""A whole broker in the test's own process, on its sandbox, with every surface open."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from broker.access.caller import PLAIN_TOKEN
from broker.config import Flags, load
from broker.daemon.lifecycle import run_broker
from broker.daemon.runtime import Runtime
from broker.sandbox import sandbox_in_thread
from broker.telemetry.log import logger
from tests.support.wire import Served

ANYWHERE = "127.0.0.1:0"


@dataclass(frozen=True)
class RunningBroker:
    """Where the broker is, its container token, and what it logs."""

    imds: Served
    container: Served
    ops: Served
    control: Path
    token: bytes = field(repr=False)
    log: StringIO = field(repr=False)


@asynccontextmanager
async def running_broker(folder: Path) -> AsyncIterator[RunningBroker]:
    """Run a broker with one role, ``deploy``, for the block; its files are in *folder*."""
    log = StringIO()
    with sandbox_in_thread() as sandbox:
        token_file = folder / "token.json"
        sandbox.namespace.write_token_file(token_file)
        environ = {
            **sandbox.environment(),
            "NSC_TOKEN_FILE": str(token_file),
            "HOME": str(folder),
        }
        flags = Flags(
            config=os.devnull,
            role_arns=(sandbox.role_arn,),
            region="eu-central-1",
            imds=(ANYWHERE,),
            container=(ANYWHERE,),
            ops=(ANYWHERE,),
            runtime_dir=str(folder / "run"),
        )
        runtime = Runtime(environ=environ, log=logger(form="json", level="info", stream=log))
        async with run_broker(load(flags, environ), runtime) as broker:
            yield RunningBroker(
                imds=_at(broker.endpoints.imds[0]),
                container=_at(broker.endpoints.container[0]),
                ops=_at(broker.endpoints.ops[0]),
                control=folder / "run" / "broker.sock",
                token=broker.current.access.tokens.newest(PLAIN_TOKEN).encode(),
                log=log,
            )


def _at(url: str) -> Served:
    place = urlsplit(url)
    return Served(str(place.hostname), place.port or 0)
