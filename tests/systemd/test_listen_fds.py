"""Sockets that systemd hands down are taken, checked, and not passed on."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from broker.systemd import Inherited, NotServable, device_of, take_inherited
from broker.systemd.fdstore import sealed
from tests.support.systemd_socket import in_a_row

PID = 4242

Hand = Callable[["Handed", Path], None]


@pytest.fixture
def handed() -> Iterator["Handed"]:
    with ExitStack() as stack:
        yield Handed(stack)


class Handed:
    """Descriptors to be handed down, under names."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._descriptors: list[int] = []
        self._names: list[str] = []
        self.environ: dict[str, str] = {}

    def add(self, name: str, sock: socket.socket) -> None:
        self.descriptor(name, sock.detach())

    def descriptor(self, name: str, descriptor: int) -> None:
        self._descriptors.append(descriptor)
        self._names.append(name)

    def listening(self, name: str, family: int = socket.AF_INET, at: str = "127.0.0.1") -> None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.bind((at, 0) if family != socket.AF_UNIX else at)
        sock.listen()
        self.add(name, sock)

    def taken(self, **instead: str) -> Inherited:
        first = in_a_row(self._descriptors)
        self.environ = {
            "PATH": "/bin",
            "LISTEN_PID": str(PID),
            "LISTEN_FDS": str(len(self._descriptors)),
            "LISTEN_FDNAMES": ":".join(self._names),
            **instead,
        }
        try:
            found = take_inherited(self.environ, PID, first=first)
        except NotServable:
            for index in range(len(self._descriptors)):
                with suppress(OSError):
                    os.close(first + index)
            raise
        for sock in found.of("imds", "container", "namespace", "ops", "control"):
            self._stack.callback(sock.close)
        return found


def test_each_socket_is_found_by_its_name(handed: Handed, tmp_path: Path) -> None:
    handed.listening("imds")
    handed.listening("imds", socket.AF_INET6, "::1")
    handed.listening("control", socket.AF_UNIX, str(tmp_path / "s"))

    found = handed.taken()

    assert [sock.family for sock in found.of("imds")] == [socket.AF_INET, socket.AF_INET6]
    assert found.of("control")[0].getsockname() == str(tmp_path / "s")
    assert found.of("ops") == ()
    assert found.warnings == ()


def test_what_is_for_us_is_neither_a_childs_to_inherit_nor_to_hear_of(handed: Handed) -> None:
    handed.listening("imds")

    (sock,) = handed.taken().of("imds")

    assert handed.environ == {"PATH": "/bin"}
    assert not sock.get_inheritable()


@pytest.mark.parametrize("pid", ["1", "", "x", f"0{PID}"])
def test_what_is_another_processs_is_left(pid: str) -> None:
    environ = {"LISTEN_PID": pid, "LISTEN_FDS": "7", "LISTEN_FDNAMES": "imds"}

    assert take_inherited(environ, PID).sockets == {}
    assert environ == {}


def test_an_unknown_name_is_closed_with_a_warning(handed: Handed) -> None:
    theirs, ours = socket.socketpair()
    handed.add("connection", ours)

    with theirs:
        found = handed.taken()

        assert theirs.recv(1) == b""
    (warning,) = found.warnings
    assert "'connection'" in warning
    assert "FileDescriptorName=" in warning


def test_what_was_stored_is_read_from_its_beginning(handed: Handed) -> None:
    document = sealed(b"a secret")
    os.lseek(document, 0, os.SEEK_END)
    handed.descriptor("leases-a", document)

    found = handed.taken()

    assert found.kept == {"leases-a": b"a secret"}
    assert "a secret" not in repr(found)


def test_a_stored_descriptor_that_is_no_file_is_a_warning(handed: Handed) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    handed.descriptor("leases-b", reading)

    found = handed.taken()

    assert found.kept == {}
    assert "leases-b" in found.warnings[0]


def _datagrams(handed: Handed, folder: Path) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    handed.add("imds", sock)


def _not_listening(handed: Handed, folder: Path) -> None:
    handed.add("container", socket.socket())


def _no_socket(handed: Handed, folder: Path) -> None:
    handed.descriptor("ops", os.open(os.devnull, os.O_RDONLY))


def _control_by_tcp(handed: Handed, folder: Path) -> None:
    handed.listening("control")


def _control_without_a_path(handed: Handed, folder: Path) -> None:
    handed.listening("control", socket.AF_UNIX, f"\0{folder}")


def _imds_at_a_path(handed: Handed, folder: Path) -> None:
    handed.listening("imds", socket.AF_UNIX, str(folder / "s"))


def _two_controls(handed: Handed, folder: Path) -> None:
    handed.listening("control", socket.AF_UNIX, str(folder / "s"))
    handed.listening("control", socket.AF_UNIX, str(folder / "t"))


@pytest.mark.parametrize(
    ("hand", "why"),
    [
        (_datagrams, "imds: .* not a stream socket"),
        (_not_listening, "container: .* does not listen"),
        (_no_socket, "ops: .* is not a socket"),
        (_control_by_tcp, "control: .* wrong family"),
        (_control_without_a_path, "control: .* no path"),
        (_imds_at_a_path, "imds: .* wrong family"),
        (_two_controls, "control: .* several"),
    ],
)
def test_what_cannot_be_served_on_is_refused_in_one_line(
    handed: Handed, tmp_path: Path, hand: Hand, why: str
) -> None:
    hand(handed, tmp_path)

    with pytest.raises(NotServable, match=why) as refused:
        handed.taken()

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("count", ["", "-1", "x", "500", "9" * 5000])
def test_a_number_that_systemd_never_wrote_is_refused(handed: Handed, count: str) -> None:
    with pytest.raises(NotServable, match="LISTEN_FDS"):
        handed.taken(LISTEN_FDS=count)


def test_a_listener_says_which_device_it_is_kept_to() -> None:
    with socket.socket() as everywhere, socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")

        assert (device_of(everywhere), device_of(kept)) == (None, "lo")


def test_nothing_heavy_is_imported_for_it() -> None:
    program = """
import sys, broker.systemd, broker.daemon.handover
print([name for name in ("aiohttp", "msgspec", "botocore") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert shown.stdout == b"[]\n"
