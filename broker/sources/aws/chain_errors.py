"""Sort what the standard AWS chain fails with: passing or final, and what to do. Shows none of its
texts that may hold a secret: a process's words, a URL, a service's page."""

from collections.abc import Callable
from typing import Any

from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sources.aws.errors import AwsError, caller_has_expired, describe, transient_error
from broker.sources.redact import redacted

_BY_NETWORK = {
    "container-role": "the container credentials endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI or "
    "_RELATIVE_URI)",
    "iam-role": "the instance metadata service",
}


def no_credentials(profile: str | None) -> Refused:
    where = f"the profile {redacted(profile)}" if profile else "the standard chain"
    return Refused(
        f"this machine has no AWS identity: {where} led to no credentials (environment, shared "
        "files, SSO, process, container endpoint, instance metadata); give it a role, or name a "
        "profile that has credentials",
        word="no-identity",
    )


def lookup_error(
    error: Exception, *, profile: str | None, fault_in: Callable[[Any], AwsError]
) -> SourceError:
    """Return what to raise for whatever looking up the credentials raised."""
    import botocore.exceptions as known

    named = f"the AWS profile {redacted(profile)}" if profile else "the AWS profile in use"
    suffix = f" --profile {redacted(profile)}" if profile else ""
    match error:
        case SourceError():
            return error
        case known.ClientError():
            return _refused_on_the_way(fault_in(error), str(error.operation_name))
        case TimeoutError():
            return Unavailable("the AWS credential chain gave no answer in time", word="timeout")
        case known.ProfileNotFound():
            return Refused(
                f"there is no AWS profile {redacted(error.kwargs.get('profile'))}; make it with "
                "`aws configure`, or correct the identity's profile or AWS_PROFILE",
                word="no-identity",
            )
        case known.NoCredentialsError():
            return no_credentials(profile)
        case known.PartialCredentialsError():
            return Refused(
                f"the AWS credentials of {named} are not whole: "
                f"{redacted(error.kwargs.get('cred_var'))} is missing; complete them",
                word="no-identity",
            )
        case known.SSOError() | known.TokenRetrievalError():
            return Refused(
                f"the SSO session of {named} has ended, or there is none; "
                f"run `aws sso login{suffix}`",
                word="no-identity",
            )
        case known.LoginError():
            return Refused(
                f"the login of {named} has ended, or there is none; run `aws login{suffix}`",
                word="no-identity",
            )
        case known.CredentialRetrievalError() | known.MetadataRetrievalError():
            return _not_had(str(error.kwargs.get("provider")), named)
        case known.BotoCoreError():
            return Refused(
                f"the AWS configuration cannot be used: {redacted(error)}; correct {named}",
                word="no-identity",
            )
        case FileNotFoundError() | PermissionError():
            return Refused(
                f"{named} names {redacted(error.filename)}, which cannot be used "
                f"({error.strerror}); correct it",
                word="no-identity",
            )
        case RuntimeError():
            return Refused(
                "this machine's AWS credentials have ended, and looking them up anew brought "
                "the same; is what renews them still running?",
                word="expired-token",
            )
    return Unavailable(
        f"the AWS credential chain brought nothing proper ({type(error).__name__}); "
        f"try it with `aws sts get-caller-identity{suffix}`",
        word="bad-answer",
    )


def _not_had(provider: str, named: str) -> SourceError:
    if provider in _BY_NETWORK:
        return Unavailable(f"{_BY_NETWORK[provider]} gave no credentials", word="unreachable")
    if provider == "custom-process":
        return Refused(
            f"the credential_process of {named} failed; run it by hand to see why",
            word="no-identity",
        )
    return Refused(
        f"{named} led to no credentials ({redacted(provider)}); correct it", word="no-identity"
    )


def _refused_on_the_way(fault: AwsError, operation: str) -> SourceError:
    """Sort a refusal of a call that the chain itself makes, as AssumeRole for a profile."""
    of = f"AWS ({redacted(operation)}, for this machine's credentials)"
    what = describe(fault, of=of)
    passing = transient_error(fault, what, of=of, endpoint_named_by="AWS_ENDPOINT_URL_STS")
    if passing is not None:
        return passing
    if caller_has_expired(fault):
        return Stale(what)
    return Refused(f"{what}; correct the role, or the profile that names it", word="access-denied")
