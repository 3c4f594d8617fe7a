"""Say why a role did not admit a token, by reading the role where an AWS identity at hand may.

It only helps an error message, so it is quick and its own failures are not reported.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from broker import aws
from broker.clock import Clock
from broker.credentials import AwsCredentials, IdToken, Role, jwt_payload
from broker.files.off_loop import off_loop
from broker.lease import Refused, SourceError
from broker.sources.aws.credential_chain import AwsOperation, CredentialChain
from broker.sources.aws.errors import AwsError, RoleRefused, presented, provider_arn
from broker.sources.aws.self_reference import OwnOutputs, aws_self_reference, shared_files
from broker.sources.redact import redacted

LIMIT_S = 3.0
"""For all of it: whoever waits for the refusal waits for this."""

_GET_ROLE = AwsOperation(
    service="iam",
    method="get_role",
    service_name="IAM",
    endpoint_variable="AWS_ENDPOINT_URL_IAM",
)
_GET_CALLER_IDENTITY = AwsOperation(
    service="sts",
    method="get_caller_identity",
    service_name="STS",
    endpoint_variable="AWS_ENDPOINT_URL_STS",
)
_ROLE_ARN = re.compile(
    r"arn:(?P<partition>[\w-]+):iam::(?P<account>\d+):role/(?:.*/)?(?P<name>[^/]+)", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleDocument:
    """A role's whole ARN and its trust policy; both None where there is no role of that name."""

    arn: str | None
    trust_policy: Mapping[str, object] | None


class RoleReader(Protocol):
    """Reads a role, where some AWS identity at hand may."""

    async def read(self, role: Role, *, own: AwsCredentials | None) -> RoleDocument | None:
        """Return the role as it is, None where nobody here may read it. Raises nothing.

        *own* are the role's own credentials, from when it still admitted us.
        """


class IamRoleReader:
    """Reads by IAM's GetRole, as the role itself or as the identity in environment or profile.

    Instance metadata and container endpoints are not used: on a machine of Namespace's they are
    ours, or absent.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        clock: Clock,
        sts_endpoint: str | None = None,
        ca_bundle: str | None = None,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._sts_endpoint = sts_endpoint
        self._ca_bundle = ca_bundle
        self._limit_s = limit_s

    async def read(self, role: Role, *, own: AwsCredentials | None) -> RoleDocument | None:
        """See `RoleReader`."""
        try:
            async with asyncio.timeout(self._limit_s):
                for reader in await off_loop(lambda: list(self._readers(own))):
                    async with reader:
                        found = await self._read_by(reader, role)
                    if found is not None:
                        return found
        except TimeoutError:
            pass
        return None

    def _readers(self, own: AwsCredentials | None) -> Iterator[CredentialChain]:
        if own is not None:
            yield self._chain(own)
        if (
            _has_identity(self._environ)
            and aws_self_reference(self._environ, ours=OwnOutputs()) is None
        ):
            yield self._chain(None)

    def _chain(self, keys: AwsCredentials | None) -> CredentialChain:
        return CredentialChain(
            clock=self._clock,
            keys=keys,
            ca_bundle=self._ca_bundle,
            call_limit_s=self._limit_s,
            lookup_limit_s=self._limit_s,
        )

    async def _read_by(self, reader: CredentialChain, role: Role) -> RoleDocument | None:
        arn = _ROLE_ARN.fullmatch(role.arn)
        if arn is None:
            return None
        account = arn["account"]
        try:
            answer = await reader.call(
                _GET_ROLE,
                {"RoleName": arn["name"]},
                region=aws.IAM_REGIONS.get(arn["partition"], role.region),
                endpoint=self._endpoint(),
                on_error=_error,
            )
        except _NoSuchRole:
            is_there = await self._account_of(reader, role) == account
            return RoleDocument(arn=None, trust_policy=None) if is_there else None
        except SourceError:
            return None
        return _document_in(answer, account=account)

    async def _account_of(self, reader: CredentialChain, role: Role) -> str | None:
        """Return the account of *reader*, in which there is no such role."""
        try:
            answer = await reader.call(
                _GET_CALLER_IDENTITY,
                {},
                region=role.region,
                endpoint=self._sts_endpoint,
                on_error=_error,
            )
        except SourceError:
            return None
        return str(answer.get("Account"))

    def _endpoint(self) -> str | None:
        if self._environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None
        return self._environ.get("AWS_ENDPOINT_URL_IAM") or None


class _NoSuchRole(Refused):
    """There is no role of that name in the reader's account."""


def _error(error: AwsError, upstream: str) -> SourceError:
    kind = _NoSuchRole if error.plain_code == "NoSuchEntity" else Refused
    return kind(f"{upstream} answered {error.code}")


def _document_in(answer: Mapping[str, Any], *, account: str) -> RoleDocument | None:
    """Return the role in *answer*, if it is in *account*: other accounts have the same names."""
    role = answer.get("Role")
    arn = role.get("Arn") if isinstance(role, dict) else None
    policy = role.get("AssumeRolePolicyDocument") if isinstance(role, dict) else None
    if not isinstance(arn, str) or not isinstance(policy, dict):
        return None
    return RoleDocument(arn=arn, trust_policy=policy) if f"::{account}:role/" in arn else None


def _has_identity(environ: Mapping[str, str]) -> bool:
    """Return whether an identity is configured, so that botocore does not try the endpoints."""
    if environ.get("AWS_ACCESS_KEY_ID"):
        return True
    name = environ.get("AWS_DEFAULT_PROFILE") or environ.get("AWS_PROFILE") or "default"
    settings = shared_files(environ).profile(name)
    named = {"aws_access_key_id", "credential_process", "role_arn", "sso_account_id"}
    return not named.isdisjoint(settings)


# What the role says.

MAX_REASON = 1200


def explain_refusal(
    refused: RoleRefused, found: RoleDocument, *, role: Role, token: IdToken
) -> Refused:
    """Return the refusal with what the role says, in place of guesses."""
    return Refused(
        f"role {role.arn} does not admit this identity ({refused.what}). "
        f"Presented: {presented(token)}. {_why(found, role, token)}",
        word=refused.word,
    )


def _why(found: RoleDocument, role: Role, token: IdToken) -> str:
    if found.arn is None or found.trust_policy is None:
        return f"There is no such role in the account; correct roles.{role.name}, or create it"
    if found.arn != role.arn:
        return f"The role of that name is {redacted(found.arn)}; correct roles.{role.name}"
    from broker import policy

    verdict = policy.role_admits_web_identity(
        found.trust_policy,
        provider_arn=provider_arn(role, token),
        claims=_claims(token),
        context={"sts:RoleSessionName": role.session_name or token.session_name},
    )
    if verdict:
        return (
            "Its trust policy, read just now, admits it: a change takes up to some minutes to be "
            "in force, so wait for that"
        )
    reason = _cut(verdict.reason)
    if verdict.undecided:
        return f"Whether its trust policy admits it depends on more than the token says: {reason}"
    return f"Its trust policy does not: {reason}; change that, or what is presented"


def _claims(token: IdToken) -> Mapping[str, object]:
    known = {"iss": token.issuer, "sub": token.subject, "aud": token.audience}
    return {**known, **(jwt_payload(token.jwt) or {})}


def _cut(reason: str) -> str:
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 1] + "…"
