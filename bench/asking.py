"""Measure what it costs to ask the kernel who opened a connection (SOCK_DIAG)."""

import os
import socket
import time

from bench.effort import Effort
from bench.report import Column, Table, percentile, scaled
from broker.access.peer import Peers


def asking(effort: Effort) -> Table:
    """Ask about connections of our own, one after another, as a server does at accept."""
    took_s: list[float] = []
    wrong = 0
    with socket.create_server(("127.0.0.1", 0)) as listener, Peers() as peers:
        for _ in range(effort.askings):
            with socket.create_connection(listener.getsockname()):
                accepted, peer = listener.accept()
                with accepted:
                    local = accepted.getsockname()
                    began_at = time.perf_counter()
                    caller = peers.tcp_caller(local=local, peer=peer)
                    took_s.append(time.perf_counter() - began_at)
                    wrong += caller.uid != os.getuid()
    return Table(
        title="Asking the kernel who is calling",
        note="Once for each connection that is accepted, in the broker's own thread.",
        columns=(
            Column("p50_us", "p50 us", 1),
            Column("p99_us", "p99 us", 1),
            Column("failed", "failed"),
        ),
        rows=[
            {
                "name": "SOCK_DIAG, a connection",
                "p50_us": scaled(percentile(took_s, 0.5), 1e6),
                "p99_us": scaled(percentile(took_s, 0.99), 1e6),
                "failed": wrong,
            }
        ],
    )
