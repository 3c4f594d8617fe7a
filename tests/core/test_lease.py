"""When to renew and how long to pause: rules on numbers, for every input."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from broker.lease import Lease, backoff_s, renew_at

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
jitters = st.floats(min_value=0, max_value=1)


@given(life_s=st.floats(min_value=1, max_value=10**6), jitter=jitters)
def test_a_lease_is_renewed_between_two_fifths_and_half_of_its_life(
    life_s: float, jitter: float
) -> None:
    life = timedelta(seconds=life_s)
    lease = Lease(value="x", issued_at=NOON, expires_at=NOON + life)

    due = renew_at(lease, jitter=jitter)

    assert due is not None
    assert NOON + life * 0.3999 <= due <= NOON + life * 0.5


def test_a_lease_without_end_is_never_due() -> None:
    assert renew_at(Lease(value="x", issued_at=NOON, expires_at=None), jitter=0) is None


@given(failures=st.integers(min_value=1, max_value=10**6), jitter=jitters)
def test_a_pause_is_never_shorter_than_half_the_first_nor_longer_than_the_longest(
    failures: int, jitter: float
) -> None:
    pause_s = backoff_s(failures, jitter=jitter, first_s=1, longest_s=60)

    assert 0.5 <= pause_s <= 60


@given(failures=st.integers(min_value=1, max_value=100))
def test_without_jitter_pauses_never_shrink(failures: int) -> None:
    earlier = backoff_s(failures, jitter=0, first_s=1, longest_s=60)
    later = backoff_s(failures + 1, jitter=0, first_s=1, longest_s=60)

    assert earlier <= later
