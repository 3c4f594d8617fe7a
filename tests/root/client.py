"""A process of its own that connects when told to (a line on stdin) and stays until closed.

With ``--hang-up`` it closes at once, and says so; with ``--reset`` the connection is reset.
With ``--announce`` it says when it is connected. With ``--socket-first`` it makes its socket
before it becomes who it is. Says ``refused`` where nobody listens.
"""

import socket
import struct
import sys
from argparse import Namespace

from tests.root.becoming import become, options


def main() -> None:
    parser = options("address", "port", "source_port")
    parser.add_argument("--hang-up", action="store_true")
    parser.add_argument("--reset", action="store_true")
    parser.add_argument("--announce", action="store_true")
    parser.add_argument("--socket-first", action="store_true")
    chosen = parser.parse_args()
    family = family_of(chosen.address)
    if chosen.socket_first:
        with socket.socket(family) as sock:
            become(chosen)
            converse(sock, chosen)
    else:
        become(chosen)
        with socket.socket(family) as sock:
            converse(sock, chosen)


def family_of(address: str) -> int:
    if address.startswith("/"):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def converse(sock: socket.socket, chosen: Namespace) -> None:
    sys.stdin.readline()
    try:
        if sock.family == socket.AF_UNIX:
            sock.connect(chosen.address)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", int(chosen.source_port)))
            sock.connect((chosen.address, int(chosen.port)))
    except ConnectionRefusedError:
        print("refused", flush=True)
        return
    if chosen.announce:
        print("connected", flush=True)
    if chosen.reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if chosen.hang_up or chosen.reset:
        sock.close()
        print("gone", flush=True)
    else:
        sock.recv(1)


if __name__ == "__main__":
    main()
