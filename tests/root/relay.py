"""Accept one connection and make one to *address* for it, as docker-proxy and ssh do.

Prints its own port.
"""

import socket

from tests.root.becoming import become, options


def main() -> None:
    chosen = options("listen", "address", "port").parse_args()
    become(chosen)
    with socket.create_server((chosen.listen, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        accepted, _ = listener.accept()
        with accepted, socket.socket() as onward:
            onward.connect((chosen.address, int(chosen.port)))
            onward.recv(1)


if __name__ == "__main__":
    main()
