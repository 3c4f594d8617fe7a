"""Live leases outlive the process, by name and by how they were obtained."""

import json
from datetime import timedelta
from typing import Any

import pytest

from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.daemon.handover import (
    LeaseSnapshot,
    SnapshotEntry,
    Unreadable,
    decode,
    encode,
    newest,
    restore_leases,
    take_snapshot,
)
from broker.keeper import Keeper
from broker.lease import Lease, Refused
from tests.support.fakes import (
    FakeClock,
    ScriptedSource,
    holding,
    lease_of,
    running,
    settled,
    some_credentials,
)

ID_TOKEN = IdToken(
    jwt="a.secret.jwt", issuer="https://x", subject="ws/1", audience="aws", session_name="n"
)
NAMESPACE_TOKEN = NamespaceToken(bearer="nsct_secret", tenant_id="ws", instance_id=None)
FINGERPRINT = "as before"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def keeper_of(name: str, clock: FakeClock) -> Keeper[Any]:
    """Return one that has nothing yet, and whose upstream says no."""
    return Keeper(name, ScriptedSource(Refused("no")), clock=clock, jitter=lambda: 0.0)


def kept_as(name: str, lease: Lease[Any], *, in_doubt: bool = False) -> LeaseSnapshot:
    kept = SnapshotEntry(fingerprint=FINGERPRINT, lease=lease, in_doubt=in_doubt)
    return LeaseSnapshot(serial=1, leases={name: kept})


def begin_with(
    kept: LeaseSnapshot, keeper: Keeper[Any], clock: FakeClock, *, fingerprint: str = FINGERPRINT
) -> list[str]:
    return restore_leases(
        kept,
        [keeper],
        {keeper.name: fingerprint},
        is_in_doubt=lambda _: False,
        now=clock.now(),
    )


@pytest.mark.parametrize("value", [some_credentials(), ID_TOKEN, NAMESPACE_TOKEN])
@pytest.mark.parametrize("hours", [1, None])
async def test_a_lease_comes_back_as_it_was(
    clock: FakeClock, value: AwsCredentials | IdToken | NamespaceToken, hours: int | None
) -> None:
    ends_at = None if hours is None else clock.now() + timedelta(hours=hours)
    lease = Lease(value=value, issued_at=clock.now(), expires_at=ends_at)
    before = await holding("any", lease, clock)
    kept = take_snapshot([before], {"any": FINGERPRINT}, serial=7, now=clock.now())

    after = decode(encode(kept))

    assert after == kept
    assert after.leases["any"].lease == lease
    assert after.serial == 7


async def test_it_is_served_at_once_and_renewed_at_its_usual_time(clock: FakeClock) -> None:
    keeper = keeper_of("role/deploy", clock)
    lease = lease_of(some_credentials(), clock, hours=1)
    await clock.advance(minutes=10)

    restored = begin_with(kept_as("role/deploy", lease), keeper, clock)

    assert restored == ["role/deploy"]
    assert keeper.current() == lease
    status = keeper.status()
    assert (status.state, status.error) == ("live", None)
    assert status.renews_at == lease.issued_at + timedelta(minutes=30)


async def test_one_that_is_past_its_half_is_renewed_at_once(clock: FakeClock) -> None:
    lease = lease_of(some_credentials(), clock, hours=1)
    await clock.advance(minutes=40)
    source = ScriptedSource(lease_of(some_credentials(serial=2), clock, hours=1))
    keeper = Keeper("role/deploy", source, clock=clock)
    begin_with(kept_as("role/deploy", lease), keeper, clock)

    async with running(keeper):
        assert keeper.current().value == some_credentials(serial=2)


async def test_one_whose_renewal_had_failed_is_renewed_at_once(clock: FakeClock) -> None:
    source = ScriptedSource[AwsCredentials](
        lease_of(some_credentials(), clock, hours=1), Refused("no more")
    )
    keeper = Keeper("role/deploy", source, clock=clock)
    async with running(keeper):
        keeper.renew_now()
        await clock.advance(seconds=2)
    kept = take_snapshot([keeper], {"role/deploy": FINGERPRINT}, serial=1, now=clock.now())

    after = keeper_of("role/deploy", clock)
    begin_with(kept, after, clock)
    assert after.state() == "live"
    async with running(after):
        assert after.state() == "refused"
        assert after.current().value == some_credentials()


async def test_one_from_the_future_is_renewed_at_once(clock: FakeClock) -> None:
    keeper = keeper_of("role/deploy", clock)
    lease = lease_of(some_credentials(), clock, hours=1)
    clock.jump(hours=-2)

    begin_with(kept_as("role/deploy", lease), keeper, clock)

    assert keeper.status().renews_at == clock.now()


