"""Token files: their content, their life, and what readers find meanwhile."""

import asyncio
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from broker.credentials import NamespaceToken
from broker.keeper import Keeper
from broker.lease import Lease, Unavailable
from broker.surfaces.token_file import (
    BareJwt,
    FileEvent,
    FileNotWritten,
    FileRecovered,
    TokenFileWriter,
    TokenJson,
    TokenTooShortLived,
    end_of,
)
from tests.support.fakes import START, FakeClock, ScriptedSource, running, settled
from tests.support.namespace_sdk import load_local_token
from tests.support.namespace_tokens import bearer_of, id_token_lease, jwt_of, token_lease
from tests.support.nsc import Nsc
from tests.support.nsc_claims import NotLoggedIn, claims_of

DEADLINE_S = 10
PATIENCE_S = 60


P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The token file's, in a directory that is not there yet."""
    return tmp_path / "nsc" / "token.json"


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what a thread does: files are written in one."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.001)


class AtOnce(ThreadPoolExecutor):
    """An executor that runs work when it is submitted, in step with a clock that the test moves."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


@dataclass
class Kept:
    """A token file that is being kept, and what was told of it."""

    clock: FakeClock
    keeper: Keeper[NamespaceToken]
    path: Path
    file: TokenFileWriter[NamespaceToken]
    told: list[FileEvent]

    def holds(self, bearer: str) -> bool:
        return self.path.exists() and load_local_token(self.path) == bearer

    @property
    def is_equal(self) -> bool:
        """Whether the file has the newest lease."""
        return self.holds(self.keeper.current().value.bearer)


@asynccontextmanager
async def kept(
    path: Path,
    source: ScriptedSource[NamespaceToken],
    clock: FakeClock,
    *,
    group: str | None = None,
    threads: bool = False,
) -> AsyncIterator[Kept]:
    """Run a keeper of *source* and a writer of *path*, in *threads* or in step with the clock."""
    if not threads:
        asyncio.get_running_loop().set_default_executor(AtOnce())
    keeper = Keeper("identity/default", source, clock=clock, jitter=lambda: 0.0)
    told: list[FileEvent] = []
    file = TokenFileWriter(
        path,
        keeper=keeper,
        file_format=TokenJson(),
        clock=clock,
        group=group,
        on_event=told.append,
    )
    world = Kept(clock, keeper, path, file, told)
    async with running(keeper):
        keeping = asyncio.create_task(file.keep())
        if not threads:
            await settled()
        try:
            yield world
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


def hourly(clock: FakeClock) -> ScriptedSource[NamespaceToken]:
    """Return a source of one-hour tokens, each different."""
    serials = itertools.count(1)
    return ScriptedSource(lambda: token_lease(clock.now(), serial=next(serials)))


def a_file(
    path: Path, clock: FakeClock, *, group: str | None = None
) -> TokenFileWriter[NamespaceToken]:
    keeper = Keeper("identity/default", hourly(clock), clock=clock)
    return TokenFileWriter(path, keeper=keeper, file_format=TokenJson(), clock=clock, group=group)


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def write_json(path: Path, **members: str) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps(members))
    return path


async def test_the_file_has_the_token_and_nothing_else_is_beside_it(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal

        bearer = world.keeper.current().value.bearer
        assert place.read_bytes() == b'{"bearer_token":"%s"}' % bearer.encode()
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert names_in(place.parent) == ["token.json"]
        assert world.told == []


async def test_for_a_group_it_is_readable_in_a_directory_that_can_be_entered(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock, group=str(os.getegid())) as world:
        assert world.is_equal

        assert stat.S_IMODE(place.stat().st_mode) == 0o640
        assert place.stat().st_gid == os.getegid()
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o750


async def test_nsc_and_the_sdks_read_it(place: Path, clock: FakeClock, tmp_path: Path) -> None:
    nsc = Nsc(environ={"NSC_TOKEN_FILE": str(place)}, config=tmp_path, now=clock.now)
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        bearer = world.keeper.current().value.bearer

        assert nsc.bearer() == bearer
        assert nsc.tenant_id() == "ws_1"
        assert load_local_token(place) == bearer


async def test_a_renewal_replaces_the_token_and_nsc_has_20_minutes_left_at_all_times(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        seen = set()
        for _ in range(36):
            await clock.advance(minutes=5)
            assert world.is_equal
            token = load_local_token(place)
            assert claims_of(token).outlives(clock.now() + timedelta(minutes=20))
            seen.add(token)

        assert len(seen) >= 6
        assert names_in(place.parent) == ["token.json"]


async def test_what_readers_derived_from_an_older_token_goes_with_it(
    place: Path, clock: FakeClock, tmp_path: Path
) -> None:
    cache = place.with_name("token.cache")
    older = bearer_of(ends_at=clock.now() + timedelta(hours=9), jti="of other permissions")
    place.parent.mkdir(mode=0o700)
    cache.write_text(older)
    nsc = Nsc(environ={"NSC_TOKEN_FILE": str(place)}, config=tmp_path, now=clock.now)

    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        assert not cache.exists()

        cache.write_text(older)
        await clock.advance(minutes=31)
        assert world.is_equal
        assert not cache.exists()
        assert nsc.bearer(need=timedelta(hours=8)) == world.keeper.current().value.bearer


async def test_in_an_outage_the_last_token_stays_until_its_end_and_then_goes(
    place: Path, clock: FakeClock, tmp_path: Path
) -> None:
    first = token_lease(clock.now())
    nsc = Nsc(environ={"NSC_TOKEN_FILE": str(place)}, config=tmp_path, now=clock.now)
    source = ScriptedSource[NamespaceToken](first, Unavailable("no answer"))

    async with kept(place, source, clock) as world:
        assert world.is_equal
        await clock.advance(minutes=59, seconds=59)
        assert world.holds(first.value.bearer)

        await clock.advance(seconds=1)
        assert not place.exists()
        with pytest.raises(NotLoggedIn, match="not logged in"):
            nsc.bearer()

        source.then(token_lease(clock.now(), serial=2))
        await clock.advance(minutes=2)
        assert world.is_equal


async def test_a_file_that_somebody_removed_is_there_again_within_a_minute(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        place.unlink()

        await clock.advance(minutes=1)
        assert world.is_equal


async def test_it_goes_when_we_leave(place: Path, clock: FakeClock) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal

    assert names_in(place.parent) == []


async def test_leaving_in_the_middle_of_a_write_leaves_nothing(
    place: Path, clock: FakeClock
) -> None:
    for turns in range(20):
        async with kept(place, hourly(clock), clock, threads=True):
            for _ in range(turns):
                await asyncio.sleep(0)

        assert names_in(place.parent) == []


def test_what_a_killed_process_was_writing_is_removed_at_the_next_start(
    place: Path, clock: FakeClock
) -> None:
    place.parent.mkdir(mode=0o700)
    for name in (".token.json.0123456789abcdef", ".token.json.note", ".other.0123456789abcdef"):
        (place.parent / name).touch()

    a_file(place, clock).close()

    assert names_in(place.parent) == [".other.0123456789abcdef", ".token.json.note"]


async def test_what_a_killed_process_left_serves_until_its_end(
    place: Path, clock: FakeClock
) -> None:
    left = bearer_of(ends_at=clock.now() + timedelta(minutes=10))
    write_json(place, bearer_token=left)

    async with kept(place, ScriptedSource(Unavailable("no answer")), clock) as world:
        await clock.advance(minutes=9)
        assert world.holds(left)

        await clock.advance(minutes=2)
        assert not place.exists()


def test_a_login_of_a_person_is_never_overwritten(place: Path, clock: FakeClock) -> None:
    write_json(place, session_token="st_x", bearer_token="nsct_x")
    before = place.read_bytes()

    with pytest.raises(ValueError, match="holds a person's login") as refused:
        a_file(place, clock)

    assert str(place) in str(refused.value)
    assert place.read_bytes() == before
    assert names_in(place.parent) == ["token.json"]


async def test_a_login_made_meanwhile_is_kept_also_when_the_daemon_stops(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        assert world.file.is_written
        login = write_json(place, session_token="st_x").read_bytes()

        await clock.advance(minutes=40)
        event = world.told[0]
        assert isinstance(event, FileNotWritten)
        assert "holds a person's login" in event.reason
        assert not world.file.is_written

    assert place.read_bytes() == login


@pytest.mark.parametrize("content", ["root:x:0:0::/root:/bin/sh\n", "[]", '"text"'])
def test_a_file_that_is_no_token_file_is_not_overwritten(
    place: Path, clock: FakeClock, content: str
) -> None:
    place.parent.mkdir(mode=0o700)
    place.write_text(content)

    with pytest.raises(ValueError, match="holds something other than a token; move it away"):
        a_file(place, clock)

    assert place.read_text() == content


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_regular_file_is_refused_at_once(
    place: Path, clock: FakeClock, make: Callable[[Path], None]
) -> None:
    place.parent.mkdir(mode=0o700)
    make(place)

    with pytest.raises(ValueError, match=f"{place} is (a link|not a regular file)"):
        a_file(place, clock)

    assert names_in(place.parent) == ["token.json"]


def test_an_unknown_group_is_refused_before_anything_is_made(place: Path, clock: FakeClock) -> None:
    with pytest.raises(ValueError, match="there is no group 'no-such-group'"):
        a_file(place, clock, group="no-such-group")

    assert not place.parent.exists()


async def test_a_failed_write_is_reported_and_retried_until_it_succeeds(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        place.unlink()
        place.mkdir()
        await clock.advance(minutes=1)
        await clock.advance(seconds=1)
        event = world.told[1]
        assert isinstance(event, FileNotWritten)
        assert event.reason.startswith(f"{place} is not a regular file")
        assert event.retry_in_s == 2

        place.rmdir()
        await clock.advance(minutes=1)
        assert world.is_equal
        assert world.told[-1] == FileRecovered(file=place)
        assert names_in(place.parent) == ["token.json"]


async def test_a_directory_that_was_exchanged_is_not_written_to(
    place: Path, clock: FakeClock
) -> None:
    async with kept(place, hourly(clock), clock) as world:
        assert world.is_equal
        moved = place.parent.rename(place.parent.with_name("moved"))
        place.parent.mkdir(mode=0o700)

        await clock.advance(minutes=31)
        event = world.told[0]

    assert isinstance(event, FileNotWritten)
    assert "is not the directory it was at start; reload the broker" in event.reason
    assert names_in(place.parent) == []
    assert names_in(moved) == ["token.json"]


FULL_DISK = """
import errno, resource, sys
from pathlib import Path
from broker.files.private import PrivateFile

