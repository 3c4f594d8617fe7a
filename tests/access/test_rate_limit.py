"""Slow questions cannot take all of the broker's time."""

import pytest

from broker.access.rate_limit import MOST_USERS, RateLimit


class Watch:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_spent_budget_grows_again_with_time(watch: Watch) -> None:
    limit = RateLimit(share=0.1, burst_s=1.0, monotonic=watch)

    limit.spend(1000, 1.5)

    assert not limit.allows(1000)
    watch.at_s += 4.9
    assert not limit.allows(1000)
    watch.at_s += 0.2
    assert limit.allows(1000)


def test_one_users_spending_costs_no_other_user(watch: Watch) -> None:
    limit = RateLimit(monotonic=watch)

    limit.spend(1000, 60)

    assert limit.allows(1001)


def test_a_budget_never_exceeds_the_burst(watch: Watch) -> None:
    limit = RateLimit(share=0.1, burst_s=1.0, monotonic=watch)
    limit.spend(1000, 0.5)

    watch.at_s += 3600
    limit.spend(1000, 1.0)

    assert not limit.allows(1000)


def test_root_is_never_limited(watch: Watch) -> None:
    limit = RateLimit(monotonic=watch)

    limit.spend(0, 3600)

    assert limit.allows(0)


def test_users_with_a_full_budget_are_forgotten(watch: Watch) -> None:
    limit = RateLimit(monotonic=watch)
    for uid in range(1, MOST_USERS + 1):
        limit.spend(uid, 0.1)
    limit.spend(5000, 3600)

    watch.at_s += 60
    limit.spend(1, 0.1)

    assert len(limit._spent) == 2
    assert not limit.allows(5000)
