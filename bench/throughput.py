"""Requests a second, latencies, CPU and memory, of the broker beside bare servers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.effort import Effort
from bench.load import Load, Visit, drive
from bench.process import Process, machine_cpu_s
from bench.report import Column, Row, Table, median, percentile, scaled
from bench.servers import BARE_AIOHTTP, BARE_ASYNCIO, Bare, Broker

COLUMNS = (
    Column("requests_per_s", "requests/s"),
    Column("of_aiohttp", "x aiohttp", 2),
    Column("of_asyncio", "x asyncio", 2),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("alone_p50_ms", "alone p50", 2),
    Column("alone_p99_ms", "alone p99", 2),
    Column("cpu_s_per_10k", "CPU s/10k", 2),
    Column("server_busy_percent", "server %"),
    Column("client_busy_percent", "client %"),
    Column("others_busy_percent", "others %"),
    Column("failed", "failed"),
)

LIMIT = (
    "Closed loop: {clients} clients, each asks again when answered; 'alone' is one client. All\n"
    "percents are of one core. Limit: the server where 'server %' is near 100; the load generator\n"
    "where 'client %' is; where 'others %' is high, other programs, and then only CPU s/10k holds."
)


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers, and the process that pays for it."""

    name: str
    process: Process
    visit: Visit = field(repr=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """One contender's turn in one round."""

    full: Load
    alone: Load
    server_cpu_s: float
    machine_cpu_s: float

    @property
    def requests_per_s(self) -> float:
        return len(self.full.latencies_s) / self.full.took_s


def contenders(broker: Broker, aiohttp: Bare, plain: Bare) -> list[Contender]:
    token, role_list, credentials = broker.imds_visits()
    return [
        Contender("IMDS session token (PUT)", broker.process, token),
        Contender("IMDS role list", broker.process, role_list),
        Contender("IMDS credentials", broker.process, credentials),
        Contender("container credentials", broker.process, broker.container_visit()),
        Contender(BARE_AIOHTTP, aiohttp.process, aiohttp.visit),
        Contender(BARE_ASYNCIO, plain.process, plain.visit),
    ]


def throughput(broker: Broker, aiohttp: Bare, plain: Bare, effort: Effort) -> list[Table]:
    """Return the tables for kept and for fresh connections, and for CPU and memory at rest."""
    processes = {
        "broker": broker.process,
        BARE_AIOHTTP: aiohttp.process,
        BARE_ASYNCIO: plain.process,
    }
    idle_mib = {name: process.rss_mib() for name, process in processes.items()}
    idle_cpu_s = idle_cpu(processes, effort)
    everybody = contenders(broker, aiohttp, plain)
    tables = [
        Table(
            title=title,
            note=note,
            columns=COLUMNS,
            rows=rows_of(in_turns(everybody, effort, fresh=fresh)),
        )
        for title, fresh, note in (
            ("Kept connections", False, LIMIT.format(clients=effort.clients)),
            ("A fresh connection each", True, ""),
        )
    ]
    return [*tables, at_rest(idle_cpu_s, idle_mib, processes)]


def in_turns(
    everybody: Sequence[Contender], effort: Effort, *, fresh: bool
) -> Mapping[str, Sequence[Slice]]:
    """Give each contender its turn in every round; every other round goes backwards."""
    slices: dict[str, list[Slice]] = {contender.name: [] for contender in everybody}
    for number in range(effort.rounds):
        for contender in everybody[:: -1 if number % 2 else 1]:
            slices[contender.name].append(one_slice(contender, effort, fresh=fresh))
    return slices


def one_slice(contender: Contender, effort: Effort, *, fresh: bool) -> Slice:
    alone = drive(
        contender.visit, clients=1, within_s=effort.slice_s, count=effort.alone_most, fresh=fresh
    )
    began_cpu_s, all_began_cpu_s = contender.process.cpu_s(), machine_cpu_s()
    full = drive(
        contender.visit,
        clients=effort.clients,
        within_s=effort.slice_s,
        count=effort.fresh_most if fresh else None,
        fresh=fresh,
    )
    return Slice(
        full,
        alone,
        server_cpu_s=contender.process.cpu_s() - began_cpu_s,
        machine_cpu_s=machine_cpu_s() - all_began_cpu_s,
    )


def rows_of(slices: Mapping[str, Sequence[Slice]]) -> list[Row]:
    return [row_of(name, slices) for name in slices]


def row_of(name: str, slices: Mapping[str, Sequence[Slice]]) -> Row:
    """Return one row: latencies of all rounds together, of rates and ratios the median round's."""
    own = slices[name]
    latencies_s = [latency for each in own for latency in each.full.latencies_s]
    alone_s = [latency for each in own for latency in each.alone.latencies_s]
    took_s = sum(each.full.took_s for each in own)
    server_cpu_s = sum(each.server_cpu_s for each in own)
    client_cpu_s = sum(each.full.client_cpu_s for each in own)
    all_cpu_s = sum(each.machine_cpu_s for each in own)
    return {
        "name": name,
        "requests_per_s": median([each.requests_per_s for each in own]),
        "of_aiohttp": ratio(own, slices[BARE_AIOHTTP]),
        "of_asyncio": ratio(own, slices[BARE_ASYNCIO]),
        "p50_ms": scaled(percentile(latencies_s, 0.5), 1e3),
        "p99_ms": scaled(percentile(latencies_s, 0.99), 1e3),
        "alone_p50_ms": scaled(percentile(alone_s, 0.5), 1e3),
        "alone_p99_ms": scaled(percentile(alone_s, 0.99), 1e3),
        "cpu_s_per_10k": server_cpu_s / len(latencies_s) * 1e4 if latencies_s else None,
        "server_busy_percent": 100 * server_cpu_s / took_s,
        "client_busy_percent": 100 * client_cpu_s / took_s,
        "others_busy_percent": max(0.0, 100 * (all_cpu_s - server_cpu_s - client_cpu_s) / took_s),
        "failed": sum(each.full.failed + each.alone.failed for each in own),
    }


def ratio(own: Sequence[Slice], other: Sequence[Slice]) -> float | None:
    """Return the median, over the rounds, of our rate by the other's in the same round."""
    return median(
        [
            ours.requests_per_s / theirs.requests_per_s
            for ours, theirs in zip(own, other, strict=True)
            if theirs.full.latencies_s
        ]
    )


def idle_cpu(processes: Mapping[str, Process], effort: Effort) -> Mapping[str, float]:
    """Return the CPU seconds that each uses in a second in which nobody asks it anything."""
    before_s = {name: process.cpu_s() for name, process in processes.items()}
    time.sleep(effort.idle_s)
    return {
        name: (process.cpu_s() - before_s[name]) / effort.idle_s
        for name, process in processes.items()
    }


def at_rest(
    idle_cpu_s: Mapping[str, float],
    idle_mib: Mapping[str, float],
    processes: Mapping[str, Process],
) -> Table:
    return Table(
        title="At rest",
        note="Resident memory, shared libraries included.",
        columns=(
            Column("idle_cpu_percent", "idle CPU %", 1),
            Column("idle_mib", "idle MiB", 1),
            Column("loaded_mib", "after the load MiB", 1),
        ),
        rows=[
            {
                "name": name,
                "idle_cpu_percent": 100 * idle_cpu_s[name],
                "idle_mib": idle_mib[name],
                "loaded_mib": process.rss_mib(),
            }
            for name, process in processes.items()
        ],
    )
