"""Classify AWS's errors: transient, stale input or final, and what to do about each.

Every operation has a table of its final errors; the rules around the tables are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker import aws
from broker.credentials import IdToken, Role
from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sources.http_client import retry_after_s
from broker.sources.redact import redacted

STS_VARIABLE: Final = "AWS_ENDPOINT_URL_STS"

_TRANSIENT: Final = frozenset(
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
_STALE_ID_TOKEN: Final = frozenset(
    {"ExpiredToken", "IDPRejectedClaim", "SessionDurationEscalation"}
)
_STALE_CALLER: Final = frozenset({"ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient"})
"""Codes without the ending "Exception", which some carry on the wire. Source: aws-api 4, 5, 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsError:
    """What a service answered; ``code`` is None, or the status, where it was no AWS error."""

    code: str | None
    message: str
    status: int
    retry_after_s: float | None = None

    @property
    def plain_code(self) -> str:
        return (self.code or "").removesuffix("Exception")

    @property
    def is_aws_error(self) -> bool:
        return bool(self.code) and not (self.code or "").isdigit()


class DurationTooLong(Refused):
    """The role does not allow a session of that length."""


class OutlivesSession(Refused):
    """The token would end after the session that asks for it."""


class RoleRefused(Refused):
    """The role does not admit this identity; AWS does not say why. ``what`` is what it said."""

    def __init__(self, message: str, *, word: str, what: str = "") -> None:
        super().__init__(message, word=word)
        self.what = what


@dataclass(frozen=True, slots=True)
class Row:
    """A final error, by its codes and by what its message contains; "" is every code.

    ``text`` is for the operator: ``{what}`` AWS answered, before it unless it says so itself, and
    the values of the request.
    """

    codes: str
    word: str
    text: str
    contains: str = ""
    kind: type[SourceError] = Refused

    def matches(self, error: AwsError) -> bool:
        # AccessDenied also comes as AccessDeniedException, and with more after that.
        code = "AccessDenied" if error.plain_code.startswith("AccessDenied") else error.plain_code
        named = not self.codes or code in self.codes.split()
        return named and self.contains in error.message.lower()

    def error(self, values: Mapping[str, str], *, what: str = "") -> SourceError:
        """Return the error to raise."""
        text = self.text if not what or "{what}" in self.text else f"{{what}}; {self.text}"
        return self.kind(text.format(what=what, **values), word=self.word)


def classify(
    error: AwsError,
    *,
    upstream: str,
    rows: Iterable[Row],
    values: Mapping[str, str],
    stale: frozenset[str] = _STALE_CALLER,
    variable: str = STS_VARIABLE,
    hiding: Iterable[str] = (),
) -> SourceError:
    """Return the error to raise for what *upstream* answered.

    *stale* are the codes that mean stale input, *variable* the one that may name a wrong address.
    """
    what = describe(error, upstream=upstream, hiding=hiding)
    transient = transient_error(error, what, upstream=upstream, variable=variable)
    if transient is not None:
        return transient
    if error.plain_code in stale:
        return Stale(what)
    row = next(row for row in rows if row.matches(error))
    return row.error(values, what=what)


def describe(error: AwsError, *, upstream: str, hiding: Iterable[str] = ()) -> str:
    """Return what *upstream* answered, for a message."""
    message = redacted(error.message, hiding=hiding)
    return f"{upstream} answered {redacted(error.code)}{': ' if message else ''}{message}"


def transient_error(
    error: AwsError, what: str, *, upstream: str, variable: str
) -> Unavailable | None:
    """Return the error for what may succeed when tried again; None for a final answer.

    Source: aws-api 2.4, 10.
    """
    code, pause_s = error.plain_code, error.retry_after_s
    if error.status == 429 or code.startswith("Throttl") or code in _THROTTLED:
        return Unavailable(what, word="throttled", retry_after_s=pause_s)
    # Reported as intermittent: AWS did not get the issuer's keys in time.
    keys_not_read = (
        code == "InvalidIdentityToken" and "retrieve verification key" in error.message.lower()
    )
    if error.status >= 500 or error.status == 408 or code in _TRANSIENT or keys_not_read:
        return Unavailable(what, word="upstream-error", retry_after_s=pause_s)
    if not error.is_aws_error:
        return no_aws_answer(upstream, f"HTTP {error.status} without an AWS error", variable)
    return None


def no_aws_answer(upstream: str, what: str, variable: str) -> Unavailable:
    """Return the error for an answer that is hardly AWS's."""
    return Unavailable(
        f"{upstream} answered {what}; is that AWS, or a proxy? check {variable} if it stays so",
        word="bad-answer",
    )


