"""python -m bench: measure, and print tables."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import report, servers
from bench.asking import asking
from bench.auditing import auditing
from bench.crowds import crowds
from bench.effort import FULL, QUICK, Effort
from bench.load import ask
from bench.process import ProcessFailed
from bench.report import Table
from bench.siege import besieged
from bench.starts import commands, starts
from bench.throughput import throughput


def measured(effort: Effort) -> Iterator[Table]:
    """Measure everything, and yield each table when it is done."""
    with (
        # A short name: a Unix socket's path has room for about a hundred bytes.
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        servers.clouds(folder := Path(name)) as upstream,
    ):
        yield starts(upstream, folder, effort)
        yield crowds(upstream, folder, effort)
        with servers.broker(upstream, folder, "broker") as broker:
            body_bytes = len(ask(broker.container_visit()))
            with (
                servers.bare(servers.BARE_AIOHTTP, folder, body_bytes=body_bytes) as aiohttp,
                servers.bare(servers.BARE_ASYNCIO, folder, body_bytes=body_bytes) as plain,
            ):
                yield from throughput(broker, aiohttp, plain, effort)
            yield commands(broker, folder, effort)
        yield besieged(upstream, folder, effort)
        yield asking(effort)
        yield auditing(upstream, folder, effort)


def failures(tables: list[Table]) -> int:
    return sum(int(row.get("failed") or 0) for table in tables for row in table.rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it work at all")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of tables")
    form.add_argument("--markdown", action="store_true", help="print Markdown tables")
    options = parser.parse_args()
    began_at = time.monotonic()
    machine = report.machine()
    facts = "{cores} cores, {python}, aiohttp {aiohttp}, {kernel}, {architecture}".format(**machine)
    shown = report.markdown_of if options.markdown else report.text_of
    tables: list[Table] = []
    if not options.json:
        print(f"namespace-broker on {facts}; everything over loopback", flush=True)
    for table in measured(QUICK if options.quick else FULL):
        tables.append(table)
        if not options.json:
            print(f"\n{shown(table)}", flush=True)
    failed, took_s = failures(tables), time.monotonic() - began_at
    if options.json:
        document = {
            "machine": machine,
            "tables": [report.document_of(table) for table in tables],
            "failed": failed,
            "took_s": took_s,
        }
        print(json.dumps(document, indent=2))
    else:
        print(f"\n{failed} failed; the whole took {took_s:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProcessFailed as error:
        sys.exit(f"bench: {error}")