file = PrivateFile(Path(sys.argv[1]))
file.replace(b"the old one")
resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
try:
    file.replace(b"the new one")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_a_disk_that_fills_up_in_the_middle_leaves_what_was_there(place: Path) -> None:
    program = [sys.executable, "-c", FULL_DISK, str(place)]

    shown = subprocess.run(program, capture_output=True, check=True, text=True)

    assert shown.stdout == "EFBIG\n"
    assert place.read_bytes() == b"the old one"
    assert names_in(place.parent) == ["token.json"]


@pytest.mark.parametrize(("minutes", "told"), [(39, True), (40, False)])
async def test_tokens_too_short_lived_for_20_minutes_left_are_reported_once(
    place: Path, clock: FakeClock, minutes: int, told: bool
) -> None:
    life = timedelta(minutes=minutes)
    source = ScriptedSource(lambda: token_lease(clock.now(), life=life))

    async with kept(place, source, clock) as world:
        for _ in range(10):
            await clock.advance(minutes=10)
        assert world.is_equal

    warning = TokenTooShortLived(file=place, life_s=39 * 60, needed_s=40 * 60)
    assert world.told == ([warning] if told else [])


async def test_a_revocable_token_stays_for_as_long_as_we_do(place: Path, clock: FakeClock) -> None:
    endless = Lease(
        value=NamespaceToken(bearer="nsrt_opaque"), issued_at=clock.now(), expires_at=None
    )

    async with kept(place, ScriptedSource(endless), clock) as world:
        await clock.advance(hours=10)
        assert world.holds("nsrt_opaque")

    assert not place.exists()


