"""A process of its own that accepts one connection and says, as JSON, who the kernel says it is.

Says its port first. Also listens on *bystander* (a port, 0 for any), on every address.
"""

import json
import socket
from dataclasses import asdict

from broker.access.peer import Peers
from broker.surfaces.listen import bind
from tests.root.becoming import become, options


def main() -> None:
    chosen = options("address", "bystander").parse_args()
    with bind("0.0.0.0", int(chosen.bystander)) as other, bind(chosen.address, 0) as listener:
        become(chosen)
        other.listen()
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        accepted, peer = listener.accept()
        with accepted, Peers() as peers:
            caller = peers.tcp_caller(local=accepted.getsockname(), peer=peer)
            print(json.dumps(asdict(caller)), flush=True)
            accepted.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
