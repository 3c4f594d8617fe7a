"""The container tokens as their files have them, and the ones before them for a while. Decides
nothing about who may have what."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from broker.clock import Clock
from broker.surfaces.container_tokens import ContainerTokens, container_token

OVERLAP = timedelta(hours=1)
"""How long a token stays good after another took its place: SDKs read the file at each fetch, but
what was exported as a value is only read when a program starts. Source: C-70, C-83."""


class KeptTokens(ContainerTokens):
    """One token for each name, in a file that is made where there is none.

    A token is rotated by its file: whoever replaces or removes it gets the new one taken, or made,
    within a second, and the one before stays good for `OVERLAP`.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        *,
        clock: Clock,
        group: str | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read every file, or make it.

        Raises:
            ValueError: What is there may not be used; the sentence says what to do.
            OSError: It can be neither read nor written.
        """
        self._files = dict(files)
        self._clock = clock
        self._group = group
        self._warn = warn
        self._newest = {name: container_token(path, group) for name, path in files.items()}
        self._older: dict[str, tuple[tuple[str, datetime], ...]] = {}
        super().__init__(self._accepted())

    def is_about(self, files: Mapping[str, Path], *, group: str | None) -> bool:
        """Say whether these are the tokens in *files*, for *group*."""
        return self._files == dict(files) and self._group == group

    def followed_by(self, files: Mapping[str, Path], *, group: str | None) -> "KeptTokens":
        """Return the tokens in *files*: of who is named there still, what is good now stays good
        for a while; nobody else's is.

        Raises:
            ValueError, OSError: As for the constructor.
        """
        new = KeptTokens(files, clock=self._clock, group=group, warn=self._warn)
        until = self._clock.now() + OVERLAP
        for name in self._newest.keys() & new._newest.keys():
            was = self._newest[name]
            rotated_out = () if was == new._newest[name] else ((was, until),)
            new._older[name] = (*rotated_out, *self._older.get(name, ()))
        ContainerTokens.__init__(new, new._accepted())
        return new

    def newest(self, name: str) -> str:
        """Return the token that a client of that name is to be given."""
        return self._newest[name]

    def caller_name(self, presented: str) -> str | None:
        """As `ContainerTokens.caller_name`; a token that was rotated out is good for so long."""
        now = self._clock.now()
        if any(until <= now for older in self._older.values() for _, until in older):
            # Nobody need touch a file again for the one before to end.
            super().__init__(self._accepted())
        return super().caller_name(presented)

    def watched(self) -> Iterable[Path]:
        return self._files.values()

    def look_again(self) -> None:
        """Take what the files hold now; trouble with one leaves its token as it was."""
        for name, path in self._files.items():
            try:
                token = container_token(path, self._group)
            except (ValueError, OSError) as error:
                self._warn(f"container token {name}: {error}; the one before stays in use")
                continue
            if token != self._newest[name]:
                until = self._clock.now() + OVERLAP
                older = ((self._newest[name], until), *self._older.get(name, ()))
                self._newest[name], self._older[name] = token, older
        super().__init__(self._accepted())

    def _accepted(self) -> dict[str, tuple[str, ...]]:
        return {name: (token, *self._still_good(name)) for name, token in self._newest.items()}

    def _still_good(self, name: str) -> tuple[str, ...]:
        now = self._clock.now()
        left = tuple(each for each in self._older.get(name, ()) if now < each[1])
        self._older[name] = left
        return tuple(token for token, _ in left)
