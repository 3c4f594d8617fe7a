"""Measure what one caller notices of another that misbehaves."""

import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import visitor
from bench.effort import Effort
from bench.load import Target
from bench.misbehaving import Manner
from bench.process import Process, machine_cpu_s, started
from bench.report import Column, Row, Table, percentile, scaled
from bench.servers import (
    ROLE,
    Broker,
    Clouds,
    broker,
    clean_environ,
    get,
    put_token,
    request,
)

VISITOR_UID, STRANGER_UID, GRANTED_UID = 59001, 59002, 59003
"""Numbers that no account of a usual host has."""

NOBODY = "nobody misbehaves"

SPARE_FILES = 64
"""Descriptors that a program needs beside its connections."""

METRICS_IN_A_SEGMENT = 53

HEADER = """
[audit]
to = "{audit}"
"""

RULE = """
[[rules]]
who = {{ uid = {uid} }}
roles = ["{role}"]
"""


@dataclass(frozen=True, slots=True)
class Siege:
    """What somebody does, or nobody."""

    name: str
    manner: Manner | None = None
    connections: int = 0
    surface: Literal["imds", "refused", "body", "metrics", "control"] = "imds"
    """Ask for a session token; for credentials with a bad token; the same with a body of chunks;
    for metrics; for the state by the control socket."""
    pipelined: int = 8
    uids: int = 0
    is_granted: bool = False

    @property
    def uid(self) -> int:
        """Who misbehaves; only root can be many users."""
        if self.uids:
            return 0
        return GRANTED_UID if self.is_granted else STRANGER_UID

    def order(self, running: Broker) -> Mapping[str, Any]:
        target, asked = self._asked(running)
        return {
            "manner": self.manner,
            "target": target,
            "request": asked.decode(),
            "connections": self.connections,
            "pipelined": self.pipelined,
            "uids": self.uids,
        }

    def _asked(self, running: Broker) -> tuple[Target | str, bytes]:
        match self.surface:
            case "imds":
                return running.imds, put_token()
            case "refused":
                return running.container, get("/v1/credentials", Authorization="x" * 43)
            case "body":
                return running.container, request(
                    "POST", "/", {"Transfer-Encoding": "chunked"}
                ) + CHUNKS
            case "metrics":
                return running.ops, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            case "control":
                return str(running.runtime_dir / "broker.sock"), get("/v1/ready")


CHUNKS = b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"5000\r\n" + b"x" * 20_000


def sieges(effort: Effort) -> list[Siege]:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = min(effort.siege_connections, files - SPARE_FILES)
    slow, flood, uids = effort.siege_slow_senders, effort.siege_flooding, effort.siege_uids
    metrics = METRICS_IN_A_SEGMENT
    return [
        Siege(NOBODY),
        Siege(f"{opened:,} connections opened", "silent", opened),
        Siege(f"{slow:,} slow senders", "slow", slow),
        Siege(f"{slow:,} half-sent bodies", "half", slow, "body"),
        Siege("connect and reset, again and again", "reset", 1_000_000_000),
        Siege(f"flood of PUTs on {flood:,} connections", "flood", flood),
        Siege(f"flood of PUTs by one with a grant on {flood:,}", "flood", flood, is_granted=True),
        Siege(f"flood of refused requests on {flood:,}", "flood", flood, "refused"),
        Siege(f"{metrics} pipelined /metrics on 8", "flood", 8, "metrics", pipelined=metrics),
        Siege(f"flood of the control socket on {flood:,}", "fresh", flood, "control"),
        Siege(f"{uids:,} uids, a connection for each request", "fresh", flood, uids=uids),
    ]


