"""What the audit line costs a request: the same request, with and without, in turns."""

from collections.abc import Sequence
from pathlib import Path

from bench import servers
from bench.effort import Effort
from bench.report import Column, Row, Table, median, percentile, scaled
from bench.servers import Clouds
from bench.throughput import Contender, Slice, in_turns

WITHOUT, WITH = "container credentials, no audit", "container credentials, audit to a file"


def auditing(upstream: Clouds, folder: Path, effort: Effort) -> Table:
    """Ask two brokers that differ in nothing else."""
    lines_at = folder / "audit.jsonl"
    with (
        servers.broker(upstream, folder, "no-audit") as silent,
        servers.broker(
            upstream, folder, "audit", config=f'[audit]\nto = "{lines_at}"\n'
        ) as writing,
    ):
        everybody = [
            Contender(WITHOUT, silent.process, silent.container_visit()),
            Contender(WITH, writing.process, writing.container_visit()),
        ]
        slices = in_turns(everybody, effort, fresh=False)
    lines = lines_at.read_bytes().count(b"\n") if lines_at.exists() else 0
    return Table(
        title="What the audit line costs",
        note="Kept connections, as above; the line is written in a thread beside. Lines: of the "
        "requests,\nhow many stand in the file; more than can be written are counted and dropped, "
        "never waited for.",
        columns=(
            Column("requests_per_s", "requests/s"),
            Column("p50_ms", "p50 ms", 2),
            Column("p99_ms", "p99 ms", 2),
            Column("alone_p50_ms", "alone p50", 2),
            Column("alone_p99_ms", "alone p99", 2),
            Column("cpu_us", "CPU us a request", 1),
            Column("added_cpu_us", "added us", 1),
            Column("lines_percent", "lines %", 1),
            Column("others_busy_percent", "others %"),
            Column("failed", "failed"),
        ),
        rows=[
            row_of(WITHOUT, slices[WITHOUT]),
            {
                **row_of(WITH, slices[WITH]),
                "added_cpu_us": cpu_us(slices[WITH]) - cpu_us(slices[WITHOUT]),
                "lines_percent": 100 * lines / max(1, answered(slices[WITH])),
            },
        ],
    )


def row_of(name: str, own: Sequence[Slice]) -> Row:
    latencies_s = [latency for each in own for latency in each.full.latencies_s]
    alone_s = [latency for each in own for latency in each.alone.latencies_s]
    took_s = sum(each.full.took_s for each in own)
    used_s = sum(each.server_cpu_s + each.full.client_cpu_s for each in own)
    all_cpu_s = sum(each.machine_cpu_s for each in own)
    return {
        "name": name,
        "requests_per_s": median([each.requests_per_s for each in own]),
        "p50_ms": scaled(percentile(latencies_s, 0.5), 1e3),
        "p99_ms": scaled(percentile(latencies_s, 0.99), 1e3),
        "alone_p50_ms": scaled(percentile(alone_s, 0.5), 1e3),
        "alone_p99_ms": scaled(percentile(alone_s, 0.99), 1e3),
        "cpu_us": cpu_us(own),
        "others_busy_percent": max(0.0, 100 * (all_cpu_s - used_s) / took_s),
        "failed": sum(each.full.failed + each.alone.failed for each in own),
    }


def cpu_us(own: Sequence[Slice]) -> float:
    """Return the server's CPU time for one request under the full load, in microseconds."""
    requests = sum(len(each.full.latencies_s) for each in own)
    return sum(each.server_cpu_s for each in own) / max(1, requests) * 1e6


def answered(own: Sequence[Slice]) -> int:
    return sum(len(each.full.latencies_s) + len(each.alone.latencies_s) for each in own)
