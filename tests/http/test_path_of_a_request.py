"""How much code one request passes through, counted on a running broker.

A newcomer should be able to follow a request from accept to the audit in one sitting: few calls, in
few files, and few moves between them.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import broker as package
from tests.support.running_broker import RunningBroker, running_broker
from tests.support.wire import Reply, Served

BROKER = Path(package.__file__).parent
COMPREHENSIONS = {"<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"}
USER_AGENT = b"User-Agent: Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux lang/python#3.11\r\n"


@dataclass
class Recorded:
    """The broker's functions that ran, in order, by file and name."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        return {file for file, _ in self.calls}

    @property
    def moves(self) -> int:
        return sum(a[0] != b[0] for a, b in zip(self.calls, self.calls[1:], strict=False))

    def __str__(self) -> str:
        return (
            f"{len(self.calls)} calls in {len(self.files)} files, {self.moves} moves between them"
        )


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Record what this thread calls in the broker for the block."""
    path = Recorded()

    def hook(frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if (
            event == "call"
            and frame.f_code.co_name not in COMPREHENSIONS
            and file.is_relative_to(BROKER)
        ):
            name = str(file.relative_to(BROKER))
            path.calls.append((name, frame.f_code.co_qualname))

    sys.setprofile(hook)
    try:
        yield path
    finally:
        sys.setprofile(None)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as broker:
        yield broker


async def session_token(place: Served) -> bytes:
    reply = await place.ask(
        b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n"
        b"x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n"
    )
    return reply.body


Ask = Callable[[], Awaitable[Reply]]


async def both_paths(ask: Ask) -> tuple[Recorded, Recorded]:
    """Return the path of a request that is new, and of one that was answered in this second.

    Asked twice in a row, and more often, because a second may end in between.
    """
    found = []
    for _ in range(6):
        with recorded() as path:
            assert (await ask()).status == 200
        found.append(path)
    return max(found, key=lambda path: len(path.calls)), min(
        found, key=lambda path: len(path.calls)
    )


async def test_one_imds_get_on_a_fresh_connection_is_a_path_one_can_follow(
    running: RunningBroker,
) -> None:
    asking = (
        b"GET /latest/meta-data/iam/security-credentials/deploy HTTP/1.1\r\n"
        b"Host: 169.254.169.254\r\nAccept-Encoding: identity\r\n"
        + USER_AGENT
        + b"X-aws-ec2-metadata-token: "
        + await session_token(running.imds)
        + b"\r\n\r\n"
    )

    new, again = await both_paths(lambda: running.imds.ask(asking))

    print(f"\nIMDS, fresh connection: {new}; the same again: {again}")
    assert len(new.files) <= 23
    assert len(again.files) <= 11


async def test_one_container_get_on_a_kept_connection_is_a_path_one_can_follow(
    running: RunningBroker,
) -> None:
    asking = (
        b"GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.2\r\nAccept-Encoding: identity\r\n"
        + USER_AGENT
        + b"Authorization: "
        + running.token
        + b"\r\n\r\n"
    )
    async with running.container.wire() as wire:
        new, again = await both_paths(lambda: wire.send(asking))

    print(f"\ncontainer, kept connection: {new}; the same again: {again}")
    assert len(new.files) <= 22
    assert len(again.files) <= 9
