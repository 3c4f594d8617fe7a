"""Send one request to the kernel over netlink and read its answer, without waiting."""

import errno
import os
import socket
import struct

# Source: linux/netlink.h, linux/rtnetlink.h.
NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
NLM_F_REQUEST = 1
NLMSG_ERROR = 2

MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
ERROR = struct.Struct("=i")

STALE_ANSWERS = 8
"""How many answers to older requests are skipped before we give up."""


class Netlink:
    """One netlink socket, opened when first needed.

    The kernel answers within the call that sends, so nothing waits.
    """

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol
        self._sock: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def ask(self, kind: int, body: bytes) -> bytes:
        """Return the answer to a request of that *kind*, with its header.

        Raises:
            OSError: The kernel refused, did not answer, or cannot be asked.
        """
        try:
            return self._exchange(kind, body)
        except OSError:
            self.close()  # whatever is wrong with it, the next request begins anew
            raise

    def _exchange(self, kind: int, body: bytes) -> bytes:
        if self._sock is None:
            self._sock = open_netlink(self._protocol)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        length = MESSAGE.size + len(body)
        self._sock.send(MESSAGE.pack(length, kind, NLM_F_REQUEST, self._sequence, 0) + body)
        for _ in range(STALE_ANSWERS):
            answer, sender = self._sock.recvfrom(8192)
            _, answered, _, sequence, _ = MESSAGE.unpack_from(answer)
            if sender[0] != 0 or sequence != self._sequence:
                continue
            if answered == NLMSG_ERROR:
                code = -ERROR.unpack_from(answer, MESSAGE.size)[0]
                raise NetlinkRefused(code, os.strerror(code))
            return answer
        raise OSError(errno.ENOMSG, "the kernel did not answer")


class NetlinkRefused(OSError):
    """The kernel understood the request and refused it, as for what it does not know."""


def open_netlink(protocol: int) -> socket.socket:
    """Open a netlink socket.

    Raises:
        OSError: It is not permitted (``RestrictAddressFamilies=`` without ``AF_NETLINK``).
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.setblocking(False)
    return sock
