"""Which of these HOST,PORT take a connection from here? One line each."""

import socket
import sys

LIMIT_S = 1.0

for place in sys.argv[1:]:
    host, _, port = place.rpartition(",")
    try:
        socket.create_connection((host, int(port)), timeout=LIMIT_S).close()
    except OSError:
        continue
    print(place)
