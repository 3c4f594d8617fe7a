"""AWS's refusals to issue a token, sorted: the tables of aws-api 5 and 7, row by row."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sources.aws.errors import (
    AwsError,
    OutlivesSession,
    developer_token_error,
    web_identity_error,
)

Sort = Callable[[AwsError], SourceError]

POOL = "eu-central-1:6f0a"


def by_sts(fault: AwsError) -> SourceError:
    return web_identity_error(fault, "STS (eu-central-1)", audience="https://aud.example")


def by_cognito(fault: AwsError) -> SourceError:
    login = ("namespace.so", "ws_1")
    return developer_token_error(fault, "Cognito (eu-central-1)", pool_id=POOL, login=login)


SORTED = pytest.mark.parametrize("sort", [by_sts, by_cognito])


def fault_of(code: str | None, status: int = 400, *, message: str = "because") -> AwsError:
    return AwsError(code=code, message=message, status=status)


@SORTED
@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        ("InternalErrorException", 500, "upstream-error"),
        ("InternalFailure", 500, "upstream-error"),
        ("ServiceUnavailable", 503, "upstream-error"),
        ("RequestTimeout", 408, "upstream-error"),
        ("AccessDenied", 500, "upstream-error"),
        ("Throttling", 400, "throttled"),
        ("ThrottlingException", 400, "throttled"),
        ("RequestLimitExceeded", 400, "throttled"),
        ("TooManyRequestsException", 400, "throttled"),
        (None, 429, "throttled"),
        ("502", 502, "upstream-error"),
        (None, 403, "bad-answer"),
        ("404", 404, "bad-answer"),
    ],
)
def test_a_passing_fault_is_unavailable(
    sort: Sort, code: str | None, status: int, word: str
) -> None:
    error = sort(fault_of(code, status))

    assert (type(error), error.word) == (Unavailable, word)


@SORTED
@pytest.mark.parametrize(
    "code",
    [
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClient",
        "UnrecognizedClientException",
    ],
)
def test_credentials_that_are_no_good_any_more_are_stale(sort: Sort, code: str) -> None:
    assert type(sort(fault_of(code, 403))) is Stale


@pytest.mark.parametrize(
    ("code", "word", "told"),
    [
        (
            "OutboundWebIdentityFederationDisabledException",
            "federation-disabled",
            [
                "`namespace-broker setup to-namespace --via sts`",
                "`aws iam enable-outbound-web-identity-federation`",
            ],
        ),
        ("JWTPayloadSizeExceededException", "bad-request", ["too large", "fewer tags"]),
        (
            "AccessDenied",
            "access-denied",
            [
                "allow sts:GetWebIdentityToken for the audience https://aud.example",
                "`namespace-broker setup to-namespace --via sts`",
            ],
        ),
        ("AccessDeniedException", "access-denied", ["allow sts:GetWebIdentityToken"]),
        ("RegionDisabledException", "region-disabled", ["activate STS", "another region"]),
        ("InvalidAction", "bad-request", ["AWS_ENDPOINT_URL_STS", "region"]),
        ("SignatureDoesNotMatch", "access-denied", ["this machine's clock"]),
        ("ValidationError", "bad-request", ["check the identity's audience, algorithm and"]),
        ("SomethingNew", "bad-request", ["check the identity's audience"]),
    ],
)
def test_a_refusal_by_sts_says_what_to_change(code: str, word: str, told: list[str]) -> None:
    error = by_sts(fault_of(code, 403))

    assert (type(error), error.word) == (Refused, word)
    assert all(part in str(error) for part in told), str(error)
    assert f"STS (eu-central-1) answered {code}: because; " in str(error)


def test_a_token_that_would_outlive_the_session_is_told_apart() -> None:
    error = by_sts(fault_of("SessionDurationEscalationException", 403))

    assert isinstance(error, OutlivesSession)
    assert "renew them" in str(error)


@pytest.mark.parametrize(
    ("code", "word", "told"),
    [
        (
            "ResourceNotFoundException",
            "not-found",
            [f"no identity pool {POOL}", "`namespace-broker setup to-namespace --via cognito`"],
        ),
        (
            "NotAuthorizedException",
            "access-denied",
            [f"{POOL} takes no login namespace.so = ws_1", "workspace"],
        ),
        (
            "InvalidParameterException",
            "bad-request",
            [f"{POOL} must have the developer provider namespace.so"],
        ),
        ("ResourceConflictException", "bad-request", ["takes no login namespace.so = ws_1"]),
        ("DeveloperUserAlreadyRegisteredException", "bad-request", ["takes no login"]),
        (
            "AccessDeniedException",
            "access-denied",
            ["allow cognito-identity:GetOpenIdTokenForDeveloperIdentity on", POOL],
        ),
        ("InvalidSignatureException", "access-denied", ["this machine's clock"]),
        ("ValidationException", "bad-request", ["check the identity's identity_pool"]),
        ("LimitExceededException", "bad-request", ["check the identity's identity_pool"]),
    ],
)
def test_a_refusal_by_cognito_says_what_to_change(code: str, word: str, told: list[str]) -> None:
    error = by_cognito(fault_of(code))

    assert (type(error), error.word) == (Refused, word)
    assert all(part in str(error) for part in told), str(error)
    assert f"Cognito (eu-central-1) answered {code}: because; " in str(error)


@SORTED
def test_a_wanted_pause_is_passed_on(sort: Sort) -> None:
    error = sort(AwsError(code="Throttling", message="", status=400, retry_after_s=9))

    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 9


@SORTED
@given(
    code=some.none() | some.text(), message=some.text(max_size=400), status=some.integers(0, 999)
)
def test_any_fault_is_sorted(sort: Sort, code: str | None, message: str, status: int) -> None:
    error = sort(fault_of(code, status, message=message))

    assert isinstance(error, Unavailable | Refused | Stale)
    assert str(error).isprintable()
