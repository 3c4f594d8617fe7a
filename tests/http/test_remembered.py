"""Remembered answers are the answers that would be computed, and are reported like them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.access.caller import Caller
from broker.credentials import AwsCredentials
from broker.http.bind import bind
from broker.http.message import Answer, Exchange, Request, Surface
from broker.http.remembered import RememberedAnswers
from broker.http.server import Server, serving
from broker.lease import Lease, NotReady
from broker.surfaces.documents import LeaseHolder
from broker.surfaces.session_tokens import SessionKeys
from tests.support.fakes import START, FakeClock
from tests.support.http_plain import GET, Plain
from tests.support.surfaces import (
    ALICE,
    DEPLOY_AND_AUDIT,
    SECRET,
    Rule,
    a_container,
    an_imds,
    lease_for,
    session_token,
)
from tests.support.wire import Served, Wire

TOKEN = b"X-aws-ec2-metadata-token: "
HOST = b"Host: 169.254.169.254\r\n"


class Computed:
    """A surface none of whose answers may be remembered."""

    def __init__(self, surface: Surface) -> None:
        self.name = surface.name
        self.nothing_to_serve = surface.nothing_to_serve
        self.bad_request = surface.bad_request
        self.head_too_long = surface.head_too_long
        self._surface = surface

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        answer = self._surface.answer(request, caller, now=now)
        return replace(answer, unchanged_until=None)


@dataclass
class Renewable:
    """A keeper whose lease the test replaces."""

    clock: FakeClock
    lease: Lease[AwsCredentials] = field(default_factory=lease_for)

    def current(self, *, now: datetime | None = None) -> Lease[AwsCredentials]:
        if not self.lease.is_live(now=now or self.clock.now()):
            raise NotReady("sts is down")
        return self.lease

    def attempt(self, *, now: datetime) -> None:
        """Say that none is under way."""

    def renew(self, serial: int) -> None:
        self.lease = lease_for(serial=serial, issued_at=self.clock.now(), life=timedelta(seconds=3))


@dataclass
class Pair:
    """The same surface twice: once with remembered answers, once with computed ones."""

    servers: tuple[Server, Server]
    wires: tuple[Wire, Wire]

    async def ask(self, raw: bytes) -> tuple[bytes, bytes]:
        remembered, computed = [await wire.send(raw) for wire in self.wires]
        return remembered.head + remembered.body, computed.head + computed.body

    def forget(self) -> None:
        self.servers[0].forget_answers()

    def change(self, surface: Surface) -> None:
        self.servers[0].change(surface)
        self.servers[1].change(Computed(surface))


@asynccontextmanager
async def both(surface: Surface, clock: FakeClock) -> AsyncIterator[Pair]:
    listeners = [bind("127.0.0.1", 0) for _ in range(2)]
    places = [Served(*listener.getsockname()) for listener in listeners]
    caller = lambda _, __: ALICE  # noqa: E731
    async with (
        serving(surface, listeners[:1], clock=clock, caller_of=caller) as first,
        serving(Computed(surface), listeners[1:], clock=clock, caller_of=caller) as second,
        places[0].wire() as one,
        places[1].wire() as other,
    ):
        yield Pair((first, second), (one, other))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 4)),
        st.tuples(st.just("ask"), st.integers(0, 4)),
        st.tuples(st.just("pass"), st.sampled_from([1, 3, 250, 400, 600, 999, 1000, 2000, -300])),
        st.tuples(st.just("renew"), st.integers(2, 99)),
        st.tuples(st.just("reload"), st.integers(0, 1)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 999))
async def test_remembered_imds_answers_are_the_computed_ones(
    steps: list[tuple[str, int]], begin_ms: int
) -> None:
    clock = FakeClock(START + timedelta(milliseconds=begin_ms))
    keeper = Renewable(clock)
    keepers: dict[str, LeaseHolder[AwsCredentials]] = {"deploy": keeper}
    keys = SessionKeys.in_memory(now=START)
    rules = (Rule(DEPLOY_AND_AUDIT), Rule(DEPLOY_AND_AUDIT, only_uid=4242))
    imds = [an_imds(keepers, rules=each, keys=keys) for each in rules]
    tokens = [session_token(imds[0], now=clock.now()).encode() for _ in range(2)]
    role = b"/latest/meta-data/iam/security-credentials/"
    asked = [
        b"GET "
        + path
        + b" HTTP/1.1\r\n"
        + HOST
        + b"X-aws-ec2-metadata-token: "
        + token
        + b"\r\n\r\n"
        for path, token in [
            (role, tokens[0]),
            (role + b"deploy", tokens[0]),
            (role + b"deploy", tokens[1]),
            (b"/latest/meta-data/", tokens[0]),
            (role + b"deploy", b"not-a-token"),
        ]
    ]

    async with both(imds[0], clock) as pair:
        for what, which in steps:
            if what == "ask":
                remembered, computed = await pair.ask(asked[which])
                assert remembered == computed
            elif what == "pass":
                clock.jump(seconds=which / 1000)
            elif what == "renew":
                keeper.renew(which)
                pair.forget()
            else:
                pair.change(imds[which])


@settings(max_examples=40)
@given(STEPS, st.integers(0, 999))
async def test_remembered_container_answers_are_the_computed_ones(
    steps: list[tuple[str, int]], begin_ms: int
) -> None:
    clock = FakeClock(START + timedelta(milliseconds=begin_ms))
    keeper = Renewable(clock)
    keepers: dict[str, LeaseHolder[AwsCredentials]] = {"deploy": keeper}
    rules = (Rule(DEPLOY_AND_AUDIT), Rule(DEPLOY_AND_AUDIT, only_uid=4242))
    containers = [a_container(keepers, rules=each) for each in rules]
    secret = SECRET.encode()
    asked = [
        b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"Authorization: " + token + b"\r\n\r\n"
        for path, token in [
            (b"/creds", secret),
            (b"/role/deploy", secret),
            (b"/role/none", secret),
            (b"/creds", b"wrong"),
            (b"//creds", secret),
        ]
    ]

    async with both(containers[0], clock) as pair:
        for what, which in steps:
            if what == "ask":
                remembered, computed = await pair.ask(asked[which])
                assert remembered == computed
            elif what == "pass":
                clock.jump(seconds=which / 1000)
            elif what == "renew":
                keeper.renew(which)
                pair.forget()
            else:
                pair.change(containers[which])


class Repeats(Plain):
    """Answers may be remembered for a minute."""

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        answer = super().answer(request, caller, now=now)
        return replace(answer, unchanged_until=now + timedelta(minutes=1))


@asynccontextmanager
async def repeating(
    surface: Surface, clock: FakeClock, reports: list[Exchange], *, callers: list[Caller]
) -> AsyncIterator[Served]:
    listener = bind("127.0.0.1", 0)
    async with serving(
        surface,
        [listener],
        clock=clock,
        caller_of=lambda _, __: callers.pop(0),
        on_exchange=reports.append,
    ):
        yield Served(*listener.getsockname())


async def test_a_remembered_answer_is_reported_with_the_caller_who_asked() -> None:
    surface, reports = Repeats(), list[Exchange]()
    first, second = (Caller(uid=1, inode=inode) for inode in (10, 20))

    async with repeating(surface, FakeClock(), reports, callers=[first, second]) as place:
        replies = [await place.ask(GET) for _ in range(2)]

    assert replies[0].head == replies[1].head
    assert len(surface.requests) == 1
    assert [each.caller for each in reports] == [first, second]
    assert [each.request.path for each in reports] == ["/", "/"]


async def test_nothing_is_remembered_across_callers_or_seconds() -> None:
    surface, clock = Repeats(), FakeClock()
    callers = [Caller(uid=1), Caller(uid=2), Caller(uid=1, unit="ci.service"), Caller(uid=1)]

    async with repeating(surface, clock, [], callers=list(callers)) as place:
        for _ in range(3):
            await place.ask(GET)
        await clock.advance(seconds=1)
        await place.ask(GET)

    assert surface.callers == callers


async def test_a_request_that_arrives_in_pieces_is_neither_remembered_nor_recalled() -> None:
    surface = Repeats()

    async with repeating(surface, FakeClock(), [], callers=[ALICE]) as place, place.wire() as wire:
        await wire.send(GET)
        await wire.write(GET[:10])
        await wire.write(GET[10:])
        await wire.read()
        await wire.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\n")
        reply = await wire.send(GET)  # as a body

    assert [request.method for request in surface.requests][-1] == "PUT"
    assert reply.body == b'["PUT", "/", ""]'


def remember(answers: RememberedAnswers, key: bytes, sent: bytes) -> None:
    answer = Answer(status=200, unchanged_until=START + timedelta(hours=1))
    request = Request(method="GET", path="/")
    answers.add(((), key), request, answer, sent, at=START, close=False)


def test_a_full_memory_forgets_and_refuses_nothing() -> None:
    by_number, by_bytes = RememberedAnswers(max_entries=2), RememberedAnswers(max_bytes=100)

    for key in (b"1", b"2", b"3"):
        remember(by_number, key, b"x")
        remember(by_bytes, key, b"x" * 60)

    assert [key for _, key in by_number] == [b"3"]
    assert [key for _, key in by_bytes] == [b"3"]


def test_an_answer_larger_than_the_memory_is_not_kept() -> None:
    answers = RememberedAnswers(max_bytes=10)

    remember(answers, b"1", b"x" * 60)

    assert not answers
