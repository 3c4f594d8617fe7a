"""Print, as JSON, how a client appears when netlink is denied, as by `RestrictAddressFamilies=`."""

import ctypes
import errno
import json
import platform
import socket
import struct
from dataclasses import asdict

from broker.access.peer import Peers, netlink_problem

# Source: linux/prctl.h, linux/seccomp.h, linux/bpf_common.h, asm/unistd.h.
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}[platform.machine()]


def deny_netlink() -> None:
    steps = (
        (LOAD_WORD, 0, 0, NUMBER_AT),
        (JUMP_EQUAL, 0, 3, SOCKET_CALL),
        (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT),
        (JUMP_EQUAL, 0, 1, socket.AF_NETLINK),
        (RETURN, 0, 0, FAIL | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "no filter")


def main() -> None:
    deny_netlink()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        Peers() as peers,
    ):
        accepted, peer = listener.accept()
        with accepted:
            caller = peers.tcp_caller(local=accepted.getsockname(), peer=peer)
    print(json.dumps({"caller": asdict(caller), "why": netlink_problem()}))


if __name__ == "__main__":
    main()
