"""AWS's services as setting up calls them: signed by the caller's own identity, passing faults
tried again. Knows how to call; chooses no operation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from broker import aws
from broker.clock import Clock
from broker.lease import SourceError, Unavailable, backoff_s
from broker.setup.aws_errors import sorted_setup_fault
from broker.sources.aws.credential_chain import (
    CredentialChain,
    ResolvedCredentials,
    call_error,
    client_settings,
)

ATTEMPTS: Final = 3
"""Of one call over passing faults, as botocore's mode "standard": nobody retries around us."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 20.0

NO_REGION: Final = "us-east-1"
"""Where nobody says one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service. ``endpoint`` None: the region's own."""

    name: str
    title: str
    endpoint_named_by: str
    endpoint: str | None
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose AWS identity acts."""

    account: str
    partition: str
    arn: str


class AwsApi:
    """One client for each service, made at its first call; see `aws_api`."""

    def __init__(
        self,
        services: Mapping[str, Service],
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
        """Call *operation* ("CreateRole") and return its answer; *attempts* is 1 for one that may
        not be repeated when its answer is lost.

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

    async def caller(self) -> Caller:
        """Return whose identity this is. Raises as `call`."""
        told = await self.call("sts", "GetCallerIdentity")
        arn = str(told.get("Arn", ""))
        partition = aws.partition_of(arn)
        return Caller(account=str(told.get("Account", "")), partition=partition, arn=arn)

    async def _called(
        self, service: Service, operation: str, parameters: Mapping[str, Any]
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
                of=of,
                answered=partial(
                    sorted_setup_fault,
                    of=of,
                    action=f"{service.name}:{operation}",
                    endpoint_named_by=service.endpoint_named_by,
                ),
                check="correct the flags, --region among them",
                endpoint_named_by=service.endpoint_named_by,
            ) from error
        return answer if isinstance(answer, dict) else {}

    async def _client(self, service: Service) -> Any:
        if service.name not in self._clients:
            signer = await self._chain.resolve()
            self._clients[service.name] = await self._stack.enter_async_context(
                self._opened(service, signer)
            )
        return self._clients[service.name]

    def _opened(self, service: Service, signer: ResolvedCredentials) -> Any:
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
                # What the variables say is passed; the shared files redirect no call of ours.
                ignore_configured_endpoint_urls=True,
                **client_settings(service.title, with_endpoint=service.endpoint is not None),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where AWS's services are told to be; None: at their own addresses."""

    iam: str | None = None
    sts: str | None = None
    cognito: str | None = None


def services_in(region: str, endpoints: Endpoints, *, partition: str) -> Mapping[str, Service]:
    """Return the services by the names that botocore and IAM's actions have for them."""
    services = (
        Service(
            name="iam",
            title="IAM",
            endpoint_named_by="AWS_ENDPOINT_URL_IAM",
            endpoint=endpoints.iam,
            region=aws.IAM_REGIONS.get(partition, region),
        ),
        Service(
            name="sts",
            title="STS",
            endpoint_named_by="AWS_ENDPOINT_URL_STS",
            endpoint=endpoints.sts,
            region=region,
        ),
        Service(
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
    endpoints: Endpoints,
    ca_bundle: str | None,
) -> AsyncIterator[AwsApi]:
    """AWS for the block, by the identity of *chain*, which stays its opener's."""
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
    """Return botocore's loader of what services look like, one for this process: a command opens
    AWS several times, and reading them takes most of its time."""
    from botocore.loaders import create_loader

    return create_loader(os.environ.get("AWS_DATA_PATH"))


def code_of(error: SourceError) -> str:
    """Return AWS's code of what it refused, "" where there is none."""
    return getattr(error, "code", "")
