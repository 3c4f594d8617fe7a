"""Who is served, who waits and who gives way, without a socket."""

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from broker.http.limits import ConnectionLimiter

_order = itertools.count()


@dataclass(eq=False)
class Guest:
    """A connection that does as it is told, and leaves when it is ended."""

    limit_key: str
    limiter: ConnectionLimiter = field(repr=False)
    is_exempt: bool = False
    is_idle: bool = False
    served_at: float = field(default_factory=lambda: float(next(_order)))
    state: str = "new"

    def enter(self) -> "Guest":
        place = self.limiter.enter(self)
        if self.state == "new":
            self.state = place
        return self

    def admit(self) -> None:
        self.state = "served"
        self.served_at = float(next(_order))

    def end(self, *, refused: bool) -> None:
        self.state = "rejected"
        self.limiter.leave(self)

    def leave(self) -> None:
        self.state = "left"
        self.limiter.leave(self)


MOST, EACH = 5, 2

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(["a", "b", "c", "d", "root"])),
        st.tuples(st.just("leave"), st.integers(min_value=0, max_value=40)),
        st.tuples(st.just("asks"), st.integers(min_value=0, max_value=40)),
        st.tuples(st.just("room"), st.just(0)),
    ),
    max_size=60,
)


def count(guests: list[Guest], state: str, limit_key: str | None = None) -> int:
    return sum(guest.state == state and limit_key in (None, guest.limit_key) for guest in guests)


@given(STEPS)
async def test_whatever_comes_and_goes_the_limits_hold_and_nobody_waits_for_nothing(
    steps: list[tuple[str, str | int]],
) -> None:
    limiter = ConnectionLimiter(connections=MOST, per_caller=EACH)
    guests: list[Guest] = []

    for what, which in steps:
        if isinstance(which, str):
            newcomer = Guest(which, limiter, is_exempt=which == "root")
            had_none = not count(guests, "served", which) and not count(guests, "queued", which)
            guests.append(newcomer.enter())
            assert not had_none or newcomer.state == "served"
        elif what == "room":
            limiter.make_room()
        elif which < len(guests) and guests[which].state in ("served", "queued"):
            if what == "leave":
                guests[which].leave()
            else:
                guests[which].served_at = float(next(_order))

        assert limiter.served == count(guests, "served") <= MOST
        assert limiter.queued == count(guests, "queued") <= MOST
        for limit_key in "abcd":
            assert count(guests, "served", limit_key) <= EACH
            if limiter.served < MOST and count(guests, "queued", limit_key):
                assert count(guests, "served", limit_key) == EACH
        assert count(guests, "queued", "root") == 0


async def test_a_caller_whose_connections_made_way_is_served_in_the_order_of_coming() -> None:
    limiter = ConnectionLimiter(connections=3, per_caller=2)
    first, _second, waiting = (Guest("a", limiter).enter() for _ in range(3))
    for other in ("b", "c"):
        Guest(other, limiter).enter()
    assert (first.state, waiting.state) == ("rejected", "queued")

    newest = Guest("a", limiter).enter()

    assert (waiting.state, newest.state) == ("served", "queued")


async def test_of_those_queued_the_last_of_whoever_has_the_most_is_rejected() -> None:
    limiter = ConnectionLimiter(connections=4, per_caller=2)
    a = [Guest("a", limiter).enter() for _ in range(4)]
    b = [Guest("b", limiter).enter() for _ in range(4)]
    assert [each.state for each in (*a, *b)] == ["served", "served", "queued", "queued"] * 2
    for guest in (a[0], b[0]):
        guest.served_at = -1.0
    c = [Guest("c", limiter).enter() for _ in range(2)]

    last = Guest("c", limiter).enter()

    assert [each.state for each in (*c, last)] == ["served", "served", "queued"]
    assert count([*a, *b], "queued") == 3


async def test_what_cannot_be_opened_for_want_of_room_makes_room_among_the_queued_first() -> None:
    limiter = ConnectionLimiter(connections=1, per_caller=1)
    served, first, second = (Guest("a", limiter).enter() for _ in range(3))
    assert (served.state, first.state, second.state) == ("served", "queued", "rejected")

    limiter.make_room()
    after_one = (served.state, first.state)
    limiter.make_room()
    limiter.make_room()

    assert after_one == ("served", "rejected")
    assert served.state == "rejected"


async def test_other_limits_hold_at_once_and_who_waited_for_them_is_served() -> None:
    limiter = ConnectionLimiter(connections=4, per_caller=1)
    a = [Guest("a", limiter).enter() for _ in range(2)]
    others = [Guest(name, limiter).enter() for name in "bcd"]

    limiter.resize(connections=5, per_caller=2)
    assert [guest.state for guest in (*a, *others)] == ["served"] * 5

    limiter.resize(connections=2, per_caller=2)
    assert limiter.served == count([*a, *others], "served") == 2
