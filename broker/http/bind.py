"""Bind the sockets that the broker serves on."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import struct
from pathlib import Path

BACKLOG = 4096
"""Connections the kernel completes for us while we are busy (cut to net.core.somaxconn)."""

SEND_BUFFER_BYTES = 64 * 1024
"""How much of our answers the kernel keeps for one client that does not read them. Its own choice
grows to megabytes, for each of a thousand connections."""

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


class ListenError(Exception):
    """This address cannot be had; the text says why and what to do."""


class AddressInUse(ListenError):
    """Somebody else has it; ``uid`` says who listens there, if that is known."""

    uid: int | None = None


class AddressLacking(ListenError):
    """This host does not have that address."""


class AddressForbidden(ListenError):
    """This process may not have it."""


def bind(
    host: str, port: int, *, hop_limit: int | None = None, device: str | None = None
) -> socket.socket:
    """Return a TCP socket bound to *host* (an address) and *port* (0 picks one).

    `listen` on it at once: as long as it does not, another user's socket may listen there.

    *hop_limit* is as for `hops_allowed`. With *device*, only what comes in by that network device
    reaches the socket: by ``lo``, what this network namespace sends to itself. A neighbour on the
    link can reach an address that is bound on ``lo``, and no hop limit stops it; this does.

    Raises:
        AddressInUse, AddressLacking, AddressForbidden: It cannot be bound, and why.
    """
    place = _written(host, port)
    family, name = _resolved(host, port)
    sock = _socket(family, place)
    if device is not None:
        keep_to_device(sock, device, host=host, port=port)
    try:
        # A listener's options pass to the connections it accepts.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        hops = hops_allowed(host, hop_limit)
        if hops is not None:
            _limit_hops(sock, hops)
        sock.bind(name)
    except OSError as error:
        sock.close()
        raise _explained(error, place, host=host, port=port) from error
    return sock


def hops_allowed(host: str, hop_limit: int | None) -> int | None:
    """Return over how many links an answer from *host* (an address) may go.

    That is *hop_limit*, else one from a link-local address, else None: the kernel's default.
    """
    if hop_limit is None and ipaddress.ip_address(host).is_link_local:
        return 1
    return hop_limit


def listen(sock: socket.socket) -> None:
    """Begin to take connections.

    Raises:
        AddressInUse: Somebody else began first; the kernel notices only now.
    """
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        host, port = sock.getsockname()[:2]
        raise _explained(error, _written(host, port), host=host, port=port) from error


def bind_unix(path: Path, *, mode: int) -> socket.socket:
    """Return a Unix socket bound at *path* with these permission bits, not yet listening.

    A socket file that nobody answers at is replaced: a broker that was killed leaves one.

    Raises:
        AddressInUse: Somebody answers there, or what is there is no socket.
        AddressForbidden: The directory does not let us.
    """
    _make_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Never wider than it ends up, not even for a moment.
    umask = os.umask(0o177)
    try:
        sock.bind(str(path))
        path.chmod(mode)
    except OSError as error:
        sock.close()
        raise AddressForbidden(
            f"no socket can be made at {path} ({_reason(error)}); choose another directory"
        ) from error
    finally:
        os.umask(umask)
    return sock


def unlink_own(path: Path, made: os.stat_result) -> None:
    """Remove the file of a Unix socket that was *made* here, if it is still that one.

    Another broker may have put its own in its place since ours stopped listening.
    """
    with contextlib.suppress(OSError):
        found = path.lstat()
        # The time too, as the number of a file that has gone is given to the next one.
        if (found.st_ino, found.st_mtime_ns) == (made.st_ino, made.st_mtime_ns):
            path.unlink()


def _make_way(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise AddressForbidden(
            f"{path} cannot be looked at ({_reason(error)}); choose another directory"
        ) from error
    if not stat.S_ISSOCK(kind):
        raise AddressInUse(f"{path} is there and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        refused = probe.connect_ex(str(path))
        if refused == 0:
            raise AddressInUse(f"{path} is in use by {_peer_of(probe)}; stop it first")
    if refused != errno.ECONNREFUSED:
        raise AddressInUse(f"{path} is in use ({os.strerror(refused)}); stop what answers there")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise AddressLacking(
            f"{host} is not an address of this host; write one such as 127.0.0.1 or ::1"
        ) from error
    return found[0][0], found[0][4]


def _socket(family: socket.AddressFamily, place: str) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise _cannot(error, place) from error
        raise AddressLacking(
            f"{place} cannot be listened on ({_reason(error)}); leave it out, or turn IPv6 on"
        ) from error


def keep_to_device(sock: socket.socket, device: str, *, host: str, port: int) -> None:
    """Keep *sock*, for *host* and *port*, to *device*; on error it is closed.

    Raises:
        AddressForbidden: This process may not, and no loopback address is asked for.
        AddressLacking: There is no such device.
    """
    place = _written(host, port)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    except OSError as error:
        if error.errno == errno.EPERM and ipaddress.ip_address(host).is_loopback:
            return  # the kernel keeps these to lo itself, unless route_localnet is set
        sock.close()
        if error.errno == errno.EPERM:
            raise AddressForbidden(
                f"{place} cannot be kept to the device {device}: before Linux 5.7 that needs "
                "CAP_NET_RAW; run as root or take a newer kernel"
            ) from error
        raise AddressLacking(
            f"{place} cannot be kept to the device {device} ({_reason(error)}); "
            "is there a device of that name (ip link)?"
        ) from error


def _limit_hops(sock: socket.socket, hops: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


def _explained(error: OSError, place: str, *, host: str, port: int) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        in_use = AddressInUse(f"{place} is in use by {_holder(host, port)}")
        if found := _listener(host, port):
            in_use.uid = found[0]
        return in_use
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV):
        return AddressLacking(
            f"{place} is not an address of this host; add it to an interface or leave it out"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return AddressForbidden(
            f"{place} needs root or CAP_NET_BIND_SERVICE; choose a port from 1024 on"
        )
    return _cannot(error, place)


def _cannot(error: OSError, place: str) -> ListenError:
    return ListenError(f"{place} cannot be listened on ({_reason(error)}); listen elsewhere")


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _holder(host: str, port: int) -> str:
    """Return who listens there, and what to do about it, in words.

    That is program and pid where /proc shows them, else the uid.
    """
    found = _listener(host, port)
    if found is None:
        return "another program; stop it or listen elsewhere"
    uid, inode = found
    pid = _pid_with(inode)
    if pid is None:
        return f"a program of uid {uid}; stop it or listen elsewhere"
    who = f"{_program(pid)} (pid {pid}, uid {uid})"
    if pid == os.getpid():
        return f"{who}, this broker itself; leave it in one reload and take it in the next"
    return f"{who}; stop it or listen elsewhere"


def _listener(host: str, port: int) -> tuple[int, int] | None:
    """Return uid and inode of the socket that listens there, or on every address of that port."""
    exact, anywhere = _kernel_form(host), {"0" * 8, "0" * 32}
    found = None
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, hex_port = fields[1].partition(":")
                if fields[3] != LISTENING or int(hex_port, 16) != port:
                    continue
                if address == exact:
                    return int(fields[7]), int(fields[9])
                # Whoever holds every address stands in our way; so does anybody, if we want them.
                if address in anywhere or exact in anywhere:
                    found = int(fields[7]), int(fields[9])
    return found


def _kernel_form(host: str) -> str:
    """Return an address as /proc/net/tcp writes it: 32-bit words in the machine's byte order."""
    packed = ipaddress.ip_address(host.partition("%")[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _pid_with(inode: int) -> int | None:
    """Return the process that has that socket open, among those we may look into."""
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) == wanted:
                        return int(process.name)
    return None


def _peer_of(probe: socket.socket) -> str:
    raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return f"{_program(pid)} (pid {pid}, uid {uid})"


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a program"
