"""Accept one connection and print, as JSON, who the kernel says it is, and its process.

Prints its port first, or 0 for a Unix socket. Also listens on *bystander* (a port, 0 for any), on
every address. With ``--device`` only what comes by that network device is accepted; with
``--when-told`` it asks the kernel after a line on stdin, not at once; ``--subuid`` is another file
in the place of /etc/subuid. A connection that is dead has no caller, so no fact is known of it.
"""

import json
import socket
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from broker.access.caller import Caller
from broker.access.cgroup import Cgroups
from broker.access.peer import Peers
from broker.access.process import Processes
from broker.access.users import SUBUID, SubordinateUids
from broker.http.bind import bind, bind_unix
from tests.root.becoming import become, options


def main() -> None:
    parser = options("address", "bystander")
    parser.add_argument("--device", default=None)
    parser.add_argument("--when-told", action="store_true")
    parser.add_argument("--subuid", type=Path, default=SUBUID)
    chosen = parser.parse_args()
    with bind("0.0.0.0", int(chosen.bystander)) as other, listener_for(chosen) as listener:
        become(chosen)
        other.listen()
        listener.listen()
        print(port_of(listener), flush=True)
        accepted, peer = listener.accept()
        with accepted:
            if chosen.when_told:
                sys.stdin.readline()
            print(json.dumps(facts_of(accepted, peer, chosen.subuid)), flush=True)
            accepted.shutdown(socket.SHUT_RDWR)


def listener_for(chosen: Namespace) -> socket.socket:
    if chosen.address.startswith("/"):
        return bind_unix(Path(chosen.address), mode=0o666)
    listener = bind(chosen.address, 0)
    if chosen.device is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, chosen.device.encode())
    return listener


def port_of(listener: socket.socket) -> int:
    return 0 if listener.family == socket.AF_UNIX else int(listener.getsockname()[1])


def facts_of(accepted: socket.socket, peer: Any, subuid: Path) -> dict[str, object]:
    cgroups = Cgroups()
    with Peers(cgroups, subordinates=SubordinateUids(subuid)) as peers:
        caller = peers.caller_of(accepted, peer) or Caller()
    process = Processes(members_of=cgroups.members_of).process_of(caller)
    return {**asdict(caller), "behind": asdict(process)}


if __name__ == "__main__":
    main()
