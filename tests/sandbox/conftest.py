"""One fresh sandbox per test, on the event loop of the test."""

from collections.abc import AsyncIterator

import pytest

from broker.sandbox import Sandbox
from broker.sandbox.sandbox import utc_now
from tests.support.fakes import FakeClock


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def timed(clock: FakeClock) -> AsyncIterator[Sandbox]:
    """A sandbox whose time the test moves; SDKs go on signing by the real time."""
    async with Sandbox(now=clock.now, signing_clock=utc_now) as sandbox:
        yield sandbox
