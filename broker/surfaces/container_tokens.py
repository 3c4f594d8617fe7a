"""Keep the tokens that admit to the container endpoint, and compare what clients present."""

import hmac
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from broker.access.users import gid_of
from broker.clock import Clock
from broker.files.private import read_mounted_secret, read_private, write_private

MAX_MODE = 0o640
MAX_TOKEN_BYTES = 4096

OVERLAP = timedelta(hours=1)
"""How long a token stays valid after another replaced it.

SDKs read the file at each fetch, but an exported value is read only when a program starts.

Source: sdk-client-contract C-70, C-83."""


class ContainerTokens:
    """The valid tokens of each caller: the newest, and for a while those before it (C-70)."""

    def __init__(self, tokens: Mapping[str, tuple[str, ...]]) -> None:
        self._tokens = {
            name: tuple(token.encode() for token in accepted) for name, accepted in tokens.items()
        }

    def __repr__(self) -> str:
        return f"ContainerTokens({', '.join(self._tokens)})"

    def caller_name(self, presented: str) -> str | None:
        """Return the name of the caller whose token was *presented*, or None.

        Trailing white space, which shells and HTTP libraries leave, is ignored. Every known token
        is compared, in constant time.

        Source: sdk-client-contract C-68.
        """
        # As bytes: text that is not ASCII cannot be compared in constant time.
        raw = presented.rstrip("\r\n\t ").encode("utf-8", "surrogatepass")
        matches = [
            name
            for name, accepted in self._tokens.items()
            for token in accepted
            if hmac.compare_digest(token, raw)
        ]
        return matches[0] if matches else None

    def unchanged_until(self, now: datetime) -> datetime:
        """Return until when the same tokens are valid, unless they are changed."""
        return now + timedelta(days=1)


def container_token(
    path: Path, group: str | None = None, *, warn: Callable[[str], None] = lambda _: None
) -> str:
    """Return the token in *path*, made where there is none.

    A secret that a container engine mounts is accepted, with a warning: its mode is not ours.

    Raises:
        ValueError: The file may not be used; the sentence says what to do.
        OSError: It can be neither read nor written.
    """
    try:
        content = read_private(path, max_mode=MAX_MODE, max_bytes=MAX_TOKEN_BYTES)
    except FileNotFoundError:
        return new_container_token(path, group)
    except ValueError:
        secret = read_mounted_secret(path, max_bytes=MAX_TOKEN_BYTES)
        if secret is None:
            raise
        content = secret
        if path.stat().st_mode & 0o004:
            warn(
                f"{path} is a mounted secret that every user here may read, and use the broker"
                " with; mount it with a narrower mode"
            )
    if content.endswith((b"\n", b"\r")):
        raise ValueError(
            f"{path} ends in a newline, which most AWS clients refuse; write it without (printf %s)"
        )
    if not re.fullmatch(rb"[!-~]+", content):
        raise ValueError(
            f"{path} holds more than visible ASCII characters; write 32 or more of these, "
            "or remove it and one is made"
        )
    if len(content) < 32:
        raise ValueError(f"{path} holds {len(content)} characters; write 32 or more")
    return content.decode("ascii")


def new_container_token(path: Path, group: str | None = None) -> str:
    """Write a new token to *path* and return it: 32 random bytes in URL-safe characters.

    The file is replaced atomically, 0600, or 0640 for *group*; it has no newline.

    Raises:
        ValueError: There is no such group.
        OSError: It cannot be written.

    Source: sdk-client-contract C-69, C-70.
    """
    token = random_token()
    if group is None:
        write_private(path, token)
    else:
        write_private(path, token, mode=MAX_MODE, gid=gid_of(group))
    return token


def random_token() -> str:
    """Return 32 random bytes in URL-safe characters."""
    return urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode("ascii")


class ContainerTokenFiles(ContainerTokens):
    """One token for each name, in a file that is made where there is none.

    To rotate a token, replace or remove its file: the new one is read, or made, within a second,
    and the one before stays valid for `OVERLAP`.
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
            ValueError: A file may not be used; the sentence says what to do.
            OSError: It can be neither read nor written.
        """
        self._files = dict(files)
        self._clock = clock
        self._group = group
        self._warn = warn
        self._newest = {
            name: container_token(path, group, warn=warn) for name, path in files.items()
        }
        self._older: dict[str, tuple[tuple[str, datetime], ...]] = {}
        super().__init__(self._accepted())

    def is_for_files(self, files: Mapping[str, Path], *, group: str | None) -> bool:
        """Return whether these are the tokens in *files*, for *group*."""
        return self._files == dict(files) and self._group == group

    def with_files(self, files: Mapping[str, Path], *, group: str | None) -> "ContainerTokenFiles":
        """Return the tokens in *files*.

        For names that remain, tokens that are valid now stay so for a while; all others end.

        Raises:
            ValueError, OSError: As for the constructor.
        """
        new = ContainerTokenFiles(files, clock=self._clock, group=group, warn=self._warn)
        until = self._clock.now() + OVERLAP
        for name in self._newest.keys() & new._newest.keys():
            was = self._newest[name]
            rotated_out = () if was == new._newest[name] else ((was, until),)
            new._older[name] = (*rotated_out, *self._older.get(name, ()))
        ContainerTokens.__init__(new, new._accepted())
        return new

    def newest(self, name: str) -> str:
        """Return the token to give to a client of that name."""
        return self._newest[name]

    def caller_name(self, presented: str) -> str | None:
        """Return as `ContainerTokens.caller_name`; drop tokens whose overlap has ended."""
        now = self._clock.now()
        if any(until <= now for older in self._older.values() for _, until in older):
            super().__init__(self._accepted())
        return super().caller_name(presented)

    def unchanged_until(self, now: datetime) -> datetime:
        ends = [end for older in self._older.values() for _, end in older if end > now]
        return min(ends, default=super().unchanged_until(now))

    def watched(self) -> Iterable[Path]:
        return self._files.values()

    def reread(self) -> None:
        """Read the files again; one that cannot be used leaves its token as it was."""
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

    def replace_all(self) -> None:
        """Replace every token at once, without overlap.

        One whose file cannot be written is replaced in memory alone: nobody has the new one then.
        """
        self._older.clear()
        for name, path in self._files.items():
            try:
                self._newest[name] = new_container_token(path, self._group)
            except (ValueError, OSError) as error:
                self._newest[name] = random_token()
                self._warn(f"container token {name}: {error}; remove {path} and another is made")
        super().__init__(self._accepted())

    def _accepted(self) -> dict[str, tuple[str, ...]]:
        return {name: (token, *self._still_good(name)) for name, token in self._newest.items()}

    def _still_good(self, name: str) -> tuple[str, ...]:
        now = self._clock.now()
        left = tuple(each for each in self._older.get(name, ()) if now < each[1])
        self._older[name] = left
        return tuple(token for token, _ in left)