async def test_one_that_has_ended_is_left(clock: FakeClock) -> None:
    keeper = keeper_of("role/deploy", clock)
    lease = lease_of(some_credentials(), clock, hours=1)
    await clock.advance(hours=1)

    assert begin_with(kept_as("role/deploy", lease), keeper, clock) == []
    assert keeper.state() == "starting"


async def test_one_that_was_bought_otherwise_is_left(clock: FakeClock) -> None:
    keeper = keeper_of("role/deploy", clock)
    kept = kept_as("role/deploy", lease_of(some_credentials(), clock, hours=1))

    assert begin_with(kept, keeper, clock, fingerprint="another policy") == []
    assert keeper.state() == "starting"


async def test_one_of_another_name_is_left(clock: FakeClock) -> None:
    keeper = keeper_of("role/admin", clock)
    kept = kept_as("role/deploy", lease_of(some_credentials(), clock, hours=1))

    assert begin_with(kept, keeper, clock) == []


async def test_nobody_is_told_of_a_lease_that_came_back(clock: FakeClock) -> None:
    keeper = keeper_of("role/deploy", clock)
    heard: list[object] = []
    keeper.on_event = heard.append
    begin_with(kept_as("role/deploy", lease_of(some_credentials(), clock, hours=1)), keeper, clock)

    async with running(keeper):
        await settled()

    assert heard == []


async def test_what_holds_nothing_or_no_more_is_not_encode(clock: FakeClock) -> None:
    ended = await holding("role/b", lease_of(some_credentials(), clock, seconds=1), clock)
    refused: Keeper[Any] = await holding("role/c", Refused("no"), clock)
    await clock.advance(seconds=2)

    kept = take_snapshot([ended, refused], {}, serial=1, now=clock.now())

    assert kept.leases == {}


async def test_of_two_documents_the_newer_counts(clock: FakeClock) -> None:
    lease = lease_of(some_credentials(), clock, hours=1)
    older, newer = (
        encode(LeaseSnapshot(serial=9)),
        encode(LeaseSnapshot(serial=10, leases=kept_as("role/deploy", lease).leases)),
    )

    name, kept = newest({"leases-a": newer, "leases-b": older}, warn=pytest.fail)

    assert (name, kept.serial, list(kept.leases)) == ("leases-a", 10, ["role/deploy"])


def test_where_there_is_none_there_is_nothing() -> None:
    assert newest({}, warn=pytest.fail) == (None, LeaseSnapshot())


WHOLE = {
    "name": "role/deploy",
    "fingerprint": FINGERPRINT,
    "in_doubt": False,
    "kind": "namespace-token",
    "value": {"bearer": "nsct_secret", "tenant_id": None, "instance_id": None},
    "issued_at": "2030-01-02T03:04:05+00:00",
    "expires_at": None,
}


def document_with(**instead: object) -> bytes:
    return json.dumps({"version": 1, "serial": 1, "leases": [{**WHOLE, **instead}]}).encode()


def test_the_document_of_these_tests_is_a_whole_one() -> None:
    assert decode(document_with()).leases["role/deploy"].lease.value.bearer == "nsct_secret"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"[" * 100_000,
        b'{"version": 1}',
        b'{"version": 1, "serial": "x", "leases": []}',
        b'{"version": 1, "serial": Infinity, "leases": []}',
        b'{"version": 1, "serial": 1, "leases": {"a": 1}}',
        b'{"version": 2, "serial": 1, "leases": []}',
        document_with(kind="key"),
        document_with(kind=[]),
        document_with(value={"bearer": 7}),
        document_with(value={"bearer": None}),
        document_with(value={"key": "nsct_secret"}),
        document_with(value="nsct_secret"),
        document_with(issued_at="nsct_secret"),
        document_with(issued_at="2030-01-02T03:04:05"),
        document_with(issued_at=None),
        document_with(expires_at=7),
    ],
)
def test_a_document_that_cannot_be_read_is_a_warning_without_its_secrets(document: bytes) -> None:
    warnings: list[str] = []

    name, kept = newest({"leases-b": document}, warn=warnings.append)

    assert (name, kept) == (None, LeaseSnapshot())
    (warning,) = warnings
    assert "leases-b" in warning
    assert "secret" not in warning
    with pytest.raises(Unreadable):
        decode(document)


async def test_no_secret_is_in_their_repr(clock: FakeClock) -> None:
    kept = kept_as("role/deploy", lease_of(some_credentials(), clock, hours=1))

    assert "secret/of" not in repr(kept)
