"""Who is connected, as the kernel says."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.caller import INVALID_ID, Caller
from broker.access.peer import (
    ESTABLISHED,
    Owner,
    Peers,
    identity_problems,
    netlink_problem,
    owner_in,
    unix_caller,
)

HERE, THERE = (ip_address("127.0.0.1"), 80), (ip_address("127.0.0.1"), 40000)


@contextmanager
def connected(
    server_family: int, address: str, client_family: int, target: str
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the server's end and the client's of a connection on loopback."""
    with socket.socket(server_family) as listener:
        if server_family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        listener.listen()
        with socket.socket(client_family) as client:
            client.connect((target, listener.getsockname()[1]))
            with listener.accept()[0] as accepted:
                yield accepted, client


def client_at(family: int, address: str, port: int = 0) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


def caller_at(accepted: socket.socket) -> Caller:
    with Peers() as peers:
        return peers.tcp_caller(local=accepted.getsockname(), peer=accepted.getpeername())


@pytest.mark.parametrize(
    ("server_family", "address", "client_family", "target", "seen"),
    [
        pytest.param(
            socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1", "127.0.0.1", id="v4"
        ),
        pytest.param(socket.AF_INET6, "::1", socket.AF_INET6, "::1", "::1", id="v6"),
        pytest.param(
            socket.AF_INET6, "::", socket.AF_INET, "127.0.0.1", "127.0.0.1", id="v4 to v6 socket"
        ),
        pytest.param(
            socket.AF_INET6,
            "::",
            socket.AF_INET6,
            "::ffff:127.0.0.1",
            "127.0.0.1",
            id="both v4-mapped",
        ),
        pytest.param(
            socket.AF_INET,
            "127.0.0.1",
            socket.AF_INET6,
            "::ffff:127.0.0.1",
            "127.0.0.1",
            id="v4-mapped client",
        ),
    ],
)
def test_a_client_on_this_host_has_its_uid_and_cgroup(
    server_family: int, address: str, client_family: int, target: str, seen: str
) -> None:
    with connected(server_family, address, client_family, target) as (accepted, _):
        caller = caller_at(accepted)

    assert (caller.uid, caller.address) == (os.getuid(), seen)
    assert caller.cgroup_id is None or Path("/sys/fs/cgroup").exists()


def test_a_client_that_holds_to_the_loopback_device_is_known_too() -> None:
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            caller = caller_at(accepted)

    assert caller.uid == os.getuid()


def test_a_client_that_has_closed_already_is_unknown() -> None:
    with connected(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1") as (accepted, client):
        peer = accepted.getpeername()
        client.close()
        with Peers() as peers:
            caller = peers.tcp_caller(local=accepted.getsockname(), peer=peer)

    assert caller == Caller(address="127.0.0.1")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_that_was_reset_has_no_caller(family: socket.AddressFamily) -> None:
    """Its port may be another process's by now, whom the kernel would name."""
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        socket.create_server((address, 0), family=family) as listener,
        client_at(family, address) as client,
    ):
        client.connect(listener.getsockname())
        port = client.getsockname()[1]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with client_at(family, address, port) as other, Peers() as peers:
            other.connect(listener.getsockname())
            first, peer = listener.accept()
            with first:
                assert peer[1] == port
                assert peers.tcp_caller(local=first.getsockname(), peer=peer).uid == os.getuid()
                assert peers.caller_of(first, peer) is None


def test_a_client_that_only_stops_sending_is_known() -> None:
    with connected(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1") as (accepted, client):
        client.shutdown(socket.SHUT_WR)
        with Peers() as peers:
            caller = peers.caller_of(accepted, accepted.getpeername())

    assert caller is not None
    assert caller.uid == os.getuid()


def test_a_client_of_another_host_is_only_an_address() -> None:
    with Peers() as peers:
        caller = peers.tcp_caller(local=("127.0.0.1", 80), peer=("192.0.2.7", 40000))

    assert caller == Caller(address="192.0.2.7", is_remote=True)


def test_a_bystander_that_listens_on_the_clients_port_is_not_taken_for_it() -> None:
    """The kernel answers for a listening socket when there is no connected one."""
    with socket.socket() as bystander, Peers() as peers:
        bystander.bind(("0.0.0.0", 0))
        bystander.listen()
        port = bystander.getsockname()[1]

        caller = peers.tcp_caller(local=("127.0.0.1", 80), peer=("127.0.0.1", port))

    assert caller == Caller(address="127.0.0.1")


def test_many_are_asked_about_over_one_socket() -> None:
    with (
        connected(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1") as (accepted, _),
        Peers() as peers,
    ):
        asked = {
            peers.tcp_caller(local=accepted.getsockname(), peer=accepted.getpeername()).uid
            for _ in range(1000)
        }

    assert asked == {os.getuid()}


def test_the_client_of_a_unix_socket_has_pid_uid_and_gid() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)

    with ours, theirs:
        assert unix_caller(ours) == Caller(pid=os.getpid(), uid=os.getuid(), gid=os.getgid())


def test_the_kernel_can_be_asked_here() -> None:
    assert netlink_problem() is None
    assert list(identity_problems()) == []


def answer(
    *,
    uid: int = 1000,
    inode: int = 7,
    ports: tuple[int, int] = (40000, 80),
    cgroup: int = 99,
    state: int = ESTABLISHED,
) -> bytes:
    """Return what the kernel sends about a connection from `THERE` to `HERE`."""
    loopback = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    return (
        struct.pack("=IHHII", 0, 20, 0, 1, 0)
        + struct.pack("=BBBB", socket.AF_INET, state, 0, 0)
        + struct.pack("!HH", *ports)
        + loopback * 2
        + struct.pack("=III", 0, 0, 0)
        + struct.pack("=III", 0, 0, 0)
        + struct.pack("=II", uid, inode)
        + struct.pack("=HHI", 8, 8, 1)
        + struct.pack("=HHQ", 12, 21, cgroup)
    )


def test_an_answer_gives_uid_and_cgroup() -> None:
    assert owner_in(answer(), client=THERE, server=HERE) == Owner(1000, 99, 7)


def test_root_is_believed_while_the_socket_is_held() -> None:
    assert owner_in(answer(uid=0), client=THERE, server=HERE) == Owner(0, 99, 7)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(answer(inode=0), id="the client let go of it"),
        pytest.param(answer(uid=INVALID_ID), id="no uid"),
        pytest.param(answer(state=2), id="a client that is only connecting"),
        pytest.param(answer(state=10), id="a listening socket by its state"),
        pytest.param(answer(ports=(40000, 0)), id="a listening socket"),
        pytest.param(answer(ports=(40001, 80)), id="another connection"),
        pytest.param(answer()[:40], id="cut off"),
    ],
)
def test_an_answer_that_is_not_about_this_client_is_none(said: bytes) -> None:
    assert owner_in(said, client=THERE, server=HERE) is None


@given(st.binary(max_size=60))
def test_attributes_of_any_form_are_read_without_failing(tail: bytes) -> None:
    assert owner_in(answer()[:88] + tail, client=THERE, server=HERE) is not None
