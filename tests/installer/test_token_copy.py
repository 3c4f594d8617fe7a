"""The copy of a token file that only root may read: whole, and of the newest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.installer.token_copy import LOOK_S, NotCopied, keep_copy

FIRST, SECOND = '{"bearer_token": "nsct_first"}', '{"bearer_token": "nsct_second"}'


class Moments:
    """A clock that moves when somebody sleeps, and does what is due then."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, Callable[[], object]]] = []

    def at(self, when_s: float, act: Callable[[], object]) -> None:
        self._due.append((when_s, act))

    def now(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        for due in [each for each in self._due if each[0] <= self.now_s]:
            self._due.remove(due)
            due[1]()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "token.json"
    file.write_text(FIRST)
    file.chmod(0o600)
    return file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "identity" / "token.json"


@pytest.fixture
def moments() -> Moments:
    return Moments()


def keep(source: Path, target: Path, moments: Moments) -> list[str]:
    """Run it to its end, and return what stood in the copy when it said that it is there."""
    seen: list[str] = []
    keep_copy(
        source,
        target,
        on_first=lambda: seen.append(target.read_text() if target.exists() else ""),
        now=moments.now,
        sleep=moments.sleep,
    )
    return seen


def test_the_copy_is_there_when_it_says_so_and_it_leaves_soon(
    source: Path, target: Path, moments: Moments
) -> None:
    seen = keep(source, target, moments)

    assert seen == [FIRST]
    assert target.stat().st_mode & 0o777 == 0o404
    assert moments.now_s == pytest.approx(1.0, abs=2 * LOOK_S)


def test_what_changes_meanwhile_is_copied_too_and_waited_after(
    source: Path, target: Path, moments: Moments
) -> None:
    moments.at(0.9, lambda: source.write_text(SECOND))

    keep(source, target, moments)

    assert target.read_text() == SECOND
    assert moments.now_s == pytest.approx(1.9, abs=3 * LOOK_S)


def test_a_half_written_file_is_never_copied(source: Path, target: Path, moments: Moments) -> None:
    keep(source, target, moments)
    source.write_text(SECOND[:12])
    copies: list[str] = []
    moments.at(moments.now_s + 0.3, lambda: copies.append(target.read_text()))
    moments.at(moments.now_s + 0.5, lambda: source.write_text(SECOND))

    keep(source, target, moments)

    assert copies == [FIRST]
    assert target.read_text() == SECOND


def test_a_file_that_is_gone_for_good_takes_its_copy_along(
    source: Path, target: Path, moments: Moments
) -> None:
    keep(source, target, moments)
    source.unlink()

    keep(source, target, moments)

    assert not target.exists()


def test_a_file_that_is_gone_for_a_moment_does_not(
    source: Path, target: Path, moments: Moments
) -> None:
    keep(source, target, moments)
    source.unlink()
    moments.at(moments.now_s + 0.5, lambda: source.write_text(SECOND))

    keep(source, target, moments)

    assert target.read_text() == SECOND


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda place: place.symlink_to("/etc/passwd"), "is a link"),
        (lambda place: place.mkdir(), "is not a regular file"),
        (lambda place: place.write_text("[1]"), "is not a JSON object"),
        (lambda place: place.write_bytes(b"\xff\xfe"), "is not JSON"),
        (lambda place: place.write_text(""), "is not JSON"),
        (lambda place: place.write_text('"' + "x" * (1 << 20) + '"'), "is larger than"),
    ],
    ids=["link", "directory", "list", "bytes", "empty", "huge"],
)
def test_what_is_no_token_file_is_not_copied(
    source: Path,
    target: Path,
    moments: Moments,
    make: Callable[[Path], object],
    says: str,
) -> None:
    keep(source, target, moments)
    source.unlink()
    make(source)

    with pytest.raises(NotCopied, match=says):
        keep(source, target, moments)

    assert target.read_text() == FIRST