def besieged(upstream: Clouds, folder: Path, effort: Effort) -> Table:
    """Let one visitor ask one broker, while nobody misbehaves and then each in turn."""
    others = range(60_000, 60_000 + effort.siege_rules)
    with started(["bench.visitor", str(VISITOR_UID)], clean_environ(folder)) as visiting:
        visitor_uid = visiting.heard("ready")[1]["uid"]
        config = HEADER.format(audit=folder / "siege.jsonl") + "".join(
            RULE.format(uid=uid, role=ROLE) for uid in (*others, GRANTED_UID, visitor_uid)
        )
        with broker(upstream, folder, "siege", config=config, is_service=True) as running:
            rows = [
                {"visitor_uid": visitor_uid, **under(siege, running, visiting, folder, effort)}
                for siege in sieges(effort)
            ]
    return Table(
        title="Other callers, while somebody misbehaves",
        note=(
            "The visitor, the one who misbehaves (with a grant in one row) and the broker are "
            f"three users; {effort.siege_rules:,} rules stand before the visitor's."
            if visitor_uid != os.geteuid()
            else "Run as an ordinary user: the one who misbehaves has the visitor's uid, which is "
            "the broker's own,\nso that no limit by caller holds and they share their turns. Run "
            "it as root for three users."
        )
        + f"\nFor {effort.siege_s:g} s each, on the same cores; a visit is on a fresh connection, "
        "one at a time.\nServed: had an answer; queued: open, without a byte; rejected: closed "
        "without one.\nPercents are of one core; others: neither the broker nor these two.",
        columns=(
            Column("imds_p50_ms", "IMDS p50 ms", 2),
            Column("imds_p99_ms", "p99 ms", 2),
            Column("container_p50_ms", "container p50 ms", 2),
            Column("container_p99_ms", "p99 ms", 2),
            Column("slowest_ms", "slowest ms", 1),
            Column("served", "served"),
            Column("queued", "queued"),
            Column("rejected", "rejected"),
            Column("requests_per_s", "its requests/s"),
            Column("before_mib", "before MiB", 1),
            Column("after_mib", "after MiB", 1),
            Column("cpu_percent", "broker %"),
            Column("others_busy_percent", "others %"),
            Column("failed", "failed"),
        ),
        rows=rows,
    )


def under(siege: Siege, running: Broker, visiting: Process, folder: Path, effort: Effort) -> Row:
    visits = {"imds": running.cold_imds_visit(), "container": running.container_visit()}
    order = visitor.order_of(visits, within_s=effort.siege_s)
    with misbehaving(siege, folder) as process:
        uid = process.heard("ready")[1]["uid"] if process is not None else None
        ours = [each for each in (running.process, visiting, process) if each is not None]
        before_mib, began_cpu_s = running.process.rss_mib(), running.process.cpu_s()
        others_began_cpu_s = machine_cpu_s() - sum(each.cpu_s() for each in ours)
        visiting.tell(order)
        if process is not None:
            process.tell(siege.order(running))
        visited = visiting.heard("visited")[1]["visits"]
        cpu_s = running.process.cpu_s() - began_cpu_s
        others_cpu_s = machine_cpu_s() - sum(each.cpu_s() for each in ours) - others_began_cpu_s
        after_mib = running.process.rss_mib()
        report = process.ask("report") if process is not None else {}
    requests = report.pop("requests", None)
    latencies_s = visited["imds"]["latencies_s"] + visited["container"]["latencies_s"]
    return {
        "name": siege.name,
        "uid": uid,
        **latencies("imds", visited["imds"]["latencies_s"]),
        **latencies("container", visited["container"]["latencies_s"]),
        "slowest_ms": scaled(max(latencies_s, default=None), 1e3),
        "opened_s": report.get("opened_s"),
        "served": report.get("served"),
        "queued": report.get("queued"),
        "rejected": report.get("rejected"),
        "requests_per_s": None if requests is None else requests / effort.siege_s,
        "before_mib": before_mib,
        "after_mib": after_mib,
        "cpu_percent": 100 * cpu_s / effort.siege_s,
        "others_busy_percent": max(0.0, 100 * others_cpu_s / effort.siege_s),
        "failed": visited["imds"]["failed"] + visited["container"]["failed"],
    }


def latencies(surface: str, found_s: list[float]) -> Row:
    return {
        f"{surface}_p50_ms": scaled(percentile(found_s, 0.5), 1e3),
        f"{surface}_p99_ms": scaled(percentile(found_s, 0.99), 1e3),
    }


@contextmanager
def misbehaving(siege: Siege, folder: Path) -> Iterator[Process | None]:
    """Start who misbehaves, if anybody does. It waits for its order."""
    if siege.manner is None:
        yield None
        return
    with started(["bench.misbehaving", str(siege.uid)], clean_environ(folder)) as process:
        yield process
