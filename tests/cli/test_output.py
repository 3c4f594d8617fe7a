"""Why leases are not live: each reason once in a table."""

import pytest

from broker.cli.output import span, without_repeats


def test_what_only_waits_for_another_lease_names_it() -> None:
    reasons = without_repeats(
        [
            ("identity/default", "the token ended; is its writer running?"),
            ("role/deploy", "identity/default: the token ended; is its writer running?"),
        ]
    )

    assert reasons == ["the token ended; is its writer running?", "waits for identity/default"]


def test_a_reason_of_its_own_and_that_of_a_lease_not_shown_stay_whole() -> None:
    reasons = without_repeats(
        [
            ("identity/default", ""),
            ("role/deploy", "STS: no answer within 20 s"),
            ("role/other", "identity/default: ended"),
            ("role/live", ""),
        ]
    )

    assert reasons == ["", "STS: no answer within 20 s", "identity/default: ended", ""]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h 59 min"),
        (604680, "6 d 23 h"),
        (864000, "10 d"),
    ],
)
def test_a_length_of_time_has_at_most_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
