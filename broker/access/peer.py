"""Ask the kernel who is at the other end of a connection."""

import errno
import ipaddress
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from broker.access.caller import Caller, known_id, unmapped_id
from broker.access.cgroup import UNKNOWN_LOCATION, CgroupLocation, Cgroups
from broker.access.netlink import (
    ATTRIBUTE,
    MESSAGE,
    NETLINK_ROUTE,
    NETLINK_SOCK_DIAG,
    Netlink,
    NetlinkRefused,
    open_netlink,
)
from broker.access.process import location_of_process
from broker.access.users import SubordinateUids

SO_PEERPIDFD = 77
"""Gives a handle to the process that connected. Source: asm-generic/socket.h, since Linux 6.5."""

# Source: linux/sock_diag.h, linux/inet_diag.h, linux/rtnetlink.h.
SOCK_DIAG_BY_FAMILY = 20
INET_DIAG_CGROUP_ID = 21
RTM_GETROUTE, RTA_DST, RTA_OIF, RTN_LOCAL = 26, 1, 4, 2

SO_ORIGINAL_DST = 80
"""The address that a client connected to before the host redirected it.

Source: linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h."""

ALL_STATES = 0xFFFFFFFF
NO_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)

REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states
SOCKET_PORTS = struct.Struct("!HH16s16s")  # source and destination: ports, addresses
SOCKET_REST = struct.Struct("=III")  # interface, cookie
ANSWER_IDS = struct.Struct("=II")  # uid, inode
ROUTE = struct.Struct("=8BI")  # family, lengths, tos, table, protocol, scope, type, flags
NUMBER_ATTRIBUTE = struct.Struct("=HHI")

STATE_AT = MESSAGE.size + 1
PORTS_AT = MESSAGE.size + 4
IDS_AT = PORTS_AT + SOCKET_PORTS.size + SOCKET_REST.size + 12
ATTRIBUTES_AT = IDS_AT + ANSWER_IDS.size

LOOPBACK_INTERFACE = 1
"""Its index in every network namespace. Naming it also finds a client that bound its socket to it,
and hides no other."""

# Source: net/tcp_states.h.
ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 4, 5, 8, 9, 11
CLIENT_STATES = frozenset({ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING})
"""States of a client's socket that is connected. One in SYN_SENT only tries to be: it may have
taken the port of a client that has gone."""

SERVED_STATES = frozenset({ESTABLISHED, CLOSE_WAIT})
"""States of an accepted socket whose client can still receive an answer."""

CALLERS_S, MAX_CALLERS = 1.0, 4096
"""How long what was found of a uid and cgroup is taken as it was, and of how many."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A socket's owner: the uid that created it, and the cgroup and inode of the socket."""

    uid: int
    cgroup_id: int | None
    inode: int