def caller_has_expired(error: AwsError) -> bool:
    """Return whether the credentials that signed have ended, or are not known any more."""
    return error.plain_code in _STALE_CALLER


# AssumeRoleWithWebIdentity.

_ASSUME_ROLE: Final = (
    Row(
        "ValidationError",
        "duration-too-long",
        'set a shorter roles.{role}.duration_s, or "max"',
        contains="durationseconds",
        kind=DurationTooLong,
    ),
    Row(
        "AccessDenied",
        "access-denied",
        "role {arn} does not admit this identity ({what}). Presented: {presented}. "
        "The role must exist, and its trust policy must allow sts:AssumeRoleWithWebIdentity to "
        "{provider} with this sub and aud",
        kind=RoleRefused,
    ),
    Row(
        "InvalidIdentityToken",
        "no-provider",
        "account {account} has no OIDC provider for {issuer} ({what}); create it there: "
        "aws iam create-open-id-connect-provider --url {issuer} --client-id-list {audience}",
        contains="no openidconnect provider",
    ),
    Row(
        "InvalidIdentityToken",
        "invalid-identity-token",
        "account {account} does not take ID tokens for this audience: its OIDC provider does not "
        "list it as a client id ({what}). Presented: {presented}. Add it: aws iam "
        "add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {provider} "
        "--client-id {audience}",
        contains="audience",
    ),
    Row(
        "InvalidIdentityToken",
        "invalid-identity-token",
        "AWS does not take the ID token ({what}). Presented: {presented}; check the OIDC provider "
        "{provider} and this machine's clock",
    ),
    Row(
        "RegionDisabled",
        "region-disabled",
        "activate STS for {region} in account {account}, or set another roles.{role}.region",
    ),
    Row(
        "PackedPolicyTooLarge",
        "bad-policy",
        "shorten policy and policy_arns of roles.{role}",
    ),
    Row(
        "MalformedPolicyDocument",
        "bad-policy",
        "correct policy and policy_arns of roles.{role}",
    ),
    Row("", "bad-request", "check roles.{role} in the configuration ({arn})"),
)


def assume_role_error(error: AwsError, *, role: Role, token: IdToken, upstream: str) -> SourceError:
    """Return the error to raise for a refused AssumeRoleWithWebIdentity.

    Source: aws-api 2.4, 3, 10.
    """
    values = {
        "role": role.name,
        "arn": role.arn,
        "region": role.region,
        "account": aws.account_of(role.arn) or "unknown",
        "provider": provider_arn(role, token),
        "issuer": redacted(token.issuer),
        "audience": redacted(token.audience),
        "presented": presented(token),
    }
    raised = classify(
        error,
        upstream=upstream,
        rows=_ASSUME_ROLE,
        values=values,
        stale=_STALE_ID_TOKEN,
        hiding=[token.jwt],
    )
    if isinstance(raised, RoleRefused):
        raised.what = describe(error, upstream=upstream, hiding=[token.jwt])
    return raised


def presented(token: IdToken) -> str:
    """Return what the token says of us, for a message."""
    claims = {"iss": token.issuer, "sub": token.subject, "aud": token.audience}
    return " ".join(f"{claim}={redacted(value)!r}" for claim, value in claims.items())


def provider_arn(role: Role, token: IdToken) -> str:
    """Return the OIDC provider that has to vouch for the token in the role's account."""
    return aws.oidc_provider_arn(
        redacted(token.issuer),
        account=aws.account_of(role.arn) or "unknown",
        partition=aws.partition_of(role.arn),
    )


# GetWebIdentityToken.

_CHECK_CLOCK: Final = (
    "check this machine's clock, and that its AWS secret key belongs to its key id"
)
_WEB_IDENTITY: Final = (
    Row(
        "SessionDurationEscalation",
        "expired-token",
        "this machine's AWS credentials end before the shortest token would: renew them",
        kind=OutlivesSession,
    ),
    Row(
        "AccessDenied",
        "access-denied",
        "allow sts:GetWebIdentityToken for the audience {audience} to this AWS identity: "
        "`namespace-broker setup to-namespace --via sts` puts the policy there",
    ),
    Row(
        "OutboundWebIdentityFederationDisabled",
        "federation-disabled",
        "the account issues no web identity tokens yet; switch it on with "
        "`namespace-broker setup to-namespace --via sts`, or "
        "`aws iam enable-outbound-web-identity-federation`",
    ),
    Row(
        "JWTPayloadSizeExceeded",
        "bad-request",
        "what STS puts into the token is too large; use a shorter audience, or a role "
        "with fewer tags",
    ),
    Row(
        "RegionDisabled",
        "region-disabled",
        "activate STS in that region, or set another region",
    ),
    Row(
        "InvalidAction",
        "bad-request",
        "that address has no GetWebIdentityToken; check AWS_ENDPOINT_URL_STS and the region",
    ),
    Row("SignatureDoesNotMatch IncompleteSignature", "access-denied", _CHECK_CLOCK),
    Row("", "bad-request", "check the identity's audience, algorithm and duration_s"),
)


