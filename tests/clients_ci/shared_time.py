"""One wall clock for the sandbox, the broker and its clients, which the test moves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path


class SharedTime:
    """Real time, and as much ahead of it as the test says. Processes see it by libfaketime."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ahead"
        self._ahead = timedelta()
        self._tell()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def move(self, *, hours: float = 0, minutes: float = 0) -> None:
        """Move on, for everybody at once."""
        self._ahead += timedelta(hours=hours, minutes=minutes)
        self._tell()

    def as_suspended(self) -> dict[str, str]:
        """Return the environment of a process whose monotonic clock stands still.

        That is what a suspended or thawed machine's does.
        """
        return {**self.as_running(), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def as_running(self) -> dict[str, str]:
        """Return that of a process whose clocks both move on, as if it had run all the while."""
        return {
            "LD_PRELOAD": libfaketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
        }

    def _tell(self) -> None:
        # Replaced at once: every process reads it whenever it asks for the time.
        draft = self._file.with_suffix(".new")
        draft.write_text(f"+{self._ahead.total_seconds():.0f}\n")
        draft.replace(self._file)


def libfaketime() -> str:
    """Return where Debian's package has the library for programs with threads."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing; on Debian: apt-get install libfaketime"
    return str(found[0])
