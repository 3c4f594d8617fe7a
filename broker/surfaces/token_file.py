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

from broker.clock import Clock
from broker.credentials import IdToken, NamespaceToken, json_object, jwt_payload, numeric_date
from broker.files.private import PrivateFile
from broker.keeper import NAP_S, Keeper
from broker.lease import Lease, NotReady, backoff_s
from broker.surfaces.container_tokens import gid_of

T_contra = TypeVar("T_contra", contravariant=True)


class FileFormat(Protocol[T_contra]):
    """How a value is written, and what is known of files of that kind."""

    cache: str | None
    """A file beside it in which readers keep what they derived; to be removed after each write."""

    least_life: timedelta
    """How long a token must live at least, renewed at half of it, to serve every reader."""

    def content(self, value: T_contra) -> bytes: ...

    def token_in(self, content: bytes) -> str:
        """Return the token in a file that may be replaced.

        Raises:
            ValueError: It may not; the sentence goes on after the file's name.
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
            raise ValueError("holds something else than a token; move it away or name another file")
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
            raise ValueError("holds something else than a JWT; move it away or name another file")
        return text


def end_of(token: str) -> datetime | None:
    """Return when a JWT says that it ends, whatever its prefix; None where it does not."""
    claims = jwt_payload(token)
    return None if claims is None else numeric_date(claims.get("exp"))


T = TypeVar("T")

RETRY_FIRST_S, RETRY_LONGEST_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """Something about a token file that the operator should know."""

    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNotWritten(FileEvent):
    """The file is not what it should be; another attempt follows, except when we are leaving."""

    reason: str
    retry_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTooShortLived(FileEvent):
    """The source's tokens live too short for 20 minutes to be left at all times. Told once.

    Source: namespace-api 10.
    """

    life_s: float
    wanted_s: float


def _tell_nobody(_: FileEvent) -> None: ...


class TokenFileWriter(Generic[T]):
    """One file, kept equal to a keeper's newest lease, and absent where that has ended.

    It is replaced at once, in a directory of our own that is opened once; nothing else is left
    beside it. It goes when we leave: without a keeper it would grow stale, and a reader is better
    told that there is no login than that a server did not take it (namespace-api 10).
    """

    def __init__(
        self,
        path: Path,
        *,
        keeper: Keeper[T],
        form: FileFormat[T],
        clock: Clock,
        group: str | None = None,
        on_event: Callable[[FileEvent], None] = _tell_nobody,
    ) -> None:
        """Open the file's directory, look at what is there and whether we may write.

        The file is 0600, or 0640 for *group*. To be kept or closed.

        Raises:
            ValueError: The place or what is in it may not be used; the sentence names it.
            OSError: It can be neither read nor written; ``filename`` is the place.
        """
        self.path = path
        self.on_event = on_event
        self._keeper = keeper
        self._form = form
        self._clock = clock
        self._last: bytes | None = None  # what we wrote last
        self._failures = 0
        self._short_life_told = False
        self._stays = False
        self._tried: tuple[Lease[T] | None, ...] = ()  # what the last attempt was about
        self._attempted = asyncio.Event()
        self._file = PrivateFile(path, gid=None if group is None else gid_of(group))
        try:
            self._found()
        except BaseException:
            self.close()
            raise

    def leave_in_place(self) -> None:
        """Leave the file as it is at the end: another is kept there from then on."""
        self._stays = True

    def close(self) -> None:
        """Close the directory, where `keep` was never called."""
        self._file.close()

    async def keep(self) -> None:
        """Keep the file equal to the newest lease until cancelled; then remove it."""
        try:
            while True:
                lease = self._held()
                self._tell_of_a_short_life(lease)
                pause_s = await self._settle(lease)
                self._tell_who_waits(lease)
                await self._keeper.change(lease, within_s=min(pause_s, self._left_s(lease)))
        finally:
            self._leave()

    async def settled(self) -> None:
        """Wait until what the keeper holds is in the file, or could not be written."""
        while self._tried != (self._held(),):
            await self._attempted.wait()

    def _tell_who_waits(self, lease: Lease[T] | None) -> None:
        self._tried = (lease,)
        self._attempted.set()
        self._attempted = asyncio.Event()

    def _held(self) -> Lease[T] | None:
        try:
            return self._keeper.current()
        except NotReady:
            return None

    def _left_s(self, lease: Lease[T] | None) -> float:
        if lease is None or lease.expires_at is None:
            return NAP_S
        return max(0.0, (lease.expires_at - self._clock.now()).total_seconds())

    def _tell_of_a_short_life(self, lease: Lease[T] | None) -> None:
        if lease is None or lease.expires_at is None or self._short_life_told:
            return
        life = lease.expires_at - lease.issued_at
        if life < self._form.least_life:
            self._short_life_told = True
            self.on_event(
                TokenTooShortLived(
                    file=self.path,
                    life_s=life.total_seconds(),
                    wanted_s=self._form.least_life.total_seconds(),
                )
            )

    async def _settle(self, lease: Lease[T] | None) -> float:
        """Make the file what it should be; return when to look again, in seconds."""
        try:
            # In a thread: a slow disk must not keep requests waiting.
            await _to_its_end(lambda: self._make(lease))
        except (OSError, ValueError) as error:
            self._failures += 1
            retry_in_s = backoff_s(
                self._failures, jitter=0.0, first_s=RETRY_FIRST_S, longest_s=RETRY_LONGEST_S
            )
            self._tell_not_written(error, retry_in_s=retry_in_s)
            return retry_in_s
        self._failures = 0
        return NAP_S

    def _make(self, lease: Lease[T] | None) -> None:
        found = self._found()
        if lease is None:
            if found is not None and (found == self._last or self._is_dead(found)):
                self._file.remove()
            return
        content = self._form.content(lease.value)
        # Once in any case: what an earlier process left may be of another mode or group, and after
        # a failure not everything may be as it should.
        if found == content and self._last is not None and not self._failures:
            return
        try:
            self._file.replace(content, outdated=self._form.cache)
        except OSError:
            if found is not None and self._is_dead(found):
                self._file.remove()
            raise
        self._last = content

    def _found(self) -> bytes | None:
        """Return what is there. Looked at each time: a person may have logged in meanwhile.

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
            return self._form.token_in(content)
        except ValueError as error:
            raise ValueError(f"{self.path} {error}") from None

    def _is_dead(self, content: bytes) -> bool:
        end = end_of(self._token_in(content))
        return end is not None and end <= self._clock.now()

    def _leave(self) -> None:
        try:
            # What is there now instead of ours is not ours to remove.
            with suppress(ValueError):
                ours = self._last is not None and self._found() == self._last
                if ours and not self._stays:
                    self._file.remove()
        except OSError as error:
            self._tell_not_written(error, retry_in_s=None)
        finally:
            self.close()

    def _tell_not_written(self, error: OSError | ValueError, *, retry_in_s: float | None) -> None:
        reason = f"{self.path}: {error.strerror}" if isinstance(error, OSError) else str(error)
        self.on_event(FileNotWritten(file=self.path, reason=reason, retry_in_s=retry_in_s))


async def _to_its_end(work: Callable[[], None]) -> None:
    """Run *work* in a thread. It is waited for even when we are cancelled: what it writes must not
    appear after we have left."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise
