"""Keep a file equal to the newest token, for readers that take nothing else."""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from broker.access.users import gid_of
from broker.clock import Clock
from broker.credentials import IdToken, NamespaceToken, json_object, jwt_payload, numeric_date
from broker.files.private import PrivateFile
from broker.keeper import NAP_S, Keeper
from broker.lease import Lease, NotReady, backoff_s

T_contra = TypeVar("T_contra", contravariant=True)


class FileFormat(Protocol[T_contra]):
    """How a value is written into a file, and what readers of such files need."""

    cache: str | None
    """A file beside it in which readers cache what they derive, removed after each write."""

    least_life: timedelta
    """The least life of a token, renewed at half of it, that serves every reader."""

    def content(self, value: T_contra) -> bytes: ...

    def token_in(self, content: bytes) -> str:
        """Return the token in a file that may be replaced.

        Raises:
            ValueError: It may not be replaced; the sentence continues after the file's name.
        """


class TokenJson:
    """The file that nsc and the Namespace SDKs read: ``{"bearer_token":"nsct_..."}``.

    Source: namespace-api 3, 10.
    """

    cache: str | None = "token.cache"
    least_life = timedelta(minutes=40)

    def content(self, value: NamespaceToken) -> bytes:
        return json.dumps({"bearer_token": value.bearer}, separators=(",", ":")).encode("ascii")

    def token_in(self, content: bytes) -> str:
        document = json_object(content.strip() or b"{}")
        if document is None:
            raise ValueError(
                "holds something other than a token; move it away or name another file"
            )
        if document.get("session_token"):
            raise ValueError(
                "holds a person's login (session_token), which is never overwritten; "
                "name another file, or end it with nsc auth logout"
            )
        return str(document.get("bearer_token") or "")


class BareJwt:
    """The file that ``AWS_WEB_IDENTITY_TOKEN_FILE`` names: the ID token, no newline."""

    cache: str | None = None
    least_life = timedelta(0)

    def content(self, value: IdToken) -> bytes:
        return value.jwt.encode("ascii")

    def token_in(self, content: bytes) -> str:
        text = content.decode("latin-1").strip()
        if text and not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]*", text, re.ASCII):
            raise ValueError("holds something other than a JWT; move it away or name another file")
        return text


def end_of(token: str) -> datetime | None:
    """Return when a JWT says that it ends, whatever its prefix; None where it does not."""
    claims = jwt_payload(token)
    return None if claims is None else numeric_date(claims.get("exp"))


T = TypeVar("T")