class Peers:
    """Ask the kernel who opened a connection: about 15 us each, unprivileged.

    What
    follows from uid and cgroup is found once a second for each; a cgroup that *cgroups* has not
    seen costs a walk of the tree, once.
    """

    def __init__(
        self, cgroups: Cgroups | None = None, *, subordinates: SubordinateUids | None = None
    ) -> None:
        self._cgroups = cgroups or Cgroups()
        self._subordinates = subordinates or SubordinateUids()
        self.complete: Callable[[Caller], Caller] = lambda caller: caller
        """Adds what rules say of a caller, whatever it will ask for."""
        self._diagnostics = Netlink(NETLINK_SOCK_DIAG)
        self._routes = Netlink(NETLINK_ROUTE)
        self._callers: dict[tuple[int, int | None, str], Caller] = {}
        self._callers_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._diagnostics.close()
        self._routes.close()

    def caller_of(self, sock: socket.socket, peer: Any) -> Caller | None:
        """Return who is at the other end of *sock*, accepted from *peer*; None if it is dead.

        Ask at accept: once the client has closed, the kernel has forgotten it. The port of a dead
        connection may be another process's by now, so a caller counts only if the connection is
        alive before and after the kernel was asked.
        """
        if sock.family == socket.AF_UNIX:
            caller = self._subordinates.applied_to(unix_caller(sock))
            return self.complete(unix_caller_located(sock, caller))
        if not peer or not is_alive(sock):
            return None
        caller = self.tcp_caller(local=sock.getsockname(), peer=peer)
        if caller.uid is None and not caller.is_remote:
            # A local client that the host redirected to us connected to another address.
            redirected = original_destination(sock)
            caller = self.tcp_caller(local=redirected, peer=peer) if redirected else caller
        return caller if is_alive(sock) else None

    def tcp_caller(self, *, local: tuple[Any, ...], peer: tuple[Any, ...]) -> Caller:
        """Return who connected from *peer* to *local*, both as `socket.getpeername` gives them.

        The uid is None for another host or network namespace, for a client that has closed
        already, and for an id outside our user namespace; only the first is ``is_remote``.
        """
        here, there = _address(local), _address(peer)
        owner = self._owner_of(there, here, _scope(peer))
        if owner is None:
            is_remote = not may_be_local(there[0], _scope(peer), routes=self._routes)
            return self.complete(Caller(address=str(there[0]), is_remote=is_remote))
        key = (owner.uid, owner.cgroup_id, str(there[0]))
        now = time.monotonic()
        if now > self._callers_until or len(self._callers) >= MAX_CALLERS:
            self._callers.clear()
            self._callers_until = now + CALLERS_S
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = self._local_caller(*key)
        return replace(caller, inode=owner.inode)

    def _local_caller(self, uid: int, cgroup_id: int | None, address: str) -> Caller:
        caller = Caller(uid=uid, cgroup_id=cgroup_id, address=address)
        caller = self._subordinates.applied_to(caller)
        location = self._cgroups.location_of(cgroup_id, uid=caller.billed_uid)
        return self.complete(location.applied_to(caller))

    def _owner_of(self, client: "_Address", server: "_Address", scope: int) -> Owner | None:
        """Return the owner of the socket at *client* that is connected to *server*."""
        family = socket.AF_INET if client[0].version == 4 else socket.AF_INET6
        request = (
            REQUEST.pack(family, socket.IPPROTO_TCP, 0, ALL_STATES)
            + SOCKET_PORTS.pack(client[1], server[1], client[0].packed, server[0].packed)
            + SOCKET_REST.pack(scope or LOOPBACK_INTERFACE, *NO_COOKIE)
        )
        try:
            answer = self._diagnostics.ask(SOCK_DIAG_BY_FAMILY, request)
        except OSError:  # no such socket, no memory, no permission: the caller is unknown
            return None
        return owner_in(answer, client=client, server=server)


def original_destination(sock: socket.socket) -> tuple[Any, ...] | None:
    """Return where the client of *sock* connected to, if the host redirected it to us.

    By ``REDIRECT`` or ``DNAT``, as connection tracking remembers it.
    """
    for level, family, layout in (
        (socket.IPPROTO_IP, socket.AF_INET, struct.Struct("!2xH4s8x")),
        (socket.IPPROTO_IPV6, socket.AF_INET6, struct.Struct("!2xH4x16s4x")),
    ):
        try:
            port, packed = layout.unpack(sock.getsockopt(level, SO_ORIGINAL_DST, layout.size))
        except (OSError, struct.error):  # not of that family, or nothing is redirected here
            continue
        destination = socket.inet_ntop(family, packed), port
        return None if _address(destination) == _address(sock.getsockname()) else destination
    return None


def is_alive(sock: socket.socket) -> bool:
    """Return whether the client of an accepted TCP connection may still receive an answer."""
    try:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:
        return False
    return state[0] in SERVED_STATES


_Address = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def _address(name: tuple[Any, ...]) -> _Address:
    """Return a socket's name as address and port; a mapped IPv4 address as IPv4."""
    return _parsed(name[0]), name[1]


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return mapped or address


def _scope(name: tuple[Any, ...]) -> int:
    return int(name[3]) if len(name) == 4 else 0


