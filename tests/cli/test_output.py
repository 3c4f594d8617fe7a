"""Why leases are not live: each reason once in a table."""

from broker.cli.output import without_repeats


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
