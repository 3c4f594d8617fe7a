"""STS's errors, sorted: the tables of aws-api 3 and 10, row by row, and their messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sources.aws.errors import AwsError, DurationTooLong, RoleRefused, assume_role_error
from tests.support.sources import jwt_of, some_id_token, some_role

KEYS_NOT_READ = "Couldn't retrieve verification key from your identity provider, please reference"


def error_for(
    code: str | None, message: str = "because", *, status: int = 400, jwt: str = jwt_of({})
) -> SourceError:
    return assume_role_error(
        AwsError(code=code, message=message, status=status),
        role=some_role(),
        token=some_id_token(jwt),
        upstream="STS (eu-central-1)",
    )


@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        ("IDPCommunicationError", 400, "upstream-error"),
        ("IDPCommunicationErrorException", 400, "upstream-error"),
        ("ConcurrentModification", 409, "upstream-error"),
        ("OpenIdIdpCommunicationError", 400, "upstream-error"),
        ("InternalFailure", 500, "upstream-error"),
        ("ServiceUnavailable", 503, "upstream-error"),
        ("RequestTimeout", 408, "upstream-error"),
        ("RequestTimeout", 400, "upstream-error"),
        ("AccessDenied", 500, "upstream-error"),
        ("Throttling", 400, "throttled"),
        ("ThrottlingException", 400, "throttled"),
        ("ThrottledException", 400, "throttled"),
        ("RequestLimitExceeded", 400, "throttled"),
        ("TooManyRequestsException", 400, "throttled"),
        ("AccessDenied", 429, "throttled"),
        (None, 429, "throttled"),
        ("502", 502, "upstream-error"),
        (None, 403, "bad-answer"),
        ("404", 404, "bad-answer"),
        (None, 0, "bad-answer"),
    ],
)
def test_a_passing_fault_is_unavailable(code: str | None, status: int, word: str) -> None:
    error = error_for(code, status=status)

    assert type(error) is Unavailable
    assert error.word == word


def test_keys_that_aws_could_not_read_in_time_are_a_passing_fault() -> None:
    error = error_for("InvalidIdentityToken", KEYS_NOT_READ)

    assert type(error) is Unavailable


def test_a_wanted_pause_is_passed_on() -> None:
    fault = AwsError(code="Throttling", message="", status=400, retry_after_s=9)

    error = assume_role_error(fault, role=some_role(), token=some_id_token(), upstream="STS")

    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 9


@pytest.mark.parametrize(
    "code",
    [
        "ExpiredToken",
        "ExpiredTokenException",
        "IDPRejectedClaim",
        "IDPRejectedClaimException",
        "SessionDurationEscalationException",
    ],
)
def test_a_token_that_is_no_good_any_more_is_stale(code: str) -> None:
    assert isinstance(error_for(code), Stale)


@pytest.mark.parametrize(
    ("code", "message", "word", "told"),
    [
        (
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            "access-denied",
            [
                "arn:aws:iam::123456789012:role/deploy does not admit this identity",
                "sub='ws_1/i-abc'",
                "aud='sts.amazonaws.com'",
                "iss='https://federation.namespaceapis.com'",
                "its trust policy must allow sts:AssumeRoleWithWebIdentity",
                "arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com",
            ],
        ),
        ("AccessDeniedException", "no", "access-denied", ["does not admit"]),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://federation.nam…",
            "no-provider",
            [
                "account 123456789012 has no OIDC provider",
                "aws iam create-open-id-connect-provider --url "
                "https://federation.namespaceapis.com --client-id-list sts.amazonaws.com",
            ],
        ),
        (
            "InvalidIdentityToken",
            "Incorrect token audience",
            "invalid-identity-token",
            [
                "account 123456789012 does not take ID tokens for this audience: its OIDC provider "
                "does not list it as a client id",
                "add-client-id-to-open-id-connect-provider",
                "aud='sts.amazonaws.com'",
            ],
        ),
        (
            "InvalidIdentityToken",
            "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
            "invalid-identity-token",
            ["check the OIDC provider arn:aws:iam::123456789012:oidc-provider/", "clock"],
        ),
        (
            "RegionDisabledException",
            "STS is not activated in this region",
            "region-disabled",
            ["activate STS for eu-central-1 in account 123456789012", "roles.deploy.region"],
        ),
        (
            "PackedPolicyTooLarge",
            "120%",
            "bad-policy",
            ["shorten policy and policy_arns of roles."],
        ),
        ("PackedPolicyTooLargeException", "x", "bad-policy", ["shorten policy"]),
        (
            "MalformedPolicyDocument",
            "x",
            "bad-policy",
            ["correct policy and policy_arns of roles."],
        ),
        ("ValidationError", "Request ARN is invalid", "bad-request", ["check roles.deploy in the"]),
        ("MissingParameter", "x", "bad-request", ["check roles.deploy"]),
        ("SomethingNew", "x", "bad-request", ["check roles.deploy"]),
    ],
)
def test_a_refusal_says_what_was_presented_and_what_to_change(
    code: str, message: str, word: str, told: list[str]
) -> None:
    error = error_for(code, message)

    assert type(error) is (RoleRefused if word == "access-denied" else Refused)
    assert error.word == word
    assert all(part in str(error) for part in told), str(error)
    assert message in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        "1 validation error detected: Value '99999' at 'durationSeconds' failed to satisfy",
    ],
)
def test_a_duration_that_the_role_does_not_allow_is_told_apart(message: str) -> None:
    error = error_for("ValidationError", message)

    assert isinstance(error, DurationTooLong)
    assert "roles.deploy.duration_s" in str(error)


def test_another_partition_is_named_by_its_own_arn() -> None:
    role = some_role("arn:aws-cn:iam::123456789012:role/deploy")
    fault = AwsError(code="AccessDenied", message="", status=403)

    error = assume_role_error(fault, role=role, token=some_id_token(), upstream="STS")

    assert "arn:aws-cn:iam::123456789012:oidc-provider/" in str(error)


def test_a_token_that_sts_echoes_is_not_shown() -> None:
    jwt = jwt_of({"sub": "secret"})

    for code in ("AccessDenied", "InvalidIdentityToken", "ValidationError", "Throttling", "X"):
        error = error_for(code, f"bad token {jwt}\n" + "x" * 1000, jwt=jwt)
        assert jwt not in str(error)
        assert str(error).isprintable()


@given(
    code=some.none() | some.text(), message=some.text(max_size=400), status=some.integers(0, 999)
)
def test_any_fault_is_sorted(code: str | None, message: str, status: int) -> None:
    error = error_for(code, message, status=status)

    assert isinstance(error, Unavailable | Refused | Stale)
    assert str(error).isprintable()