def web_identity_error(error: AwsError, upstream: str, *, audience: str) -> SourceError:
    """Return the error to raise for a refused GetWebIdentityToken. Source: aws-api 5, 10."""
    values = {"audience": redacted(audience)}
    return classify(error, upstream=upstream, rows=_WEB_IDENTITY, values=values)


# GetOpenIdTokenForDeveloperIdentity.

_WRONG_LOGIN: Final = (
    "the identity pool {pool} takes no login {provider} = {workspace}; correct "
    "workspace, identity_pool or developer_provider"
)
_DEVELOPER_TOKEN: Final = (
    Row(
        "AccessDenied",
        "access-denied",
        "allow cognito-identity:GetOpenIdTokenForDeveloperIdentity on the identity pool "
        "{pool} to this AWS identity",
    ),
    Row(
        "ResourceNotFound",
        "not-found",
        "the account of this AWS identity has no identity pool {pool}; correct identity_pool and "
        "region, or make one: `namespace-broker setup to-namespace --via cognito`",
    ),
    Row("NotAuthorized", "access-denied", _WRONG_LOGIN),
    Row(
        "InvalidParameter",
        "bad-request",
        "the identity pool {pool} must have the developer provider {provider}, which it "
        "is given when it is made; correct identity_pool or developer_provider",
    ),
    Row("ResourceConflict DeveloperUserAlreadyRegistered", "bad-request", _WRONG_LOGIN),
    Row("InvalidSignature IncompleteSignature", "access-denied", _CHECK_CLOCK),
    Row(
        "",
        "bad-request",
        "check the identity's identity_pool ({pool}), workspace and developer_provider",
    ),
)


def developer_token_error(
    error: AwsError, upstream: str, *, pool_id: str, login: tuple[str, str]
) -> SourceError:
    """Return the error to raise for a refused GetOpenIdTokenForDeveloperIdentity.

    *login* is the developer provider's name and the workspace. Source: aws-api 7, 10.
    """
    return classify(
        error,
        upstream=upstream,
        rows=_DEVELOPER_TOKEN,
        values={
            "pool": redacted(pool_id),
            "provider": redacted(login[0]),
            "workspace": redacted(login[1]),
        },
        variable="AWS_ENDPOINT_URL_COGNITO_IDENTITY",
    )


# What looking up credentials raises, by the names of botocore's classes, so that nothing here
# imports it. The first class that an error is of, itself before its bases.

_NO_CREDENTIALS: Final = (
    "this machine has no AWS identity: {where} led to no credentials (environment, shared files, "
    "SSO, process, container endpoint, instance metadata); give it a role, or name a profile that "
    "has credentials"
)
_LOOKUP: Final = (
    Row(
        "TimeoutError",
        "timeout",
        "the AWS credential chain gave no answer in time",
        "",
        Unavailable,
    ),
    Row(
        "ProfileNotFound",
        "no-identity",
        "there is no AWS profile {profile}; make it with `aws configure`, or correct the "
        "identity's profile or AWS_PROFILE",
    ),
    Row("NoCredentialsError", "no-identity", _NO_CREDENTIALS),
    Row(
        "PartialCredentialsError",
        "no-identity",
        "the AWS credentials of {named} are not whole: {cred_var} is missing; complete them",
    ),
    Row(
        "SSOError TokenRetrievalError",
        "no-identity",
        "the SSO session of {named} has ended, or there is none; run `aws sso login{suffix}`",
    ),
    Row(
        "LoginError",
        "no-identity",
        "the login of {named} has ended, or there is none; run `aws login{suffix}`",
    ),
    Row(
        "container-role",
        "unreachable",
        "the container credentials endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI) "
        "gave no credentials",
        kind=Unavailable,
    ),
    Row(
        "iam-role",
        "unreachable",
        "the instance metadata service gave no credentials",
        kind=Unavailable,
    ),
    Row(
        "custom-process",
        "no-identity",
        "the credential_process of {named} failed; run it by hand to see why",
    ),
    Row(
        "CredentialRetrievalError MetadataRetrievalError",
        "no-identity",
        "{named} led to no credentials ({provider}); correct it",
    ),
    Row(
        "BotoCoreError",
        "no-identity",
        "the AWS configuration cannot be used: {error}; correct {named}",
    ),
    Row(
        "FileNotFoundError PermissionError",
        "no-identity",
        "{named} names {filename}, which cannot be used ({strerror}); correct it",
    ),
    Row(
        "RuntimeError",
        "expired-token",
        "this machine's AWS credentials have ended, and looking them up anew brought the same; is "
        "what renews them still running?",
    ),
    Row(
        "Exception",
        "bad-answer",
        "the AWS credential chain brought nothing proper ({kind}); try it with "
        "`aws sts get-caller-identity{suffix}`",
        kind=Unavailable,
    ),
)
_BY_NAME: Final = {name: row for row in _LOOKUP for name in row.codes.split()}


