"""Sort AWS's refusals: which are passing; of AssumeRoleWithWebIdentity also which are final, which
mean a stale token, and what to do. Pure: knows codes and statuses, no library."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker import aws
from broker.credentials import IdToken, Role
from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sources.aws.durations import DurationTooLong
from broker.sources.redact import redacted

_PASSING: Final = frozenset(
    {
        "ConcurrentModification",
        "IDPCommunicationError",
        "InternalError",
        "InternalFailure",
        "OpenIdIdpCommunicationError",
        "RequestTimeout",
        "ServiceFailure",
        "ServiceUnavailable",
    }
)
_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "TooManyRequests",
    }
)
_STALE: Final = frozenset({"ExpiredToken", "IDPRejectedClaim", "SessionDurationEscalation"})
"""Codes without the ending "Exception", which some carry on the wire. Source: aws-api 10."""


_ENDED = frozenset({"ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient"})
"""Codes, without the ending "Exception", for the caller's own credentials. Source: aws-api 4, 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsError:
    """What a service said. ``code`` is None, or the status as text, where it was no AWS error."""

    code: str | None
    message: str
    status: int
    retry_after_s: float | None = None

    @property
    def plain_code(self) -> str:
        return (self.code or "").removesuffix("Exception")

    @property
    def is_an_aws_error(self) -> bool:
        return bool(self.code) and not (self.code or "").isdigit()


class RoleRefused(Refused):
    """The role does not admit this identity; AWS does not say why. ``what`` is what it said."""

    def __init__(self, message: str, *, word: str, what: str) -> None:
        super().__init__(message, word=word)
        self.what = what


def assume_role_error(fault: AwsError, *, role: Role, token: IdToken, of: str) -> SourceError:
    """Return the error for a refused AssumeRoleWithWebIdentity, to be raised.

    Source: aws-api 2.4, 3, 10.
    """
    what = describe(fault, of=of, hiding=[token.jwt])
    passing = transient_error(fault, what, of=of, endpoint_named_by="AWS_ENDPOINT_URL_STS")
    if passing is not None:
        return passing
    if fault.plain_code in _STALE:
        return Stale(what)
    return _refused(fault, what, role, token)


def caller_has_expired(fault: AwsError) -> bool:
    """Say whether the credentials that signed have ended, or are not known any more."""
    return fault.plain_code in _ENDED


def describe(fault: AwsError, *, of: str, hiding: Iterable[str] = ()) -> str:
    """Return, for an error, what *of* said, without what is to be hidden."""
    message = redacted(fault.message, hiding=hiding)
    return f"{of} answered {redacted(fault.code)}{': ' if message else ''}{message}"


def transient_error(
    fault: AwsError, what: str, *, of: str, endpoint_named_by: str
) -> Unavailable | None:
    """Return the error for what may go well when asked again, None for a proper answer.

    Source: aws-api 2.4, 10.
    """
    if _is_throttling(fault):
        return Unavailable(what, word="throttled", retry_after_s=fault.retry_after_s)
    if fault.status >= 500 or fault.status == 408 or _is_passing(fault):
        return Unavailable(what, word="upstream-error", retry_after_s=fault.retry_after_s)
    if not fault.is_an_aws_error:
        return Unavailable(
            f"{of} answered HTTP {fault.status} without an AWS error; "
            f"is that AWS, or a proxy? check {endpoint_named_by} if it stays so",
            word="bad-answer",
        )
    return None


def _is_throttling(fault: AwsError) -> bool:
    code = fault.plain_code
    return fault.status == 429 or code.startswith("Throttl") or code in _THROTTLED


def _is_passing(fault: AwsError) -> bool:
    # Reported as intermittent: AWS did not get the issuer's keys in time.
    keys_not_read = (
        fault.plain_code == "InvalidIdentityToken"
        and "retrieve verification key" in fault.message.lower()
    )
    return keys_not_read or fault.plain_code in _PASSING


def _refused(fault: AwsError, what: str, role: Role, token: IdToken) -> Refused:
    if fault.plain_code == "ValidationError" and "durationseconds" in fault.message.lower():
        return DurationTooLong(f'{what}; set a shorter roles.{role.name}.duration_s, or "max"')
    if fault.plain_code.startswith("AccessDenied"):
        return _not_admitted(what, role, token)
    if fault.plain_code == "InvalidIdentityToken":
        return _token_not_taken(fault, what, role, token)
    word, next_step = _OTHERS.get(fault.plain_code, ("bad-request", _look_at_the_role))
    return Refused(f"{what}; {next_step(role)}", word=word)


def _not_admitted(what: str, role: Role, token: IdToken) -> Refused:
    return RoleRefused(
        f"role {role.arn} does not admit this identity ({what}). Presented: {presented(token)}. "
        "The role must exist, and its trust policy must allow sts:AssumeRoleWithWebIdentity to "
        f"{provider_arn(role, token)} with this sub and aud",
        word="access-denied",
        what=what,
    )


def _token_not_taken(fault: AwsError, what: str, role: Role, token: IdToken) -> Refused:
    account, message = _account(role), fault.message.lower()
    if "no openidconnect provider" in message:
        return Refused(
            f"account {account} has no OIDC provider for {redacted(token.issuer)} ({what}); create "
            "it there: aws iam create-open-id-connect-provider "
            f"--url {redacted(token.issuer)} --client-id-list {redacted(token.audience)}",
            word="no-provider",
        )
    if "audience" in message:
        return Refused(
            f"account {account} does not take ID tokens for this audience: its OIDC provider does "
            f"not list it as a client id ({what}). Presented: {presented(token)}. "
            "Add it: aws iam add-client-id-to-open-id-connect-provider "
            f"--open-id-connect-provider-arn {provider_arn(role, token)} "
            f"--client-id {redacted(token.audience)}",
            word="invalid-identity-token",
        )
    return Refused(
        f"AWS does not take the ID token ({what}). Presented: {presented(token)}; check the OIDC "
        f"provider {provider_arn(role, token)} and this machine's clock",
        word="invalid-identity-token",
    )


def presented(token: IdToken) -> str:
    """Return, for an error, what the token says of us."""
    claims = {"iss": token.issuer, "sub": token.subject, "aud": token.audience}
    return " ".join(f"{claim}={redacted(value)!r}" for claim, value in claims.items())


def provider_arn(role: Role, token: IdToken) -> str:
    """Return the provider that has to vouch for the token in the role's account."""
    return aws.oidc_provider_arn(
        redacted(token.issuer),
        account=_account(role),
        partition=aws.partition_of(role.arn),
    )


def _account(role: Role) -> str:
    return aws.account_of(role.arn) or "unknown"


def _another_region(role: Role) -> str:
    return (
        f"activate STS for {role.region} in account {_account(role)}, or set another "
        f"roles.{role.name}.region"
    )


def _smaller_policy(role: Role) -> str:
    return f"shorten policy and policy_arns of roles.{role.name}"


def _better_policy(role: Role) -> str:
    return f"correct policy and policy_arns of roles.{role.name}"


def _look_at_the_role(role: Role) -> str:
    return f"check roles.{role.name} in the configuration ({role.arn})"


_OTHERS: Final[Mapping[str, tuple[str, Callable[[Role], str]]]] = {
    "RegionDisabled": ("region-disabled", _another_region),
    "PackedPolicyTooLarge": ("bad-policy", _smaller_policy),
    "MalformedPolicyDocument": ("bad-policy", _better_policy),
}
"""Final refusals that have a word and a next step of their own."""
