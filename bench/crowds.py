"""Many clients that know nothing, all at once, at a server that has just opened."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.effort import Effort
from bench.load import Load, Visit, drive
from bench.report import Column, Row, Table, percentile, scaled
from bench.servers import (
    BARE_AIOHTTP,
    BARE_ASYNCIO,
    BARE_KINDS,
    Clouds,
    UpstreamCalls,
    bare,
    broker,
)
from bench.starts import BODY_BYTES

WITHIN_S = 30.0

IMDS, CONTAINER = "broker, IMDS (3 requests)", "broker, container"


@dataclass(frozen=True, slots=True)
class Crowd:
    """What came of one crowd; of the upstream calls, all since before the server started."""

    load: Load
    calls: UpstreamCalls


def crowds(upstream: Clouds, folder: Path, effort: Effort) -> Table:
    """Send a crowd to each server, each time to a new process."""
    found: dict[str, list[Crowd]] = {IMDS: [], CONTAINER: [], BARE_AIOHTTP: [], BARE_ASYNCIO: []}
    for number in range(effort.crowds):
        for name, each in found.items():
            before = upstream.calls()
            with just_opened(name, upstream, folder, number) as visit:
                load = drive(
                    visit, clients=effort.crowd, count=effort.crowd, within_s=WITHIN_S, fresh=True
                )
                after = upstream.calls()
            calls = UpstreamCalls(after.sts - before.sts, after.id_tokens - before.id_tokens)
            each.append(Crowd(load, calls))
    return Table(
        title=f"{effort.crowd:,} cold clients at once, at a server that just opened",
        note="From a client's connect to its last answer, the wait for the others included; each "
        f"server's crowds: {effort.crowds},\nevery one at a new process. Calls: the most that any "
        "of these processes made.",
        columns=(
            Column("median_ms", "median ms"),
            Column("slowest_ms", "slowest ms"),
            Column("sts_calls", "STS calls"),
            Column("id_token_calls", "IssueIdToken calls"),
            Column("failed", "failed"),
        ),
        rows=[row_of(name, each) for name, each in found.items()],
    )


@contextmanager
def just_opened(name: str, upstream: Clouds, folder: Path, number: int) -> Iterator[Visit]:
    """Start the server of that name for the block, and say what its clients ask."""
    if name in BARE_KINDS:
        with bare(name, folder, body_bytes=BODY_BYTES) as constant:
            yield constant.visit
        return
    short = "imds" if name == IMDS else "container"
    with broker(upstream, folder, f"crowd-{short}-{number}") as running:
        yield running.cold_imds_visit() if name == IMDS else running.container_visit()


def row_of(name: str, found: Sequence[Crowd]) -> Row:
    latencies_s = [latency for crowd in found for latency in crowd.load.latencies_s]
    ours = name not in BARE_KINDS
    return {
        "name": name,
        "median_ms": scaled(percentile(latencies_s, 0.5), 1e3),
        "slowest_ms": scaled(max(latencies_s, default=None), 1e3),
        "sts_calls": max(crowd.calls.sts for crowd in found) if ours else None,
        "id_token_calls": max(crowd.calls.id_tokens for crowd in found) if ours else None,
        "failed": sum(crowd.load.failed for crowd in found),
    }