def no_credentials(profile: str | None) -> SourceError:
    """Return the error for a chain that led to no credentials."""
    where = f"the profile {redacted(profile)}" if profile else "the standard chain"
    return _BY_NAME["NoCredentialsError"].error({"where": where})


def lookup_error(error: Exception, *, profile: str | None) -> SourceError:
    """Return the error to raise for whatever looking up the credentials raised.

    Shows none of its texts that may hold a secret: a process's words, a URL, a service's page.
    """
    names = [each.__name__ for each in type(error).__mro__]
    if isinstance(error, SourceError):
        return error
    if "ClientError" in names:
        return _chained_call_error(error)
    details: Mapping[str, object] = getattr(error, "kwargs", {})
    provider = str(details.get("provider"))
    if not {"CredentialRetrievalError", "MetadataRetrievalError"}.isdisjoint(names):
        names.insert(0, provider)
    row = next(_BY_NAME[name] for name in names if name in _BY_NAME)
    if row.codes == "NoCredentialsError":
        return no_credentials(profile)
    return row.error(
        {
            "named": f"the AWS profile {redacted(profile)}"
            if profile
            else "the AWS profile in use",
            "suffix": f" --profile {redacted(profile)}" if profile else "",
            "profile": redacted(details.get("profile")),
            "cred_var": redacted(details.get("cred_var")),
            "provider": redacted(provider),
            "filename": redacted(getattr(error, "filename", None)),
            "strerror": str(getattr(error, "strerror", None)),
            "error": redacted(error),
            "kind": type(error).__name__,
        }
    )


def _chained_call_error(error: Any) -> SourceError:
    """Classify a refusal of a call that the chain itself makes, as AssumeRole for a profile."""
    upstream = f"AWS ({redacted(error.operation_name)}, for this machine's credentials)"
    step = Row("", "access-denied", "correct the role, or the profile that names it")
    return classify(client_error(error), upstream=upstream, rows=[step], values={})


def call_error(
    error: Exception,
    *,
    upstream: str,
    on_aws_error: Callable[[AwsError], SourceError],
    next_step: str,
    variable: str,
) -> SourceError:
    """Return the error to raise for whatever a signed call raised.

    *on_aws_error* classifies what the service answered, *next_step* is for a call that was not
    sent, *variable* may name the wrong address.

    Source: aws-api 2.4, 10.
    """
    names = {each.__name__ for each in type(error).__mro__}
    if isinstance(error, SourceError):
        return error
    if "ClientError" in names:
        return on_aws_error(client_error(error))
    if isinstance(error, TimeoutError):
        return Unavailable(f"{upstream} gave no answer in time", word="timeout")
    if "BotoCoreError" in names:
        return Refused(
            f"{upstream} was not called: {redacted(error)}; {next_step}", word="bad-request"
        )
    return no_aws_answer(upstream, f"nothing proper ({type(error).__name__})", variable)


def client_error(error: Any) -> AwsError:
    """Read botocore's ClientError; a proxy's page makes one without code or message."""
    response = error.response if isinstance(error.response, dict) else {}
    stated = response.get("Error") or {}
    metadata = response.get("ResponseMetadata") or {}
    headers = metadata.get("HTTPHeaders", {})
    code = stated.get("Code")
    return AwsError(
        code=str(code) if code else None,
        message=str(stated.get("Message") or ""),
        status=int(metadata.get("HTTPStatusCode") or 0),
        retry_after_s=retry_after_s(
            {
                "Retry-After": str(headers.get("retry-after", "")),
                "Date": str(headers.get("date", "")),
            }
        ),
    )
