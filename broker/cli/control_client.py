"""Find the running broker and ask it over its control socket.

HTTP over a Unix socket by hand: the commands that run at every SDK start can afford no more.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time

from broker.cli.errors import Failure, Misuse, NotRunning
from broker.files import locations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from broker.cli.parser import Options

ASK_LIMIT_S = 5.0
PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid
LARGEST_BYTES = 1 << 20


class Reply:
    """The broker's answer, and its ``endpoints.json``."""

    __slots__ = ("document", "endpoints", "status")

    def __init__(
        self, status: int, document: Mapping[str, Any], endpoints: Mapping[str, Any]
    ) -> None:
        self.status = status
        self.document = document
        self.endpoints = endpoints

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of all the broker's roles."""
        return tuple(map(str, self.endpoints["roles"]))

    @property
    def message(self) -> str:
        return str(self.document.get("message", f"it answered {self.status}"))


def ask(
    path: str,
    runtime_dir: str | None,
    parameters: Mapping[str, str | None],
    *,
    limit_s: float = ASK_LIMIT_S,
) -> Reply:
    """Return the running broker's answer to a GET of *path*.

    Args:
        runtime_dir: As ``--runtime-dir``.
        parameters: The query; those that are None are left out.

    Raises:
        NotRunning: None runs in any of the directories; the text names them.
        Failure: One runs and gives no proper answer in time.
    """
    query = [f"{name}={quoted(text)}" for name, text in parameters.items() if text is not None]
    target = f"{path}?{'&'.join(query)}" if query else path
    looked: list[str] = []
    for directory in dict.fromkeys(directories(runtime_dir, os.environ, os.getuid())):
        try:
            believed = believed_uids(directory, os.getuid())
            endpoints = endpoints_in(directory)
            connection = connected(endpoints, limit_s, believed)
        except BlockingIOError as error:
            raise unanswered() from error
        except (OSError, ValueError, locations.UntrustedDirectory) as trouble:
            looked.append(f"{directory} ({reason(trouble)})")
            continue
        with connection:
            status, document = exchange(connection, target, time.monotonic() + limit_s)
            return Reply(status, document, endpoints)
    raise NotRunning(
        "" if runtime_dir is None else "--runtime-dir",
        f"no broker is running: looked in {', '.join(looked)}",
        "start one: namespace-broker run --role-arn ARN",
    )


def directories(runtime_dir: str | None, environ: Mapping[str, str], uid: int) -> Iterator[str]:
    """Yield the directories where a broker may be, in order.

    A directory given by the flag is the only one: another broker would be the wrong one.

    Source: interface, how commands find the daemon.
    """
    if runtime_dir is not None:
        yield runtime_dir
        return
    if named := environ.get("NAMESPACE_BROKER_RUNTIME_DIR"):
        yield named
    yield locations.user_dir(environ, uid)
    yield locations.SYSTEM_RUNTIME_DIR


def believed_uids(directory: str, uid: int) -> frozenset[int]:
    """Return the users whose broker in *directory* is believed: us, root, and the service's.

    The service's user is the owner of a directory that only root can have placed: one whose parent
    is root's and writable by root alone.

    Raises:
        OSError: There is no such directory.
        UntrustedDirectory: It is another user's, or anybody could have made it.
    """
    if directory == locations.temporary_dir(os.environ, uid):
        locations.require_owned(directory, uid, forbidden=0o077)
    place = os.path.realpath(directory)
    owner = os.stat(place).st_uid
    parent = os.stat(os.path.dirname(place))
    if parent.st_uid == 0 and not parent.st_mode & 0o022:
        return frozenset({uid, 0, owner})
    if owner not in (uid, 0):
        raise another_users(owner)
    return frozenset({uid, 0})


def another_users(owner: int) -> locations.UntrustedDirectory:
    return locations.UntrustedDirectory(f"uid {owner}'s, not yours, root's or the service's")


def endpoints_in(directory: str) -> Mapping[str, Any]:
    """Return a broker's ``endpoints.json`` in that directory.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: The file is damaged.
    """
    with open(os.path.join(directory, locations.ENDPOINTS_FILE), "rb") as file:
        endpoints = json.loads(file.read(LARGEST_BYTES))
    if not isinstance(endpoints, dict) or not isinstance(endpoints.get("roles"), list):
        raise ValueError
    return endpoints