async def test_an_id_token_is_written_bare_for_aws_to_read(
    tmp_path: Path, clock: FakeClock
) -> None:
    place = tmp_path / "id-token"
    tmp_path.chmod(0o700)
    lease = id_token_lease(clock.now())
    keeper = Keeper("id-token/other", ScriptedSource(lease), clock=clock)
    file = TokenFileWriter(place, keeper=keeper, file_format=BareJwt(), clock=clock)
    asyncio.get_running_loop().set_default_executor(AtOnce())
    async with running(keeper):
        keeping = asyncio.create_task(file.keep())
        await settled()

        assert place.read_text() == lease.value.jwt
        assert stat.S_IMODE(place.stat().st_mode) == 0o600

        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.parametrize("content", ["not a jwt", '{"bearer_token":"x"}', "a.b\nc.d"])
def test_only_a_jwt_is_overwritten_by_an_id_token(
    tmp_path: Path, clock: FakeClock, content: str
) -> None:
    place = tmp_path / "id-token"
    place.write_text(content)
    keeper = Keeper("id-token/other", ScriptedSource(id_token_lease(clock.now())), clock=clock)

    with pytest.raises(ValueError, match="holds something other than a JWT"):
        TokenFileWriter(place, keeper=keeper, file_format=BareJwt(), clock=clock)


