"""python -m bench.visitor UID: ask now and then, as that user where it may.

Reads what to ask, a line of JSON, from standard input, and prints how long each visit took; and
again, until there are no more lines.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.another import become
from bench.load import PATIENCE_S, Target, Visit, drive

PAUSE_S = 0.002


@dataclass(slots=True)
class Visits:
    """How long each visit of one kind took, in seconds, and how many had no good answer."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0


def order_of(visits: Mapping[str, Visit], *, within_s: float) -> Mapping[str, Any]:
    """Return what to tell a visitor. It holds secrets: for its standard input, not for argv."""
    return {
        "within_s": within_s,
        "visits": {
            name: {"target": visit.target, "requests": [each.decode() for each in visit.requests]}
            for name, visit in visits.items()
        },
    }


def visit_of(target: Sequence[Any], requests: Sequence[str]) -> Visit:
    return Visit(Target(*target), tuple(each.encode() for each in requests))


def made(visits: Mapping[str, Visit], *, within_s: float) -> Mapping[str, Visits]:
    """Make the visits in turns, one at a time, each on a fresh connection and after a pause."""
    found = {name: Visits() for name in visits}
    until = time.perf_counter() + within_s
    while time.perf_counter() < until:
        for name, visit in visits.items():
            load = drive(visit, clients=1, within_s=PATIENCE_S, count=1, fresh=True)
            found[name].latencies_s += load.latencies_s
            found[name].failed += load.failed
            time.sleep(PAUSE_S)
    return found


def main(uid: int) -> None:
    print(json.dumps({"event": "ready", "uid": become(uid)}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        visits = {name: visit_of(**each) for name, each in order["visits"].items()}
        found = made(visits, within_s=order["within_s"])
        told = {
            name: {"latencies_s": each.latencies_s, "failed": each.failed}
            for name, each in found.items()
        }
        print(json.dumps({"event": "visited", "visits": told}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.visitor", description=__doc__)
    parser.add_argument("uid", type=int)
    main(parser.parse_args().uid)