def may_be_local(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    scope: int = 0,
    *,
    routes: Netlink | None = None,
) -> bool:
    """Return whether a program of this host could connect from *address*.

    Where it could, an unknown caller may be such a program, so the address identifies nobody. It
    could if the host delivers packets for the address to itself, as its routing table says.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    request = ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    request += ATTRIBUTE.pack(ATTRIBUTE.size + len(address.packed), RTA_DST) + address.packed
    if scope:
        request += NUMBER_ATTRIBUTE.pack(NUMBER_ATTRIBUTE.size, RTA_OIF, scope)
    netlink = routes or Netlink(NETLINK_ROUTE)
    try:
        answer = netlink.ask(RTM_GETROUTE, request)
    except NetlinkRefused:  # no route leads there
        return False
    except OSError:
        return _may_bind(address, scope)
    finally:
        if routes is None:
            netlink.close()
    return bool(ROUTE.unpack_from(answer, MESSAGE.size)[7] == RTN_LOCAL)


def _may_bind(address: ipaddress.IPv4Address | ipaddress.IPv6Address, scope: int) -> bool:
    """Return whether we could connect from *address*, where the routing table cannot be read.

    With ``ip_nonlocal_bind`` set, that is from anywhere.
    """
    family, name = (
        (socket.AF_INET, (str(address), 0))
        if address.version == 4
        else (socket.AF_INET6, (str(address), 0, 0, scope))
    )
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.bind(name)
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def netlink_problem() -> str | None:
    """Return, for the operator, why the kernel cannot be asked who is calling; None if it can."""
    try:
        open_netlink(NETLINK_SOCK_DIAG).close()
    except OSError as error:
        return (
            f"the kernel cannot be asked who is calling ({os.strerror(error.errno or 0)}), so "
            "every caller over TCP is unknown; allow AF_NETLINK sockets to the broker"
        )
    return None


def identity_problems() -> Iterator[str]:
    """Yield, for the operator, which callers this host cannot tell apart."""
    if problem := netlink_problem():
        yield problem
    unmapped = unmapped_id()
    if unmapped is None:
        return
    yield (
        "the broker runs in a user namespace that maps only some users, so every other caller is "
        "unknown; run it outside, or give such callers a token"
    )
    if os.geteuid() == unmapped:
        yield (
            f"the broker's own uid {unmapped} stands for every user that is not mapped here, so "
            "its owner is unknown too; run it as another uid"
        )


def owner_in(answer: bytes, *, client: _Address, server: _Address) -> Owner | None:
    """Return the owner that *answer* names; None when it is about another socket.

    If the kernel finds no connected socket it answers for one that *listens* at the client's port:
    for a client in another network namespace that would be a bystander. So the addresses in the
    answer must be the requested ones. With inode 0 the client has released the socket, and the uid
    cannot be trusted.
    """
    if len(answer) < ATTRIBUTES_AT or answer[STATE_AT] not in CLIENT_STATES:
        return None
    ports = SOCKET_PORTS.unpack_from(answer, PORTS_AT)
    wide = answer[MESSAGE.size] == socket.AF_INET6
    if ports[:2] != (client[1], server[1]):
        return None
    if (_unpacked(ports[2], wide), _unpacked(ports[3], wide)) != (client[0], server[0]):
        return None
    uid, inode = ANSWER_IDS.unpack_from(answer, IDS_AT)
    if inode == 0 or known_id(uid) is None:
        return None
    cgroup = _attribute(answer, INET_DIAG_CGROUP_ID)
    return Owner(uid, int.from_bytes(cgroup, sys.byteorder) if cgroup else None, inode)


@lru_cache(maxsize=1024)
def _unpacked(raw: bytes, wide: bool) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if not wide:
        return ipaddress.IPv4Address(raw[:4])
    address = ipaddress.IPv6Address(raw)
    return address.ipv4_mapped or address


def _attribute(answer: bytes, kind: int) -> bytes | None:
    at, end = ATTRIBUTES_AT, len(answer) - ATTRIBUTE.size
    while at <= end:
        length, found = ATTRIBUTE.unpack_from(answer, at)
        if length < ATTRIBUTE.size:
            return None
        if found == kind:
            return answer[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return None


def unix_caller(sock: Any) -> Caller:
    """Return who connected to the Unix socket *sock*: pid, uid and gid at that time.

    Source: unix(7), SO_PEERCRED; pid 0 is a process outside our pid namespace.
    """
    credentials = struct.Struct("iII")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    pid, uid, gid = credentials.unpack(raw)
    return Caller(pid=pid or None, uid=known_id(uid), gid=known_id(gid))


def unix_caller_located(sock: Any, caller: Caller) -> Caller:
    """Return *caller* with unit and container of its process, if that has not ended.

    *sock* is the Unix socket to which it connected.
    """
    return caller if caller.uid is None else _peer_location(sock, caller.pid).applied_to(caller)


def _peer_location(sock: Any, pid: int | None) -> CgroupLocation:
    try:
        handle = struct.Struct("i")
        (process,) = handle.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, handle.size))
    except OSError:  # an older kernel: the pid may have been reused
        return UNKNOWN_LOCATION
    try:
        location = location_of_process(pid) if pid else UNKNOWN_LOCATION
        ended, _, _ = select.select([process], [], [], 0)
    finally:
        os.close(process)
    return UNKNOWN_LOCATION if ended else location
