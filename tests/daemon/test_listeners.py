"""Which configured addresses a socket of systemd's stands for, and who may reach it."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest

from broker.config import Address
from broker.daemon.errors import CannotStart
from broker.daemon.listeners import Sockets, covers, hosts_of, is_reachable, sockets_of
from broker.daemon.runtime import Runtime
from broker.systemd import Inherited
from tests.support.config import ROLE, Given


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


def opened(
    tmp_path: Path, stack: AsyncExitStack, *, container: str = "127.0.0.1:0", ipv6: bool = False
) -> Sockets:
    addresses = '["127.0.0.1:0", "[::1]:0"]' if ipv6 else '["127.0.0.1:0"]'
    text = f"{ROLE}[imds]\nlisten = {addresses}\n[ops]\nlisten = {addresses}\n"
    config = Given(tmp_path).load(f'{text}[container]\nlisten = ["{container}"]\n')
    return sockets_of(config, Runtime(environ={}), stack)


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_nobody_else_can_listen_on_a_port_of_ours_from_the_start(
    tmp_path: Path, closing: AsyncExitStack
) -> None:
    (tmp_path / "namespace-broker").mkdir()

    sockets = opened(tmp_path, closing, ipv6=socket.has_ipv6)

    assert sockets.control.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    for sock in (*sockets.imds, *sockets.container, *sockets.ops):
        with socket.socket(sock.family) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(sock.getsockname())


LISTEN = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.create_server(("127.0.0.1", 0)) as sock:
    print(sock.getsockname()[1], flush=True)
    input()
"""


@contextmanager
def listener_of(uid: int) -> Iterator[int]:
    """Have a program of that user listen on a port for the block."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LISTEN, str(uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        yield int(program.stdout.readline())
        program.stdin.close()


@pytest.mark.as_root
async def test_a_container_token_that_another_user_may_have_been_sent_is_replaced(
    tmp_path: Path, closing: AsyncExitStack
) -> None:
    token = tmp_path / "namespace-broker" / "container-token"
    token.parent.mkdir()
    token.write_text("t" * 43)

    with listener_of(4242) as port, pytest.raises(CannotStart, match="was replaced") as error:
        opened(tmp_path, closing, container=f"127.0.0.1:{port}")

    assert "uid 4242" in str(error.value)
    assert token.read_text() not in ("", "t" * 43)


async def test_a_container_token_stays_while_a_broker_of_our_own_has_the_port(
    tmp_path: Path, closing: AsyncExitStack
) -> None:
    token = tmp_path / "namespace-broker" / "container-token"
    token.parent.mkdir()
    token.write_text("t" * 43)

    with listener_of(os.geteuid()) as port, pytest.raises(CannotStart):
        opened(tmp_path, closing, container=f"127.0.0.1:{port}")

    assert token.read_text() == "t" * 43
