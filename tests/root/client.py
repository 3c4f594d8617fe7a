"""A process of its own that connects when told to (a line on stdin) and stays until closed."""

import socket
import sys

from tests.root.becoming import become, options


def main() -> None:
    chosen = options("address", "port", "source_port").parse_args()
    become(chosen)
    sys.stdin.readline()
    with socket.socket() as sock:
        sock.bind(("", int(chosen.source_port)))
        sock.connect((chosen.address, int(chosen.port)))
        sock.recv(1)


if __name__ == "__main__":
    main()