def connected(
    endpoints: Mapping[str, Any], limit_s: float, believed: frozenset[int]
) -> socket.socket:
    """Return a connection to the control socket.

    Raises:
        OSError: Nothing listens there, or it is not for this user.
        ValueError: The file names no socket.
        UntrustedDirectory: A user who is not *believed* listens there.
    """
    control = endpoints.get("control")
    if not isinstance(control, str):
        raise ValueError
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A blocking connect waits in the kernel where the queue is full; one with a timeout of
        # Python's fails at once with EAGAIN.
        limit = struct.pack("ll", int(limit_s), int(limit_s % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(control)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
        _, listener, _ = PEER.unpack(peer)
        if listener not in believed:
            raise another_users(listener)
    except BaseException:
        connection.close()
        raise
    return connection


def reason(trouble: Exception) -> str:
    """Return why the broker in a directory is not used, in a few words."""
    if isinstance(trouble, FileNotFoundError):
        return "nothing there"
    if isinstance(trouble, ConnectionRefusedError):
        return "ended without cleaning up"
    if isinstance(trouble, PermissionError):
        return "not for this user"
    if isinstance(trouble, OSError):
        return trouble.strerror or str(trouble)
    if isinstance(trouble, locations.UntrustedDirectory):
        return str(trouble)
    return "its endpoints.json is damaged"


def quoted(text: str) -> str:
    """Return *text* percent-encoded for a query."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if octet in plain else f"%{octet:02X}" for octet in octets)


def exchange(
    connection: socket.socket, target: str, deadline: float
) -> tuple[int, Mapping[str, Any]]:
    """Return the status and JSON object of one GET; *deadline* is of the monotonic clock.

    Raises:
        Failure: No proper answer until then.
    """
    try:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        head, body = received_head(connection, deadline)
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        length = content_length(lines[1:])
        while len(body) < length:
            body += received(connection, deadline)
        document = json.loads(body[:length])
        if not isinstance(document, dict):
            raise ValueError
    except TimeoutError as error:
        raise unanswered() from error
    except (OSError, ValueError, IndexError) as error:
        raise Failure(
            "control socket", "the broker gave no proper answer", "try again; see its log"
        ) from error
    return status, document


def unanswered() -> Failure:
    return Failure("control socket", "the broker does not answer", "is it stopped or overloaded?")


def received_head(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(connection, deadline)
        if len(data) > LARGEST_BYTES:
            raise ValueError
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def content_length(lines: list[bytes]) -> int:
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
            if 0 <= length <= LARGEST_BYTES:
                return length
    raise ValueError


def received(connection: socket.socket, deadline: float) -> bytes:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.settimeout(left_s)
    data = connection.recv(65536)
    if not data:
        raise ConnectionError
    return data


def client_of(options: Options) -> Mapping[str, Any]:
    """Return what this caller needs to use the running broker (``/v1/client``).

    Raises:
        NotRunning, Failure: None runs; or it refuses this caller.
    """
    role = options.text("role")
    reply = ask("/v1/client", options.text("runtime-dir"), {"role": role})
    if reply.status != 200:
        raise denied(reply, role)
    return reply.document


def credentials_for(options: Options) -> tuple[Mapping[str, Any], str | None]:
    """Return credentials as the container document, and the configured region, if any.

    With ``--role-arn`` no running broker is asked.

    Raises:
        NotRunning: None runs, and nothing says which role to obtain without one.
        Misuse, Failure: Wrong use; or the credentials cannot be obtained.
    """
    if options.text("role-arn") is not None:
        return once(options)
    try:
        return held(options)
    except NotRunning as not_running:
        return once(options, or_else=not_running)


def held(options: Options) -> tuple[Mapping[str, Any], str | None]:
    runtime_dir, role = options.text("runtime-dir"), options.text("role")
    reply = ask("/v1/credentials", runtime_dir, {"role": role})
    if reply.status != 200:
        raise denied(reply, role) if reply.roles else no_roles()
    return reply.document, None


def denied(reply: Reply, role: str | None) -> Failure:
    """Return the broker's refusal as an error of the command."""
    if role is not None and role not in reply.roles:
        return unknown_role(role, reply)
    if reply.status == 403:
        return no_access("" if role is None else f" to role {role}")
    place = "--role" if role is not None else "credentials"
    return Failure(place, reply.message, "see namespace-broker status")


def no_access(to: str = "") -> Failure:
    """Return the refusal of this user, and how an administrator lifts it."""
    import pwd

    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        admit = f"an administrator can add a rule with who = {{ uid = {uid} }}"
        return Failure("", f"uid {uid} has no access{to}", admit)
    command = f"namespace-broker install --allow user:{name} --role-arn ARN"
    what = f"{name} (uid {uid}) has no access{to}"
    return Failure("", what, f"an administrator can run: {command}")


def no_roles() -> Failure:
    return Failure(
        "credentials",
        "the broker has no roles, only tokens",
        "name a role in its configuration",
    )


def unknown_role(role: str, reply: Reply) -> Failure:
    if not reply.roles:
        return no_roles()
    return Misuse(
        "--role", f"the broker has no role {role}", f"its roles are {', '.join(reply.roles)}"
    )


def once(
    options: Options, *, or_else: NotRunning | None = None
) -> tuple[Mapping[str, Any], str | None]:
    # Expensive imports, needed only where no broker runs.
    from broker.cli.offline import misuse, obtained_once
    from broker.config import NoRole

    try:
        return obtained_once(options)
    except NoRole as error:
        raise or_else or misuse(error) from error
