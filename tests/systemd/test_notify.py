"""Messages to systemd are in its own words, in order, and never delay or fail the broker."""

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.systemd import Notifier
from broker.systemd.fdstore import sealed
from broker.systemd.notify import UNSENT_MOST
from tests.support.systemd_socket import Heard, hearing


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    with hearing(tmp_path / "notify") as heard:
        yield heard


@pytest.fixture
def notifier(heard: Heard, tmp_path: Path) -> Iterator[Notifier]:
    notifier = Notifier(str(tmp_path / "notify"), watchdog_s=30)
    yield notifier
    notifier.close()


def test_each_thing_is_said_in_systemds_words(notifier: Notifier, heard: Heard) -> None:
    notifier.ready("serving")
    notifier.status("well")
    notifier.reloading()
    notifier.watchdog()
    notifier.stopping("leaving")

    said = heard.all()
    assert said[:2] == ["READY=1\nSTATUS=serving", "STATUS=well"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", said[2])
    assert said[3:] == ["WATCHDOG=1", "STOPPING=1\nSTATUS=leaving"]


def test_a_status_is_one_line_whatever_it_is_made_of(notifier: Notifier, heard: Heard) -> None:
    notifier.status("one\nREADY=1\n" + "x" * 1000)

    (said,) = heard.all()
    assert "\n" not in said
    assert len(said) < 400


def test_an_abstract_address_is_reached_too() -> None:
    name = f"namespace-broker-test-{os.getpid()}"
    with hearing(f"\0{name}") as heard:
        notifier = Notifier(f"@{name}")
        notifier.status("well")
        notifier.close()

        assert heard.all() == ["STATUS=well"]


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_systemd_nothing_is_said(address: str | None) -> None:
    notifier = Notifier(address)

    notifier.ready("serving")
    notifier.store(0, "leases-a")

    assert not notifier.is_connected


def test_a_systemd_that_has_gone_is_no_error(notifier: Notifier, heard: Heard) -> None:
    heard.close()

    notifier.ready("serving")
    notifier.watchdog()


def test_what_there_is_no_room_for_is_said_later_in_its_order(
    notifier: Notifier, heard: Heard
) -> None:
    fill(notifier, heard)
    notifier.ready("serving")
    document = sealed(b"a secret")
    notifier.store(document, "leases-a")
    os.close(document)
    before = heard.all()

    notifier.watchdog()

    assert not any("READY=1" in said for said in before)
    after = [said for said in heard.all() if said != "STATUS=filling"]
    assert after == [
        "READY=1\nSTATUS=serving",
        "FDSTORE=1\nFDNAME=leases-a\nFDPOLL=0",
        "WATCHDOG=1",
    ]
    assert heard.documents == {"leases-a": b"a secret"}


def fill(notifier: Notifier, heard: Heard) -> None:
    """Say things until there is no room for more in the socket."""
    while not notifier.has_unsent:
        notifier.status("filling")


def test_of_what_never_finds_room_the_oldest_is_forgotten(notifier: Notifier, heard: Heard) -> None:
    fill(notifier, heard)

    for index in range(2 * UNSENT_MOST):
        notifier.status(f"number {index}")
    heard.all()

    said = []
    while notifier.has_unsent:
        notifier.flush()
        said += heard.all()
    assert len(said) == UNSENT_MOST
    assert said[-1] == f"STATUS=number {2 * UNSENT_MOST - 1}"


def test_a_descriptor_that_can_be_neither_sent_nor_kept_for_later_is_an_error(
    notifier: Notifier, heard: Heard
) -> None:
    fill(notifier, heard)
    document = sealed(b"a secret")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            notifier.store(document, "leases-b")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(document)


def test_what_is_about_a_descriptor_is_not_forgotten_for_what_is_not(
    notifier: Notifier, heard: Heard
) -> None:
    fill(notifier, heard)
    document = sealed(b"a secret")
    notifier.store(document, "leases-b")
    os.close(document)
    notifier.unstore("leases-a")
    heard.documents["leases-a"] = b"an old secret"

    for index in range(2 * UNSENT_MOST):
        notifier.status(f"number {index}")
    heard.all()

    while notifier.has_unsent:
        notifier.flush()
        heard.all()
    assert heard.documents == {"leases-b": b"a secret"}


def test_the_variables_are_this_processs_alone() -> None:
    environ = {
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "42",
        "PATH": "/bin",
    }

    notifier = Notifier.from_environment(environ, 42)

    assert environ == {"PATH": "/bin"}
    assert notifier.watchdog_s == 30
    notifier.close()


@pytest.mark.parametrize(
    "said",
    [
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "9" * 400},
        {"WATCHDOG_PID": "42"},
        {},
    ],
)
def test_no_watchdog_that_is_not_ours(said: dict[str, str]) -> None:
    assert Notifier.from_environment(dict(said), 42).watchdog_s is None
