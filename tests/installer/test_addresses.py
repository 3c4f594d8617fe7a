"""EC2's addresses are added to the loopback device where missing, and only those removed."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.installer.addresses import CannotAdd, add, answers, remove

V4, V6 = "169.254.169.254/32", "fd00:ec2::254/128"


class FakeDevice:
    """What ``ip`` does to a device: it has addresses, and takes those that it does not refuse."""

    def __init__(self, *addresses: str, refuses: str | None = None) -> None:
        self.addresses = set(addresses)
        self._refuses = refuses

    def ip(self, words: Sequence[str]) -> str | None:
        _, verb, address, *_ = words
        if verb == "del":
            if address not in self.addresses:
                return "RTNETLINK answers: Cannot assign requested address"
            self.addresses.remove(address)
            return None
        if address == self._refuses:
            return "RTNETLINK answers: Permission denied"
        if address in self.addresses:
            return "RTNETLINK answers: File exists"
        self.addresses.add(address)
        return None


def added(folder: Path, device: FakeDevice) -> list[str]:
    warnings: list[str] = []
    add(folder, run=device.ip, warn=warnings.append)
    return warnings


def test_both_are_added_and_taken_away(tmp_path: Path) -> None:
    device = FakeDevice()

    assert added(tmp_path, device) == []
    assert device.addresses == {V4, V6}
    remove(tmp_path, run=device.ip)

    assert device.addresses == set()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    device = FakeDevice(V4)

    added(tmp_path, device)
    remove(tmp_path, run=device.ip)

    assert device.addresses == {V4}


def test_a_host_without_ipv6_is_a_warning(tmp_path: Path) -> None:
    device = FakeDevice(refuses=V6)

    (warning,) = added(tmp_path, device)

    assert "fd00:ec2::254 is not served" in warning
    assert device.addresses == {V4}


def test_without_the_first_there_is_nothing_to_serve(tmp_path: Path) -> None:
    with pytest.raises(CannotAdd, match=r"169\.254\.169\.254: .*Permission denied"):
        added(tmp_path, FakeDevice(refuses=V4))


def test_what_somebody_else_took_away_is_no_trouble(tmp_path: Path) -> None:
    device = FakeDevice()
    added(tmp_path, device)
    device.addresses.clear()

    remove(tmp_path, run=device.ip)
    remove(tmp_path, run=device.ip)

    assert device.addresses == set()


def test_whoever_takes_connections_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        assert answers("127.0.0.1", port=port)

    assert not answers("127.0.0.1", port=port)
