"""What else is known of a caller, and when an address identifies it."""

import os
import socket
from ipaddress import ip_address

import pytest

from broker.access.caller import Caller
from broker.access.peer import Peers, may_be_local, unix_caller, unix_caller_located
from broker.access.process import location_of_process


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("192.0.2.7", False),
        ("2001:db8::7", False),
    ],
)
def test_an_address_is_ours_where_a_program_here_could_have_it(address: str, ours: bool) -> None:
    assert may_be_local(ip_address(address), 0) is ours


def test_a_client_that_has_gone_is_not_known_by_an_address_of_this_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Peers() as peers:
        client = socket.create_connection(listener.getsockname())
        accepted, peer = listener.accept()
        client.close()
        with accepted:
            caller = peers.tcp_caller(local=accepted.getsockname(), peer=peer)

    assert caller == Caller(address="127.0.0.1")


def test_the_socket_by_which_a_process_can_be_found_is_the_clients() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Peers() as peers,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, peer = listener.accept()
        with accepted:
            caller = peers.tcp_caller(local=accepted.getsockname(), peer=peer)

        assert caller.inode == os.fstat(client.fileno()).st_ino


def test_the_client_of_a_unix_socket_is_where_its_process_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)

    with ours, theirs:
        caller = unix_caller_located(ours, unix_caller(ours))

    place = location_of_process(os.getpid())
    assert (caller.uid, caller.pid) == (os.getuid(), os.getpid())
    assert caller.unit in (place.unit, None)


def test_an_unknown_caller_has_no_cgroup_location() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)

    with ours, theirs:
        caller = unix_caller_located(ours, Caller(pid=os.getpid()))

    assert caller == Caller(pid=os.getpid())
