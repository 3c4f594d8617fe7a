"""What systemd hears of the daemon's life; it always has the newest leases."""

import asyncio
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker.credentials import AwsCredentials, NamespaceToken
from broker.daemon.handover import (
    BEAT_S,
    LeaseSnapshot,
    ServiceNotifier,
    SnapshotEntry,
    decode,
    encode,
    lease_summary,
)
from broker.daemon.runtime import Runtime
from broker.daemon.wiring import Pipelines
from broker.keeper import Keeper
from broker.lease import Lease, Refused, SourceError
from broker.systemd import Inherited, Notifier
from broker.telemetry.log import logger
from tests.support.fakes import (
    FakeClock,
    ScriptedSource,
    lease_of,
    running,
    settled,
    some_credentials,
)
from tests.support.systemd_socket import Heard, hearing


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    with hearing(tmp_path / "notify") as heard:
        yield heard


@dataclass
class Service:
    """A broker of one role, as far as its supervisor is concerned."""

    clock: FakeClock
    notifier: Notifier
    source: ScriptedSource[AwsCredentials]
    fingerprint: str = "as ever"
    kept: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keeper = Keeper("role/deploy", self.source, clock=self.clock)
        self.pipelines = Pipelines(
            {},
            {"deploy": self.keeper},
            {},
            {},
            {},
            {"role/deploy": self.fingerprint},
        )
        runtime = Runtime(
            environ={},
            clock=self.clock,
            log=logger(form="json", level="error"),
            inherited=Inherited(kept=self.kept),
            supervisor=self.notifier,
        )
        self.life = ServiceNotifier(runtime, pipelines=lambda: self.pipelines)
        self.keeper.on_event = self.life.on_event


@pytest.fixture
def notifier(heard: Heard, tmp_path: Path) -> Iterator[Notifier]:
    notifier = Notifier(str(tmp_path / "notify"), watchdog_s=30)
    yield notifier
    notifier.close()


def issuing(*script: Lease[AwsCredentials] | SourceError) -> ScriptedSource[AwsCredentials]:
    return ScriptedSource(*script)


async def test_each_new_lease_is_with_systemd_at_once(
    clock: FakeClock, notifier: Notifier, heard: Heard
) -> None:
    first = lease_of(some_credentials(serial=1), clock, hours=1)
    source = issuing(first, lease_of(some_credentials(serial=2), clock, hours=1))
    service = Service(clock, notifier, source)

    async with running(service.keeper):
        assert stored(heard) == first
        service.keeper.renew_now()
        await clock.advance(seconds=2)

    assert stored(heard).value == some_credentials(serial=2)


def stored(heard: Heard) -> Lease[Any]:
    heard.all()
    (document,) = heard.documents.values()
    return decode(document).leases["role/deploy"].lease


async def test_the_next_process_goes_on_with_them(
    clock: FakeClock, notifier: Notifier, heard: Heard
) -> None:
    first = Service(clock, notifier, issuing(lease_of(some_credentials(), clock, hours=1)))
    async with running(first.keeper):
        first.life.stopping()
    heard.all()

    second = Service(clock, notifier, issuing(Refused("down")), kept=dict(heard.documents))
    second.life.restore()

    assert second.life.restored == ["role/deploy"]
    assert second.keeper.current().value == some_credentials()


async def test_the_third_process_goes_on_with_what_the_second_left(
    clock: FakeClock, notifier: Notifier, heard: Heard
) -> None:
    lease = lease_of(some_credentials(), clock, hours=1)
    for _ in range(3):
        heard.all()
        service = Service(clock, notifier, issuing(lease), kept=dict(heard.documents))
        service.life.restore()
        async with running(service.keeper):
            service.life.ready()
            service.life.stopping()

    assert service.life.restored == ["role/deploy"]
    assert stored(heard) == lease


async def test_an_identity_in_files_is_served_and_read_again_at_once(clock: FakeClock) -> None:
    token = NamespaceToken(bearer="nsct_secret")
    kept = SnapshotEntry(fingerprint="as ever", lease=lease_of(token, clock, hours=1))
    document = encode(LeaseSnapshot(serial=1, leases={"identity/default": kept}))
    keeper = Keeper("identity/default", ScriptedSource[NamespaceToken](kept.lease), clock=clock)
    pipelines = Pipelines(
        {"default": keeper},
        {},
        {},
        {},
        {"default": lambda: (Path("token.json"),)},
        {"identity/default": "as ever"},
    )
    runtime = Runtime(environ={}, clock=clock, inherited=Inherited(kept={"leases-a": document}))

    ServiceNotifier(runtime, pipelines=lambda: pipelines).restore()

    assert keeper.current().value == token
    assert keeper.status().renews_at == clock.now()


async def test_it_says_how_the_leases_are(
    clock: FakeClock, notifier: Notifier, heard: Heard
) -> None:
    source = issuing(lease_of(some_credentials(), clock, hours=1), Refused("a long reason"))
    service = Service(clock, notifier, source)

    service.life.ready()
    async with running(service.keeper):
        service.keeper.renew_now()
        await clock.advance(seconds=2)
        service.life.stopping()

    said = [each for each in heard.all() if "STATUS=" in each]
    assert said == [
        "READY=1\nSTATUS=serving; leases: 1 starting",
        "STATUS=serving; leases: 1 live",
        "STATUS=serving; leases: 1 refused (role/deploy refused)",
        "STOPPING=1\nSTATUS=stopping; leases: 1 refused (role/deploy refused)",
    ]


async def test_of_none_it_says_so() -> None:
    assert lease_summary([]) == "leases: none"


async def test_the_watchdog_is_told_twice_in_its_time(
    clock: FakeClock, notifier: Notifier, heard: Heard
) -> None:
    service = Service(clock, notifier, issuing(Refused("no")))
    beating = asyncio.create_task(service.life.beat())

    await settled()
    assert heard.all() == ["WATCHDOG=1"]
    await clock.advance(seconds=14)
    assert heard.all() == []
    await clock.advance(seconds=16)

    assert heard.all() == ["WATCHDOG=1"] * 2
    beating.cancel()


async def test_without_a_watchdog_what_found_no_room_is_said_again(
    clock: FakeClock, heard: Heard, tmp_path: Path
) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    service = Service(clock, notifier, issuing(Refused("no")))
    beating = asyncio.create_task(service.life.beat())
    await settled()
    while not notifier.has_unsent:
        notifier.status("filling")
    heard.all()

    await clock.advance(seconds=BEAT_S)

    assert heard.all() == ["STATUS=filling"]
    beating.cancel()
    notifier.close()


async def test_without_descriptors_left_the_lease_before_stays_and_the_next_is_kept(
    clock: FakeClock, notifier: Notifier, heard: Heard
) -> None:
    service = Service(clock, notifier, issuing(lease_of(some_credentials(), clock, hours=1)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async with running(service.keeper):
        service.life.store()
        heard.all()
        before = dict(heard.documents)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            service.life.store()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        heard.all()
        assert heard.documents == before

        service.life.store()
        heard.all()
        assert len(heard.documents) == 1
        assert heard.documents != before


async def test_without_systemd_nothing_is_kept(clock: FakeClock) -> None:
    service = Service(clock, Notifier(), issuing(lease_of(some_credentials(), clock, hours=1)))

    async with running(service.keeper):
        service.life.ready()
        service.life.stopping()

    assert service.life.restored == []
