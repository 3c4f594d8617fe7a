"""Sort AWS's refusals to issue a token about us: which are final, which mean that our credentials
have ended, and what to do. Pure: knows codes and statuses, no library."""

from collections.abc import Callable, Mapping
from typing import Final

from broker.lease import Refused, SourceError, Stale
from broker.sources.aws.errors import AwsError, caller_has_expired, describe, transient_error
from broker.sources.redact import redacted


class OutlivesSession(Refused):
    """The token would end after the session that asks for it."""

    word = "expired-token"


def web_identity_error(fault: AwsError, of: str, *, audience: str) -> SourceError:
    """Return the error for a refused GetWebIdentityToken, to be raised.

    Source: aws-api 5, 10.
    """
    what = describe(fault, of=of)
    passing = transient_error(fault, what, of=of, endpoint_named_by="AWS_ENDPOINT_URL_STS")
    if passing is not None:
        return passing
    if caller_has_expired(fault):
        return Stale(what)
    if fault.plain_code == "SessionDurationEscalation":
        return OutlivesSession(
            f"{what}; this machine's AWS credentials end before the shortest token would: "
            "renew them"
        )
    if fault.plain_code.startswith("AccessDenied"):
        return Refused(
            f"{what}; allow sts:GetWebIdentityToken for the audience {redacted(audience)} to this "
            "AWS identity: `namespace-broker setup to-namespace --via sts` puts the policy there",
            word="access-denied",
        )
    word, next_step = _OF_STS.get(fault.plain_code, ("bad-request", _CHECK_STS))
    return Refused(f"{what}; {next_step}", word=word)


def developer_token_error(
    fault: AwsError, of: str, *, pool_id: str, login: tuple[str, str]
) -> SourceError:
    """Return the error for a refused GetOpenIdTokenForDeveloperIdentity, to be raised.

    *login* is the developer provider's name and the workspace.

    Source: aws-api 7, 10.
    """
    what = describe(fault, of=of)
    passing = transient_error(
        fault, what, of=of, endpoint_named_by="AWS_ENDPOINT_URL_COGNITO_IDENTITY"
    )
    if passing is not None:
        return passing
    if caller_has_expired(fault):
        return Stale(what)
    if fault.plain_code.startswith("AccessDenied"):
        return Refused(
            f"{what}; allow cognito-identity:GetOpenIdTokenForDeveloperIdentity on the identity "
            f"pool {redacted(pool_id)} to this AWS identity",
            word="access-denied",
        )
    word, next_step = _OF_COGNITO.get(fault.plain_code, ("bad-request", _check_pool))
    return Refused(f"{what}; {next_step(redacted(pool_id), login)}", word=word)


_CLOCK: Final = "check this machine's clock, and that its AWS secret key belongs to its key id"
_CHECK_STS: Final = "check the identity's audience, algorithm and duration_s"
_OF_STS: Final[Mapping[str, tuple[str, str]]] = {
    "OutboundWebIdentityFederationDisabled": (
        "federation-disabled",
        "the account issues no web identity tokens yet; switch it on with `namespace-broker setup "
        "to-namespace --via sts`, or `aws iam enable-outbound-web-identity-federation`",
    ),
    "JWTPayloadSizeExceeded": (
        "bad-request",
        "what STS puts into the token is too large; use a shorter audience, or a role with "
        "fewer tags",
    ),
    "RegionDisabled": ("region-disabled", "activate STS in that region, or set another region"),
    "InvalidAction": (
        "bad-request",
        "that address has no GetWebIdentityToken; check AWS_ENDPOINT_URL_STS and the region",
    ),
    "SignatureDoesNotMatch": ("access-denied", _CLOCK),
    "IncompleteSignature": ("access-denied", _CLOCK),
}
"""Final refusals by STS that have a word and a next step of their own."""


def _no_such_pool(pool_id: str, _: tuple[str, str]) -> str:
    return (
        f"the account of this AWS identity has no identity pool {pool_id}; correct identity_pool "
        "and region, or make one: `namespace-broker setup to-namespace --via cognito`"
    )


def _not_its_provider(pool_id: str, login: tuple[str, str]) -> str:
    return (
        f"the identity pool {pool_id} must have the developer provider {redacted(login[0])}, which "
        "it is given when it is made; correct identity_pool or developer_provider"
    )


def _not_its_login(pool_id: str, login: tuple[str, str]) -> str:
    return (
        f"the identity pool {pool_id} takes no login {redacted(login[0])} = {redacted(login[1])}; "
        "correct workspace, identity_pool or developer_provider"
    )


def _check_pool(pool_id: str, _: tuple[str, str]) -> str:
    return f"check the identity's identity_pool ({pool_id}), workspace and developer_provider"


def _check_clock(_: str, __: tuple[str, str]) -> str:
    return _CLOCK


_OF_COGNITO: Final[Mapping[str, tuple[str, Callable[[str, tuple[str, str]], str]]]] = {
    "ResourceNotFound": ("not-found", _no_such_pool),
    "NotAuthorized": ("access-denied", _not_its_login),
    "InvalidParameter": ("bad-request", _not_its_provider),
    "ResourceConflict": ("bad-request", _not_its_login),
    "DeveloperUserAlreadyRegistered": ("bad-request", _not_its_login),
    "InvalidSignature": ("access-denied", _check_clock),
    "IncompleteSignature": ("access-denied", _check_clock),
}
"""The same for Cognito."""