def test_when_a_token_ends_is_read_from_it_and_anything_else_has_no_end() -> None:
    ends_at = datetime.fromisoformat("2030-01-01T00:00:00+00:00")

    assert end_of(bearer_of(ends_at=ends_at)) == ends_at
    for text in ("", "nsrt_x", "a.b.c", jwt_of([]), jwt_of({}), jwt_of({"exp": "soon"})):
        assert end_of(text) is None
    assert end_of(jwt_of({"exp": 1e300})) == datetime(9000, 1, 1, tzinfo=UTC)


@dataclass
class Reading:
    """Reads as nsc does, over and over in a thread of its own, until it is told to stop.

    What it gets must be live at the moment before it looked: the clock may leap while it reads.
    """

    nsc: Nsc
    clock: FakeClock
    least_reads: int
    least_seen: int
    before: datetime = START
    reads: int = 0
    seen: set[str] = field(default_factory=set)
    troubles: list[Exception] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.nsc.now = lambda: self.before

    def run(self) -> None:
        while not self.done.is_set() and not self.troubles:
            self.before = self.clock.now()
            try:
                self.seen.add(self.nsc.bearer(need=timedelta(minutes=1)))
                self.reads += 1
                time.sleep(0)  # let the writer have its turn
            except Exception as trouble:
                self.troubles.append(trouble)

    @property
    def is_over(self) -> bool:
        enough = self.reads >= self.least_reads and len(self.seen) >= self.least_seen
        return enough or bool(self.troubles)


async def test_in_10000_reads_during_renewals_nobody_sees_half_a_file_or_a_dead_token(
    place: Path, clock: FakeClock, tmp_path: Path
) -> None:
    serials = itertools.count(1)
    life = timedelta(minutes=10)
    source = ScriptedSource(
        lambda: token_lease(clock.now(), life=life, serial=next(serials)),
    )
    nsc = Nsc(environ={"NSC_TOKEN_FILE": str(place)}, config=tmp_path, older=True)
    reading = Reading(nsc, clock, least_reads=10_000, least_seen=20)
    async with kept(place, source, clock, threads=True) as world:
        await until(lambda: world.is_equal)
        reader = threading.Thread(target=reading.run)
        reader.start()
        started = time.monotonic()
        while not reading.is_over and time.monotonic() < started + PATIENCE_S:
            await clock.advance(minutes=1)
            await until(lambda: world.is_equal)
        reading.done.set()
        await asyncio.to_thread(reader.join)
        assert names_in(place.parent) == ["token.json"]

    assert reading.troubles == []
    assert reading.reads >= 10_000
    assert len(reading.seen) >= 20
