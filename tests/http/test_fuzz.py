"""Raw bytes over the four surfaces: nothing breaks, leaks, grows or stays open.

The corpus beside this file is kept: each input of it is sent as it is, then mutated. A failure
names the seed that repeats it; an input that found a fault belongs into the corpus.
"""

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.running_broker import RunningBroker, running_broker

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").iterdir())
ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "1000"))
AT_ONCE = 24
MEMORY_BYTES = 32 * 1024 * 1024
QUIET_S = 0.05
"""How long nothing must come for an answer to be taken as whole."""
OPENED_ONCE = 4
"""Descriptors that something loaded late may keep: a leak of one a connection would be hundreds."""

SPLICES = [b"\r\n", b"\r\n\r\n", b"\n", b"\0", b"\xff", b" ", b":", b"%", b"0", b"-1", b"chunked"]
STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n", re.MULTILINE)
SECRET = re.compile(rb"SecretAccessKey|bearer_token")

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def mutated(rng: random.Random) -> bytes:
    """Return an input of the corpus, changed a few times."""
    raw = bytearray(rng.choice(CORPUS).read_bytes())
    for _ in range(rng.randrange(1, 6)):
        at, length = rng.randrange(len(raw) + 1), rng.randrange(1, 40)
        match rng.randrange(6):
            case 0:
                raw[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del raw[at : at + length]
            case 2:
                raw[at:at] = rng.choice(SPLICES)
            case 3:
                raw[at:at] = raw[at : at + length] * rng.randrange(1, 20)
            case 4:
                raw[at:] = rng.choice(CORPUS).read_bytes()
            case _:
                raw += rng.choice(CORPUS).read_bytes()
    return bytes(raw[:60_000])


async def sent(open_one: Open, raw: bytes, rng: random.Random) -> bytes:
    """Send *raw* in a few segments, leave in one of three ways, and return what came back."""
    reader, writer = await open_one()
    try:
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(4)))
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            writer.write(raw[start:end])
            await writer.drain()
            await asyncio.sleep(0)
        match rng.randrange(3):
            case 0:
                writer.write_eof()
            case 1:
                return b""  # hang up without reading
        return await received(reader)
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def received(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while True:
        try:
            async with asyncio.timeout(QUIET_S):
                piece = await reader.read(65536)
        except TimeoutError:
            return found
        if not piece:
            return found
        found += piece


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def surfaces(broker: RunningBroker) -> dict[str, Open]:
    def over_tcp(host: str, port: int) -> Open:
        return lambda: asyncio.open_connection(host, port)

    return {
        "imds": over_tcp(broker.imds.host, broker.imds.port),
        "container": over_tcp(broker.container.host, broker.container.port),
        "ops": over_tcp(broker.ops.host, broker.ops.port),
        "control": lambda: asyncio.open_unix_connection(broker.control),
    }


def faults_of(surface: str, answer: bytes) -> list[str]:
    """Return what is wrong with the bytes that came back."""
    statuses = [int(status) for status in STATUS.findall(answer)]
    never = {429} if surface in ("ops", "control") else {429, *range(500, 600)}
    faults = [f"status {status}" for status in statuses if status in never]
    if answer and not answer.startswith(b"HTTP/1."):
        faults.append(f"no HTTP: {answer[:60]!r}")
    if surface != "control" and SECRET.search(answer):
        faults.append("a credential for no good request")
    return faults


@asynccontextmanager
async def back_to_rest(broker: RunningBroker) -> AsyncIterator[None]:
    """Check that the block costs no memory, descriptor or bug, and that everybody still answers."""
    await all_answer(broker)
    memory, open_before = resident_bytes(), descriptors()
    yield
    async with asyncio.timeout(60):
        while descriptors() > open_before + OPENED_ONCE:
            await asyncio.sleep(0.01)
    assert resident_bytes() - memory < MEMORY_BYTES
    assert '"bug"' not in broker.log.getvalue()
    await all_answer(broker)


async def all_answer(broker: RunningBroker) -> None:
    for name, open_one in surfaces(broker).items():
        reader, writer = await open_one()
        writer.write(b"GET /nosuch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert STATUS.match(await reader.read()), name
        writer.close()
        await writer.wait_closed()


async def test_the_corpus_is_answered_or_refused_by_every_surface(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, back_to_rest(broker):
        for path in CORPUS:
            for surface, open_one in surfaces(broker).items():
                answer = await sent(open_one, path.read_bytes(), random.Random(0))
                assert faults_of(surface, answer) == [], (path.name, surface)


async def test_whatever_the_bytes_nothing_breaks_leaks_or_grows(tmp_path: Path) -> None:
    async def attack(seed: int) -> list[str]:
        rng = random.Random(seed)
        surface = rng.choice(sorted(everywhere))
        answer = await sent(everywhere[surface], mutated(rng), rng)
        return [f"seed {seed} on {surface}: {fault}" for fault in faults_of(surface, answer)]

    async with running_broker(tmp_path) as broker:
        everywhere = surfaces(broker)
        await asyncio.gather(*[attack(seed) for seed in range(AT_ONCE)])
        async with back_to_rest(broker):
            for first in range(0, ROUNDS, AT_ONCE):
                found = await asyncio.gather(*[attack(first + each) for each in range(AT_ONCE)])
                assert [fault for faults in found for fault in faults] == []
