"""Serve IMDS at the metadata address, in a process of its own, by rules given as JSON.

Each rule has a `who` as in the configuration file, and `roles`. Prints `ready` when it serves.
"""

import asyncio
import json
import sys

from broker.access.caller_lookup import HostFacts
from broker.access.cgroup import Cgroups
from broker.access.match import who_of
from broker.access.peer import Peers
from broker.access.process import Processes
from broker.access.rules import FirstMatch, Rule
from broker.access.users import UserDatabase
from broker.clock import SystemClock
from broker.http.bind import bind
from broker.http.server import serving
from tests.support.surfaces import Holding, an_imds, lease_for

ADDRESS = "169.254.169.254"


async def main() -> None:
    clock, cgroups = SystemClock(), Cgroups()
    facts = HostFacts(users=UserDatabase(), processes=Processes(members_of=cgroups.members_of))
    rules = FirstMatch(
        [
            Rule(number=number, who=who_of(each["who"]), roles=tuple(each["roles"]))
            for number, each in enumerate(json.loads(sys.argv[1]), 1)
        ],
        facts=facts,
    )
    held = {
        name: Holding(lease_for(name, serial=serial, issued_at=clock.now()))
        for serial, name in enumerate(("deploy", "audit", "vault"), 1)
    }
    with Peers(cgroups) as peers:
        surface = an_imds(held, rules=rules)
        async with serving(surface, [bind(ADDRESS, 80)], clock=clock, caller_of=peers.caller_of):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main())
