"""Which configured addresses a socket of systemd's stands for, and who gets to it."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from broker.config import Address
from broker.daemon.listeners import covers, hosts_of, is_reachable
from broker.systemd import Inherited


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, host: str, *, v6only: bool = True) -> tuple[socket.socket, int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((host, 0))
    sock.listen()
    return sock, sock.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "wanted", "covered"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "169.254.170.2", True),
        ("0.0.0.0", "::1", False),
        ("::1", "::1", True),
        ("::1", "127.0.0.1", False),
        ("::", "fd00:ec2::254", True),
        ("::", "127.0.0.1", False),
    ],
)
def test_a_socket_covers_its_own_address_and_any_address_all(
    stack: ExitStack, host: str, wanted: str, covered: bool
) -> None:
    sock, port = listening(stack, host)

    assert covers(sock, Address(wanted, port)) is covered
    assert not covers(sock, Address(wanted, port + 1))


def test_both_families_by_one_socket_where_that_is_so(stack: ExitStack) -> None:
    sock, port = listening(stack, "::", v6only=False)

    assert covers(sock, Address("127.0.0.1", port))


@pytest.mark.parametrize(
    ("host", "device", "reachable"),
    [
        ("169.254.169.254", None, True),
        ("169.254.169.254", "eth0", True),
        ("169.254.169.254", "lo", False),
        ("fd00:ec2::254", None, True),
        ("127.0.0.1", None, False),
        ("10.0.0.1", None, False),
        ("fe80::1%lo", None, False),
    ],
)
def test_a_metadata_address_is_a_neighbours_too_unless_it_is_kept_to_lo(
    host: str, device: str | None, reachable: bool
) -> None:
    assert is_reachable(host, device=device) is reachable


def test_who_asks_by_an_address_of_systemds_asks_us(stack: ExitStack) -> None:
    sock, _ = listening(stack, "127.0.0.7")

    assert hosts_of(Inherited(sockets={"container": (sock,)})) == ["127.0.0.7"]
