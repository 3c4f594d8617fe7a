"""Addresses are bound, or the error says why not."""

import errno
import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from broker.http.bind import (
    AddressForbidden,
    AddressInUse,
    AddressLacking,
    ListenError,
    bind,
    bind_unix,
    hops_allowed,
    keep_to_device,
    listen,
    unlink_own,
)

NOWHERE = "192.0.2.254"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_bound_socket_does_not_listen_yet(host: str) -> None:
    with bind(host, 0) as sock, socket.socket(sock.family) as client:
        assert client.connect_ex(sock.getsockname()) != 0

        listen(sock)
        assert client.connect_ex(sock.getsockname()) == 0


def test_a_port_in_use_says_who_has_it() -> None:
    with bind("127.0.0.1", 0) as taken:
        listen(taken)
        port = taken.getsockname()[1]

        with pytest.raises(AddressInUse) as caught:
            bind("127.0.0.1", port)

    text = str(caught.value)
    assert text.startswith(f"127.0.0.1:{port} is in use by ")
    assert f"(pid {os.getpid()}, uid {os.getuid()})" in text
    assert text.endswith(", this broker itself; leave it in one reload and take it in the next")


def test_an_ipv6_port_in_use_says_who_has_it() -> None:
    with bind("::1", 0) as taken:
        listen(taken)
        port = taken.getsockname()[1]

        with pytest.raises(AddressInUse, match=rf"^\[::1\]:{port} is .*pid {os.getpid()}\b"):
            bind("::1", port)


def test_who_has_the_port_on_every_address_is_named() -> None:
    with bind("0.0.0.0", 0) as taken:
        listen(taken)

        with pytest.raises(AddressInUse, match=rf"pid {os.getpid()}\b"):
            bind("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_host_is_lacking() -> None:
    with pytest.raises(AddressLacking, match=rf"^{NOWHERE}:80 is not an address of this host; "):
        bind(NOWHERE, 80)


def test_without_descriptors_left_no_address_is_taken_for_lacking() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(ListenError, match="Too many open files") as caught:
            bind("127.0.0.1", 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert not isinstance(caught.value, AddressLacking)


def test_what_is_no_address_is_lacking() -> None:
    with pytest.raises(AddressLacking, match="write one such as"):
        bind("no-such-name", 80)


@pytest.mark.parametrize(
    ("host", "level", "option"),
    [
        ("127.0.0.1", socket.IPPROTO_IP, socket.IP_TTL),
        ("::1", socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
    ],
)
def test_answers_may_be_kept_from_passing_routers(host: str, level: int, option: int) -> None:
    with bind(host, 0, hop_limit=1) as sock:
        assert sock.getsockopt(level, option) == 1


@pytest.mark.parametrize(
    ("host", "hop_limit", "hops"),
    [
        ("169.254.169.254", None, 1),
        ("fe80::1", None, 1),
        ("fe80::1%lo", None, 1),
        ("169.254.169.254", 2, 2),
        ("127.0.0.1", None, None),
        ("127.0.0.1", 3, 3),
        ("fd00:ec2::254", None, None),
    ],
)
def test_answers_from_a_link_local_address_stay_on_the_link_unless_told_otherwise(
    host: str, hop_limit: int | None, hops: int | None
) -> None:
    assert hops_allowed(host, hop_limit) == hops


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_socket_may_be_kept_to_one_device(host: str) -> None:
    with bind(host, 0, device="lo") as sock, socket.socket(sock.family) as client:
        listen(sock)
        client.connect(("127.0.0.1" if host == "0.0.0.0" else host, sock.getsockname()[1]))

        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b"lo\0"


class OfAnOldKernel(socket.socket):
    """A socket of whom Linux before 5.7 lets only root keep to a device."""

    def setsockopt(self, *_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_where_only_root_may_keep_sockets_to_a_device_loopback_does_without() -> None:
    with OfAnOldKernel() as sock:
        keep_to_device(sock, "lo", host="127.0.0.1", port=8170)

        assert sock.fileno() >= 0


def test_where_only_root_may_keep_sockets_to_a_device_a_link_local_address_is_refused() -> None:
    with OfAnOldKernel() as sock, pytest.raises(AddressForbidden, match="CAP_NET_RAW"):
        keep_to_device(sock, "lo", host="169.254.169.254", port=80)


def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(
        AddressLacking, match=r"^127.0.0.1:0 cannot be kept to the device none7 \(.*ip link"
    ):
        bind("127.0.0.1", 0, device="none7")


def test_an_ipv6_socket_leaves_ipv4_alone() -> None:
    with bind("::", 0) as wide, bind("0.0.0.0", wide.getsockname()[1]) as narrow:
        listen(wide)
        listen(narrow)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_unix_socket_has_the_permissions_that_were_asked_for(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "broker.sock"

    with bind_unix(path, mode=mode):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_unix_socket_that_nobody_answers_at_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    with bind_unix(path, mode=0o600) as dead:
        listen(dead)

    with bind_unix(path, mode=0o600) as sock, socket.socket(socket.AF_UNIX) as client:
        listen(sock)
        client.connect(str(path))


def test_a_unix_socket_that_somebody_answers_at_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    with bind_unix(path, mode=0o600) as live:
        listen(live)

        with pytest.raises(AddressInUse, match=rf"pid {os.getpid()}, uid {os.getuid()}"):
            bind_unix(path, mode=0o600)

        assert path.exists()


def test_the_file_of_a_socket_is_removed_by_who_made_it_and_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    bind_unix(path, mode=0o600).close()
    first = path.lstat()
    bind_unix(path, mode=0o600).close()
    second = path.lstat()

    unlink_own(path, first)
    assert path.exists()

    unlink_own(path, second)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    path.write_text("mine")

    with pytest.raises(AddressInUse, match="is no socket; move it away"):
        bind_unix(path, mode=0o600)

    assert path.read_text() == "mine"


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AddressForbidden, match=r"No such file or directory.*another directory"):
        bind_unix(tmp_path / "none" / "broker.sock", mode=0o600)


def test_a_path_too_long_for_a_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(AddressForbidden, match=r"too long.*another directory"):
        bind_unix(tmp_path / ("x" * 120), mode=0o600)
