"""One sealed document is kept with systemd, and there is no moment without one."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.systemd import Notifier, Store
from broker.systemd.fdstore import LEASES, SEALS, content_of, sealed
from tests.support.systemd_socket import Heard, hearing


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    with hearing(tmp_path / "notify") as heard:
        yield heard


@pytest.fixture
def notifier(heard: Heard, tmp_path: Path) -> Iterator[Notifier]:
    notifier = Notifier(str(tmp_path / "notify"))
    yield notifier
    notifier.close()


def test_the_new_document_is_there_before_the_old_one_goes(
    notifier: Notifier, heard: Heard
) -> None:
    store = Store(notifier)

    for document in (b"first", b"second", b"third"):
        store.put(document)

    assert [said.replace("\n", " ").removesuffix(" FDPOLL=0") for said in heard.all()] == [
        "FDSTORE=1 FDNAME=leases-a",
        "FDSTORE=1 FDNAME=leases-b",
        "FDSTOREREMOVE=1 FDNAME=leases-a",
        "FDSTORE=1 FDNAME=leases-a",
        "FDSTOREREMOVE=1 FDNAME=leases-b",
    ]
    assert heard.documents == {"leases-a": b"third"}


@pytest.mark.parametrize("holds", LEASES)
def test_what_a_crash_left_beside_the_newest_goes_first(
    notifier: Notifier, heard: Heard, holds: str
) -> None:
    heard.documents.update(dict.fromkeys(LEASES, b"before"))
    store = Store(notifier, holds=holds, found=LEASES)

    store.put(b"after")

    (left,) = set(LEASES) - {holds}
    assert "FDSTOREREMOVE=1" in heard.all()[0]
    assert heard.documents == {left: b"after"}


def test_a_document_can_be_read_and_never_changed() -> None:
    descriptor = sealed(b"a secret")

    try:
        assert content_of(descriptor) == b"a secret"
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_a_long_document_is_whole() -> None:
    document = os.urandom(3_000_000)

    descriptor = sealed(document)

    assert content_of(descriptor) == document
    os.close(descriptor)


def test_without_systemd_no_document_is_made() -> None:
    Store(Notifier()).put(b"a secret")