RETRY_FIRST_S, RETRY_LONGEST_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """An event about a token file, for the operator."""

    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNotWritten(FileEvent):
    """The file could not be updated; another attempt follows unless the daemon is stopping."""

    reason: str
    retry_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecovered(FileEvent):
    """The file is written again, or kept no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTooShortLived(FileEvent):
    """The source's tokens live too short to have 20 minutes left at all times. Reported once.

    Source: namespace-api 10.
    """

    life_s: float
    needed_s: float


def _ignore(_: FileEvent) -> None: ...


class TokenFileWriter(Generic[T]):
    """Keep one file equal to a keeper's newest lease, and absent once that has ended.

    The file is replaced atomically, in a directory that is opened once; nothing else is left beside
    it. It is removed when the daemon stops: it would grow stale, and a reader that finds no login
    is better off than one whose token a server refuses (namespace-api 10).
    """

    def __init__(
        self,
        path: Path,
        *,
        keeper: Keeper[T],
        file_format: FileFormat[T],
        clock: Clock,
        group: str | None = None,
        on_event: Callable[[FileEvent], None] = _ignore,
    ) -> None:
        """Open the file's directory and check the file there and that we may write.

        The file is 0600, or 0640 for *group*. Call `keep` or `close` afterwards.

        Raises:
            ValueError: The directory or the file may not be used; the sentence names it.
            OSError: It can be neither read nor written; ``filename`` is the path.
        """
        self.path = path
        self.on_event = on_event
        self._keeper = keeper
        self._format = file_format
        self._clock = clock
        self._last: bytes | None = None  # what we wrote last
        self._failures = 0
        self._short_life_reported = False
        self._stays = False
        self._tried: tuple[Lease[T] | None, ...] = ()  # what the last attempt was about
        self._attempted = asyncio.Event()
        self._file = PrivateFile(path, gid=None if group is None else gid_of(group))
        try:
            self._found()
        except BaseException:
            self.close()
            raise

    def is_in_place(self) -> bool:
        """Return whether the file's directory is still the one that readers look into."""
        return self._file.is_in_place()

    def leave_in_place(self) -> None:
        """Leave the file in place at the end: another writer keeps it from then on."""
        self._stays = True

    @property
    def is_written(self) -> bool:
        """Whether a token is in the file; not after a failed attempt to replace it."""
        return self._last is not None and not self._failures

    def close(self) -> None:
        """Close the directory if `keep` was never called."""
        self._file.close()

    async def keep(self) -> None:
        """Keep the file equal to the newest lease until cancelled; then remove it."""
        try:
            while True:
                lease = self._current()
                self._report_short_life(lease)
                pause_s = await self._update(lease)
                self._notify_waiters(lease)
                await self._keeper.change(lease, within_s=min(pause_s, self._left_s(lease)))
        finally:
            self._remove_own()

    async def settled(self) -> None:
        """Wait until the newest lease has been written, or an attempt has failed."""
        while self._tried != (self._current(),):
            await self._attempted.wait()

    def _notify_waiters(self, lease: Lease[T] | None) -> None:
        self._tried = (lease,)
        self._attempted.set()
        self._attempted = asyncio.Event()

    def _current(self) -> Lease[T] | None:
        try:
            return self._keeper.current()
        except NotReady:
            return None

    def _left_s(self, lease: Lease[T] | None) -> float:
        if lease is None or lease.expires_at is None:
            return NAP_S
        return max(0.0, (lease.expires_at - self._clock.now()).total_seconds())

    def _report_short_life(self, lease: Lease[T] | None) -> None:
        if lease is None or lease.expires_at is None or self._short_life_reported:
            return
        life = lease.expires_at - lease.issued_at
        if life < self._format.least_life:
            self._short_life_reported = True
            self.on_event(
                TokenTooShortLived(
                    file=self.path,
                    life_s=life.total_seconds(),
                    needed_s=self._format.least_life.total_seconds(),
                )
            )

    async def _update(self, lease: Lease[T] | None) -> float:
        """Update the file; return when to check it again, in seconds."""
        try:
            # In a thread: a slow disk must not keep requests waiting.
            await _run_to_end(lambda: self._write(lease))
        except (OSError, ValueError) as error:
            self._failures += 1
            retry_in_s = backoff_s(
                self._failures, jitter=0.0, first_s=RETRY_FIRST_S, longest_s=RETRY_LONGEST_S
            )
            self._report_not_written(error, retry_in_s=retry_in_s)
            return retry_in_s
        self._report_recovery()
        return NAP_S

    def _write(self, lease: Lease[T] | None) -> None:
        found = self._found()
        if lease is None:
            if found is not None and (found == self._last or self._is_dead(found)):
                self._file.remove()
            return
        content = self._format.content(lease.value)
        # Write once in any case: a file left by an earlier process may have another mode or group,
        # and a failed attempt may have been partial.
        if found == content and self._last is not None and not self._failures:
            return
        try:
            self._file.replace(content, outdated=self._format.cache)
        except OSError:
            if found is not None and self._is_dead(found):
                self._file.remove()
            raise
        self._last = content

    def _found(self) -> bytes | None:
        """Return the file's content, read each time: a person may have logged in meanwhile.

        Raises:
            ValueError: It may not be replaced.
            OSError: It cannot be read.
        """
        content = self._file.content()
        if content is not None:
            self._token_in(content)
        return content

    def _token_in(self, content: bytes) -> str:
        try:
            return self._format.token_in(content)
        except ValueError as error:
            raise ValueError(f"{self.path} {error}") from None

    def _is_dead(self, content: bytes) -> bool:
        end = end_of(self._token_in(content))
        return end is not None and end <= self._clock.now()

    def _remove_own(self) -> None:
        try:
            # A file that replaced ours is not ours to remove.
            with suppress(ValueError):
                ours = self._last is not None and self._found() == self._last
                if ours and not self._stays:
                    self._file.remove()
        except OSError as error:
            self._report_not_written(error, retry_in_s=None)
        finally:
            self._report_recovery()
            self.close()

    def _report_recovery(self) -> None:
        failures, self._failures = self._failures, 0
        if failures:
            self.on_event(FileRecovered(file=self.path))

    def _report_not_written(self, error: OSError | ValueError, *, retry_in_s: float | None) -> None:
        reason = f"{self.path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        self.on_event(FileNotWritten(file=self.path, reason=reason, retry_in_s=retry_in_s))


async def _run_to_end(work: Callable[[], None]) -> None:
    """Run *work* in a thread and wait for it, even when cancelled.

    What it writes must not appear after the daemon has stopped.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise
