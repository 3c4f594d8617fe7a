"""systemctl and journalctl, as far as an installation needs them."""

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LIMIT_S = 120.0


class SystemdFailed(Exception):
    """A program of systemd's failed; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit code and the output of a program."""

    code: int
    output: str
    errors: str


def ran(argv: Sequence[str]) -> Ended:
    """Run a program to its end.

    Raises:
        SystemdFailed: It cannot be run, or does not end in time.
    """
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every word is ours
            argv, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except OSError as error:
        raise SystemdFailed(f"{argv[0]} cannot be run ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise SystemdFailed(f"{' '.join(argv)} does not end") from error
    return Ended(done.returncode, done.stdout, done.stderr)


class Systemctl:
    """``systemctl`` and ``journalctl``; *run* is how they are run."""

    def __init__(self, run: Callable[[Sequence[str]], Ended] = ran) -> None:
        self._run = run

    def version(self) -> int | None:
        """Return systemd's version, None where it is not installed."""
        try:
            done = self._run(["systemctl", "--version"])
        except SystemdFailed:
            return None
        found = re.match(r"systemd (\d+)", done.output)
        return int(found[1]) if found else None

    def is_enabled(self, unit: str) -> bool:
        return self._run(["systemctl", "is-enabled", "--quiet", unit]).code == 0

    def is_active(self, unit: str) -> bool:
        return self._run(["systemctl", "is-active", "--quiet", unit]).code == 0

    def reload(self) -> None:
        """Make systemd read its unit files again."""
        self._do("daemon-reload")

    def enable(self, *units: str) -> None:
        self._do("enable", "--quiet", *units)

    def disable(self, *units: str) -> None:
        self._do("disable", "--quiet", *units)

    def start(self, *units: str) -> None:
        self._do("start", *units)

    def restart(self, *units: str) -> None:
        self._do("restart", *units)

    def stop(self, *units: str) -> None:
        self._do("stop", *units)

    def forget_failures(self, *units: str) -> None:
        self._run(["systemctl", "reset-failed", *units])

    def is_failed(self, unit: str) -> bool:
        return self._run(["systemctl", "is-failed", "--quiet", unit]).code == 0

    def last_words(self, unit: str) -> str | None:
        """Return why *unit*'s newest start failed: its program's last line, or systemd's error."""
        show = ["systemctl", "show", "--value", "--property=InvocationID", unit]
        try:
            invocation = self._run(show).output.strip()
            if not invocation:
                return None
            own = self._journal("--lines=1", f"_SYSTEMD_INVOCATION_ID={invocation}")
            systemds = self._journal("--priority=err", f"INVOCATION_ID={invocation}")
        except SystemdFailed:
            return None
        return next(iter([*own, *systemds]), None)

    def _journal(self, *which: str) -> list[str]:
        command = ["journalctl", "--quiet", "--output=cat", *which]
        return self._run(command).output.strip().splitlines()

    def _do(self, *words: str) -> None:
        """Run systemctl.

        Raises:
            SystemdFailed: It failed.
        """
        done = self._run(["systemctl", *words])
        if done.code != 0:
            lines = done.errors.strip().splitlines()
            reason = lines[0] if lines else f"exit code {done.code}"
            raise SystemdFailed(f"systemctl {' '.join(words)}: {reason}")
