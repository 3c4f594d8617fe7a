"""What probes read: alive, ready, metrics; and no secret, ARN or upstream text in any of it."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.access.caller import Caller
from broker.credentials import AwsCredentials
from broker.http.guard import Guard
from broker.http.message import Answer, Request
from broker.keeper import Keeper
from broker.lease import Refused, Unavailable
from broker.surfaces.ops import Ops
from broker.telemetry.events import Telemetry
from broker.telemetry.log import logger
from broker.telemetry.metrics import Metrics, outage_budget_s
from tests.support.fakes import (
    FakeClock,
    ScriptedSource,
    holding,
    lease_of,
    running,
    some_credentials,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def ops_of(*keepers: Keeper[AwsCredentials], clock: FakeClock) -> Ops:
    metrics = Metrics(keepers, clock=clock)
    return Ops(keepers=keepers, guard=Guard(), metrics=metrics.text)


def ask(ops: Ops, path: str, clock: FakeClock, *, host: str = "127.0.0.1:8171") -> Answer:
    request = Request(method="GET", path=path, headers=(("host", host),))
    return ops.answer(request, Caller(), now=clock.now())


async def deploy(clock: FakeClock) -> Keeper[AwsCredentials]:
    return await holding("role/deploy", lease_of(some_credentials(), clock, hours=1), clock)


async def test_a_broker_is_ready_when_every_lease_is_live(clock: FakeClock) -> None:
    ops = ops_of(await deploy(clock), clock=clock)

    answer = ask(ops, "/readyz", clock)

    assert answer.status == 200
    (lease,) = json.loads(answer.body)["leases"]
    assert set(lease) == {"name", "state", "expires_at", "renews_at", "error"}
    assert (lease["name"], lease["state"], lease["error"]) == ("role/deploy", "live", None)


async def test_it_is_not_ready_while_a_token_file_is_not_written(clock: FakeClock) -> None:
    keeper, written = await deploy(clock), False
    ops = Ops(
        keepers=[keeper],
        guard=Guard(),
        metrics=Metrics([keeper], clock=clock).text,
        files_written=lambda: written,
    )

    assert ask(ops, "/readyz", clock).status == 503
    assert ask(ops, "/readyz/deploy", clock).status == 200
    written = True
    assert ask(ops, "/readyz", clock).status == 200


async def test_it_stays_ready_through_an_outage_while_the_old_lease_lives(
    clock: FakeClock,
) -> None:
    source = ScriptedSource(
        lease_of(some_credentials(), clock, hours=1), Unavailable("secret words", word="timeout")
    )
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        ops = ops_of(keeper, clock=clock)
        await clock.advance(minutes=40)

        answer = ask(ops, "/readyz", clock)

    assert answer.status == 200
    assert b'"unavailable"' in answer.body
    assert b'"timeout"' in answer.body
    assert b"secret words" not in answer.body


async def test_a_refusal_is_not_ready_though_its_old_lease_is_served(clock: FakeClock) -> None:
    source = ScriptedSource(
        lease_of(some_credentials(), clock, hours=1), Refused("arn:aws:iam::1:role/x says no")
    )
    async with running(Keeper("role/deploy", source, clock=clock)) as keeper:
        ops = ops_of(keeper, clock=clock)
        await clock.advance(minutes=40)

        answer = ask(ops, "/readyz", clock)

    assert answer.status == 503
    assert b"arn:" not in answer.body


async def test_readyz_of_one_lease_takes_its_name_or_a_roles_bare_name(clock: FakeClock) -> None:
    refused: Keeper[AwsCredentials] = await holding("role/other", Refused("no"), clock)
    ops = ops_of(await deploy(clock), refused, clock=clock)

    answers = {
        name: ask(ops, f"/readyz/{name}", clock).status
        for name in ("deploy", "role/deploy", "other", "nobody")
    }

    assert answers == {"deploy": 200, "role/deploy": 200, "other": 503, "nobody": 404}


async def test_alive_means_the_event_loop_turns_whatever_the_leases(clock: FakeClock) -> None:
    ops = ops_of(await holding("role/deploy", Refused("no"), clock), clock=clock)

    assert ask(ops, "/healthz", clock).status == 200


async def test_a_foreign_host_is_refused(clock: FakeClock) -> None:
    ops = ops_of(await deploy(clock), clock=clock)

    assert ask(ops, "/metrics", clock, host="evil.example").status == 403


async def test_every_metric_of_the_interface_is_there_under_its_name(clock: FakeClock) -> None:
    keeper = await deploy(clock)
    metrics = Metrics([keeper], clock=clock)
    telemetry = Telemetry(log=logger(form="json", level="error"), metrics=metrics, clock=clock)
    source = ScriptedSource(
        lease_of(some_credentials(), clock, hours=1), Unavailable("x"), Refused("y")
    )
    watched = Keeper("role/deploy", source, clock=clock, on_event=telemetry.on_event)
    async with running(watched):
        await clock.advance(hours=2)
    metrics.count_request("imds", "token", 200, "none", 0.001)
    metrics.count_refusal("imds", "host")

    samples = {
        (sample.name, tuple(sorted(sample.labels)))
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }

    prefix = "namespace_broker_"
    assert {
        (prefix + "lease_expires_timestamp_seconds", ("lease",)),
        (prefix + "lease_state", ("lease", "state")),
        (prefix + "lease_renewals_total", ("lease", "outcome")),
        (prefix + "lease_renewal_duration_seconds_count", ("lease",)),
        (prefix + "outage_budget_seconds", ()),
        (prefix + "requests_total", ("role", "route", "status", "surface")),
        (prefix + "request_duration_seconds_count", ("surface",)),
        (prefix + "callers_refused_total", ("reason", "surface")),
        (prefix + "build_info", ("version",)),
        (prefix + "audit_dropped_total", ()),
        (prefix + "log_dropped_total", ()),
        ("process_resident_memory_bytes", ()),
    } <= samples


async def test_the_outage_budget_is_the_first_death_and_zero_without_a_lease(
    clock: FakeClock,
) -> None:
    long = await deploy(clock)
    short = await holding("role/short", lease_of(some_credentials(), clock, minutes=15), clock)
    none: Keeper[AwsCredentials] = await holding("role/none", Refused("no"), clock)

    assert outage_budget_s([long, short], now=clock.now()) == 900
    assert outage_budget_s([long, none], now=clock.now()) == 0


async def test_metrics_are_rendered_at_most_once_a_second(
    clock: FakeClock,
) -> None:
    written: list[int] = []

    def text() -> bytes:
        written.append(len(written))
        return str(len(written)).encode()

    ops = Ops(keepers=[], guard=Guard(), metrics=text)

    bodies = [ask(ops, "/metrics", clock).body for _ in range(3)]
    clock.jump(seconds=1)
    bodies.append(ask(ops, "/metrics", clock).body)
    clock.jump(seconds=-60)
    bodies.append(ask(ops, "/metrics", clock).body)

    assert bodies == [b"1", b"1", b"1", b"2", b"3"]
