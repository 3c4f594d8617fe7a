"""AWS as setup calls it: signed by the caller's own identity, with passing faults tried again.

Source: aws-api 6, 7, 10.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final

from broker import aws
from broker.clock import Clock
from broker.config.errors import ConfigError
from broker.lease import Refused, SourceError, Unavailable, backoff_s
from broker.sources.aws.credential_chain import (
    CredentialChain,
    ResolvedCredentials,
    client_settings,
)
from broker.sources.aws.errors import (
    AwsError,
    call_error,
    caller_has_expired,
    describe,
    transient_error,
)

ATTEMPTS: Final = 3
"""Of one call over passing faults, as botocore's mode "standard": nobody retries around us."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 20.0

NO_REGION: Final = "us-east-1"
"""The region where none is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The account and the workspace that trust each other.

    ``workspace`` is an id, empty where another issuer than Namespace is trusted; ``account``
    twelve digits.
    """

    account: str
    partition: str
    region: str
    workspace: str

    def role_arn(self, name: str) -> str:
        return aws.role_arn(name, account=self.account, partition=self.partition)

    def provider_arn(self, url: str) -> str:
        """Return the ARN of the OIDC provider for the issuer *url*. Source: aws-api 6.2."""
        return aws.oidc_provider_arn(url, account=self.account, partition=self.partition)

    def pool_arn(self, pool_id: str) -> str:
        """Return the ARN of the identity pool ``region:guid``."""
        region = pool_id.partition(":")[0] if ":" in pool_id else self.region
        return (
            f"arn:{self.partition}:cognito-identity:{region}:{self.account}:identitypool/{pool_id}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsService:
    """One of AWS's services. ``endpoint`` None: the region's own."""

    name: str
    title: str
    endpoint_named_by: str
    endpoint: str | None
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerIdentity:
    """The AWS identity that calls, as GetCallerIdentity has it."""

    account: str
    partition: str
    arn: str


class AwsApi:
    """One client for each service, made at its first call; see `aws_api`."""

    def __init__(
        self,
        services: Mapping[str, AwsService],
        *,
        chain: CredentialChain,
        clock: Clock,
        ca_bundle: str | None,
        stack: AsyncExitStack,
    ) -> None:
        self._services = services
        self._chain = chain
        self._clock = clock
        self._ca_bundle = ca_bundle
        self._stack = stack
        self._clients: dict[str, Any] = {}

    async def call(
        self, service: str, operation: str, *, attempts: int = ATTEMPTS, **parameters: Any
    ) -> Mapping[str, Any]:
        """Call *operation* ("CreateRole") and return its answer.

        *attempts* is 1 for one that may not be repeated when its answer is lost.

        Raises:
            AwsRefused: A proper no, by its code.
            Refused: There is no AWS identity, or the call cannot be sent.
            Unavailable: No proper answer, time after time.
        """
        attempt = 1
        while True:
            try:
                return await self._called(self._services[service], operation, parameters)
            except Unavailable as error:
                if attempt == attempts:
                    raise
                pause_s = backoff_s(
                    attempt, jitter=0, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S
                )
                await self._clock.sleep(min(error.retry_after_s or pause_s, LONGEST_PAUSE_S))
                attempt += 1

    async def caller(self) -> CallerIdentity:
        """Return whose identity this is. Raises as `call`."""
        response = await self.call("sts", "GetCallerIdentity")
        arn = str(response.get("Arn", ""))
        partition = aws.partition_of(arn)
        return CallerIdentity(
            account=str(response.get("Account", "")), partition=partition, arn=arn
        )

    async def _called(
        self, service: AwsService, operation: str, parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        from botocore import xform_name

        of = f"{operation} ({service.title})"
        try:
            client = await self._client(service)
            answer = await getattr(client, xform_name(operation))(**parameters)
        # botocore's parsers raise bare KeyErrors and worse on bodies that they do not expect.
        except Exception as error:
            raise call_error(
                error,
                upstream=of,
                on_aws_error=partial(
                    sorted_setup_fault,
                    of=of,
                    action=f"{service.name}:{operation}",
                    endpoint_named_by=service.endpoint_named_by,
                ),
                next_step="correct the flags, --region among them",
                variable=service.endpoint_named_by,
            ) from error
        return answer if isinstance(answer, dict) else {}

    async def _client(self, service: AwsService) -> Any:
        if service.name not in self._clients:
            signer = await self._chain.resolve()
            self._clients[service.name] = await self._stack.enter_async_context(
                self._opened(service, signer)
            )
        return self._clients[service.name]

    def _opened(self, service: AwsService, signer: ResolvedCredentials) -> Any:
        from aiobotocore.config import AioConfig

        return signer.session.create_client(
            service.name,
            region_name=service.region,
            endpoint_url=service.endpoint,
            verify=self._ca_bundle,
            aws_access_key_id=signer.access_key_id,
            aws_secret_access_key=signer.secret_access_key,
            aws_session_token=signer.session_token,
            config=AioConfig(
                # Endpoints come from the environment only: the shared files never redirect us.
                ignore_configured_endpoint_urls=True,
                **client_settings(service.title, with_endpoint=service.endpoint is not None),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsEndpoints:
    """Endpoints set by the environment; None: AWS's own."""

    iam: str | None = None
    sts: str | None = None
    cognito: str | None = None


def services_in(
    region: str, endpoints: AwsEndpoints, *, partition: str
) -> Mapping[str, AwsService]:
    """Return the services by the names that botocore and IAM's actions have for them."""
    services = (
        AwsService(
            name="iam",
            title="IAM",
            endpoint_named_by="AWS_ENDPOINT_URL_IAM",
            endpoint=endpoints.iam,
            region=aws.IAM_REGIONS.get(partition, region),
        ),
        AwsService(
            name="sts",
            title="STS",
            endpoint_named_by="AWS_ENDPOINT_URL_STS",
            endpoint=endpoints.sts,
            region=region,
        ),
        AwsService(
            name="cognito-identity",
            title="Cognito",
            endpoint_named_by="AWS_ENDPOINT_URL_COGNITO_IDENTITY",
            endpoint=endpoints.cognito,
            region=region,
        ),
    )
    return {service.name: service for service in services}


@asynccontextmanager
async def aws_api(
    *,
    chain: CredentialChain,
    clock: Clock,
    region: str,
    partition: str,
    endpoints: AwsEndpoints,
    ca_bundle: str | None,
) -> AsyncIterator[AwsApi]:
    """Open AWS for the block, signed by *chain*, which the caller closes."""
    async with AsyncExitStack() as stack:
        yield AwsApi(
            services_in(region, endpoints, partition=partition),
            chain=chain,
            clock=clock,
            ca_bundle=ca_bundle,
            stack=stack,
        )


@cache
def models() -> Any:
    """Return botocore's loader of service models, one for this process.

    A command opens AWS several times, and loading them takes most of its time.
    """
    from botocore.loaders import create_loader

    return create_loader(os.environ.get("AWS_DATA_PATH"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """How to reach AWS.

    ``region`` None: the profile's, else us-east-1; ``account``: the one that the identity must
    belong to, None: any.
    """

    profile: str | None = None
    region: str | None = None
    account: str | None = None
    endpoints: AwsEndpoints = field(default_factory=AwsEndpoints)
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccount:
    """An account that is open for calls, with the identity that opened it."""

    api: AwsApi
    chain: CredentialChain
    caller: CallerIdentity
    region: str

    def target(self, workspace: str) -> Target:
        return Target(
            account=self.caller.account,
            partition=self.caller.partition,
            region=self.region,
            workspace=workspace,
        )


@asynccontextmanager
async def open_aws(settings: AwsSettings, *, clock: Clock) -> AsyncIterator[AwsAccount]:
    """Open AWS for the block.

    Raises:
        ConfigError: The identity belongs to another account.
        SourceError: There is no AWS identity, or AWS rejects it.
    """
    async with CredentialChain(
        clock=clock,
        profile=settings.profile,
        ca_bundle=settings.ca_bundle,
        models=models(),
    ) as chain:
        region = settings.region or await chain.region() or NO_REGION
        async with aws_api(
            chain=chain,
            clock=clock,
            region=region,
            partition=aws.partition_of_region(region),
            endpoints=settings.endpoints,
            ca_bundle=settings.ca_bundle,
        ) as api:
            caller = await api.caller()
            _require_account(settings.account, caller)
            yield AwsAccount(api=api, chain=chain, caller=caller, region=region)


def _require_account(account: str | None, caller: CallerIdentity) -> None:
    if account is not None and account != caller.account:
        raise ConfigError(
            "--account",
            f"is {account}, and this AWS identity belongs to {caller.account} ({caller.arn})",
            "give an identity of that account by --profile, or leave --account out",
        )


class AwsRefused(Refused):
    """AWS refused: *code* without the ending "Exception", *words* as AWS has them."""

    def __init__(self, message: str, *, fault: AwsError, word: str) -> None:
        super().__init__(message, word=word)
        self.code = fault.plain_code
        self.words = fault.message


def sorted_setup_fault(
    fault: AwsError, of: str, *, action: str, endpoint_named_by: str
) -> SourceError:
    """Return the error for a refused call, to be raised.

    *of* names the call ("CreateRole (IAM)"), *action* the permission that it takes
    ("iam:CreateRole").
    """
    what, code = describe(fault, upstream=of), fault.plain_code
    passing = transient_error(fault, what, upstream=of, variable=endpoint_named_by)
    if passing is not None:
        return passing
    if caller_has_expired(fault):
        return AwsRefused(f"{what}; {_RENEW}", fault=fault, word="expired-token")
    if code.startswith(("AccessDenied", "UnauthorizedOperation")):
        return AwsRefused(
            f"{what}; allow {_denied(fault) or action} to this AWS identity, or give another by "
            "--profile",
            fault=fault,
            word="access-denied",
        )
    word, next_step = _NEXT_STEPS.get(code, ("bad-request", "correct the flags"))
    return AwsRefused(f"{what}; {next_step}", fault=fault, word=word)


def _denied(fault: AwsError) -> str:
    """Return the permission that AWS names, "" where it names none.

    Creating something with tags takes two.
    """
    named = re.search(r"not authorized to perform: ([\w-]+:\w+)", fault.message)
    return named[1] if named else ""


_RENEW: Final = "renew this machine's AWS credentials (`aws sso login`, or the way you got them)"
_CLOCK: Final = "check this machine's clock, and that its AWS secret key belongs to its key id"
_AGAIN: Final = "somebody else changed it meanwhile; run the command again"
_QUOTA: Final = "a quota of the account is used up; remove what is not needed, or have it raised"
_GONE: Final = "it no longer exists, or never did; run the command again"

_NEXT_STEPS: Final[Mapping[str, tuple[str, str]]] = {
    "EntityAlreadyExists": ("conflict", _AGAIN),
    "DeleteConflict": (
        "conflict",
        "something still uses it (an instance profile, a policy); remove that first",
    ),
    "DuplicateProvider": ("conflict", _AGAIN),
    "ResourceConflict": ("conflict", _AGAIN),
    "FeatureEnabled": ("conflict", _AGAIN),
    "FeatureDisabled": ("federation-disabled", "switch it on: setup to-namespace --via sts"),
    "NoSuchEntity": ("not-found", _GONE),
    "ResourceNotFound": ("not-found", _GONE),
    "MalformedPolicyDocument": (
        "bad-policy",
        "correct the policy; in a trust policy, check that its principals exist",
    ),
    "LimitExceeded": ("quota", _QUOTA),
    "UnmodifiableEntity": (
        "access-denied",
        "the role belongs to an AWS service, which alone may change it; choose another role",
    ),
    "InvalidInput": ("bad-request", "correct the flag it names"),
    "InvalidParameter": ("bad-request", "correct the flag it names"),
    "ValidationError": ("bad-request", "correct the flag it names"),
    "PolicyNotAttachable": (
        "bad-policy",
        "it is for AWS services only; choose another policy",
    ),
    "NotAuthorized": ("access-denied", "give an AWS identity that is allowed to, by --profile"),
    "RegionDisabled": ("region-disabled", "activate STS in that region, or give another --region"),
    "SignatureDoesNotMatch": ("access-denied", _CLOCK),
    "InvalidSignature": ("access-denied", _CLOCK),
    "IncompleteSignature": ("access-denied", _CLOCK),
}
