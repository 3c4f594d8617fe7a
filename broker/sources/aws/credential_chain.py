"""Find this machine's AWS identity by the standard credential chain, and sign calls with it."""

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from yarl import URL

from broker.clock import Clock
from broker.credentials import AwsCredentials
from broker.files.off_loop import off_loop
from broker.lease import Refused, SourceError, Stale
from broker.sources.aws.errors import AwsError, call_error, lookup_error, no_credentials
from broker.sources.aws.xml import HostileXml, parse_xml
from broker.sources.http_client import HttpClient, load_ca_bundle, origin

CALL_LIMIT_S = 15.0
"""One call, including looking up the credentials and creating the client."""

LOOKUP_LIMIT_S = 60.0
"""A look-up may take longer than a call, as some processes do; later calls wait for it."""

GLOBAL_STS_HOST = "sts.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsOperation:
    """A signed operation; ``regional``: STS's global endpoint does not have it."""

    service: str
    method: str
    service_name: str
    endpoint_variable: str
    regional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedCredentials:
    """Keys to sign with, their end where known, and the session that clients are created from."""

    session: Any
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    expires_at: datetime | None


class CredentialChain:
    """The standard AWS credential chain, by botocore, which reads this process's environment.

    Environment, shared files and their profiles, SSO, process, container endpoint, instance
    metadata, web identity. Credentials are looked up when first needed, and again when AWS says
    that they have ended.

    Source: aws-api 2.1, 2.2.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        profile: str | None = None,
        keys: AwsCredentials | None = None,
        ca_bundle: str | None = None,
        models: Any = None,
        call_limit_s: float = CALL_LIMIT_S,
        lookup_limit_s: float = LOOKUP_LIMIT_S,
    ) -> None:
        """Use as a context manager, or `close` it.

        *profile* has precedence over keys in the environment, as with every AWS tool; *keys*
        replace the whole chain. *models* is botocore's loader of service models, to share with
        another chain: reading them takes most of a command's time.
        """
        self._clock = clock
        self._profile = profile
        self._keys = keys
        self._ca_bundle = ca_bundle
        self._call_limit_s = call_limit_s
        self._lookup_limit_s = lookup_limit_s
        self._session: Any = None
        self._credentials: Any = None
        self._models = models
        self._looking_up: asyncio.Task[ResolvedCredentials] | None = None
        self._region: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel a look-up under way. A later call starts another."""
        if self._looking_up is not None:
            self._looking_up.cancel()
            with suppress(asyncio.CancelledError, SourceError):
                await self._looking_up
        self.forget()

    def forget(self) -> None:
        """Look the credentials up again at the next call, from every file."""
        self._session = self._credentials = None

    async def resolve(self) -> ResolvedCredentials:
        """Return the current credentials.

        Raises:
            Refused, Unavailable: There are none.
        """
        return await self._resolve()

    async def region(self) -> str | None:
        """Return the region that the environment or the profile names. Raises as `resolve`."""
        named = (await self._resolve()).session.get_config_variable("region")
        return None if named is None else str(named)

    async def seconds_left(self) -> float | None:
        """Return how long the credentials still live; None where no end is known.

        Raises:
            Refused, Unavailable: There are none.
        """
        expires_at = (await self._resolve()).expires_at
        if expires_at is None:
            return None
        return (expires_at - self._clock.now()).total_seconds()

    async def call(
        self,
        operation: AwsOperation,
        parameters: Mapping[str, Any],
        *,
        region: str | None,
        endpoint: str | None,
        on_error: Callable[[AwsError, str], SourceError],
    ) -> Mapping[str, Any]:
        """Call *operation* and return the response.

        Credentials that have ended are looked up again, once. Without *region* the profile's own is
        used; *endpoint* replaces the region's. *on_error* returns the error to raise for what the
        service (its second argument) answered.

        Raises:
            Refused, Unavailable: As *on_error*; or there is no identity, or no proper answer.
        """
        signed_call = _SignedCall(operation, parameters, region, endpoint, on_error)
        try:
            return await self._call_once(signed_call)
        except Stale:
            self.forget()
        try:
            return await self._call_once(signed_call)
        except Stale as stale:
            raise Refused(
                f"{stale}, also with credentials that were looked up again; "
                "renew this machine's AWS credentials, and check its clock",
                word="expired-token",
            ) from stale

    async def _call_once(self, call: "_SignedCall") -> Mapping[str, Any]:
        operation = call.operation
        self._region = call.region
        upstream = "the AWS credential chain"
        try:
            async with asyncio.timeout(self._call_limit_s):
                resolved = await self._resolve()
                region = _region_of(call.region, resolved.session)
                upstream = f"{operation.service_name} ({call.endpoint or region})"
                async with self._client(resolved, call, region) as client:
                    if operation.regional:
                        _require_regional(client.meta.endpoint_url, call, region, resolved.session)
                    answer = await getattr(client, operation.method)(**call.parameters)
        # botocore's parsers raise bare KeyErrors and worse on bodies that they do not expect.
        except Exception as error:
            raise call_error(
                error,
                upstream=upstream,
                on_aws_error=lambda answered: call.on_error(answered, upstream),
                next_step="check the identity in the configuration",
                variable=operation.endpoint_variable,
            ) from error
        return answer if isinstance(answer, dict) else {}

    def _client(self, resolved: ResolvedCredentials, call: "_SignedCall", region: str) -> Any:
        from aiobotocore.config import AioConfig

        return resolved.session.create_client(
            call.operation.service,
            region_name=region,
            endpoint_url=call.endpoint,
            verify=self._ca_bundle,
            aws_access_key_id=resolved.access_key_id,
            aws_secret_access_key=resolved.secret_access_key,
            aws_session_token=resolved.session_token,
            config=AioConfig(
                # Variables are passed as arguments; the shared files must not redirect the call.
                ignore_configured_endpoint_urls=True,
                **client_settings(
                    call.operation.service_name, with_endpoint=call.endpoint is not None
                ),
            ),
        )

    # Looking up.

    async def _resolve(self) -> ResolvedCredentials:
        """Return the current credentials, joining a look-up under way."""
        if self._looking_up is None or self._looking_up.done():
            self._looking_up = asyncio.create_task(self._look_up(), name="aws-credentials")
            # Retrieve its error, also when nobody waits for it any more.
            self._looking_up.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._looking_up)

    async def _look_up(self) -> ResolvedCredentials:
        try:
            async with asyncio.timeout(self._lookup_limit_s):
                return await self._find()
        except Exception as error:
            self.forget()
            raise lookup_error(error, profile=self._named_profile) from error

    @property
    def _named_profile(self) -> str | None:
        by_variable = os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE")
        return self._profile or by_variable

    async def _find(self) -> ResolvedCredentials:
        if self._credentials is None:
            # In a thread, because importing takes a fifth of a second in which others are served,
            # and the file system of the shared files may hang.
            self._session = await off_loop(
                partial(_session, self._profile, region=self._region, models=self._models),
                limit_s=self._lookup_limit_s,
            )
            self._models = self._session.get_component("data_loader")
            if keys := self._keys:
                self._session.set_credentials(
                    keys.access_key_id, keys.secret_access_key, keys.session_token
                )
            self._credentials = await self._session.get_credentials()
        session, credentials = self._session, self._credentials
        if credentials is None:
            raise no_credentials(self._named_profile)
        frozen = await credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise no_credentials(self._named_profile)
        return ResolvedCredentials(
            session=session,
            access_key_id=frozen.access_key,
            secret_access_key=frozen.secret_key,
            session_token=frozen.token,
            # Known of credentials that botocore renews; the others have no such attribute.
            expires_at=getattr(credentials, "_expiry_time", None),
        )


@dataclass(frozen=True, slots=True)
class _SignedCall:
    operation: AwsOperation
    parameters: Mapping[str, Any] = field(repr=False)
    region: str | None
    endpoint: str | None
    on_error: Callable[[AwsError, str], SourceError]


def _session(profile: str | None, *, region: str | None, models: Any) -> Any:
    """Return a session on the standard chain.

    *region* is for the calls that the chain itself makes; *models* are another session's.
    """
    import logging

    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    # It logs failed renewals with tracebacks; we report the error that results.
    logging.getLogger("aiobotocore").addHandler(logging.NullHandler())
    session = AioSession(profile=profile)
    # botocore reads only AWS_DEFAULT_REGION.
    if region := region or os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    if models is not None:
        session.register_component("data_loader", models)
    # For the calls that the chain itself makes, to STS or SSO.
    session.set_default_client_config(AioConfig(**client_settings("AWS", with_endpoint=False)))
    chain = session.get_component("credential_provider")
    chain.get_provider("assume-role")._prompter = _refuse_mfa
    for variable in ("config_file", "credentials_file"):
        # Read here, off the event loop: where that hangs, the chain must not read it on the loop.
        path = Path(str(session.get_config_variable(variable))).expanduser()
        with suppress(OSError), path.open("rb") as file:
            file.read(1)
    return session


def _refuse_mfa(_: str) -> str:
    raise Refused(
        "the AWS profile wants an MFA code, which nobody can type here; use a profile without "
        "mfa_serial, or one with SSO",
        word="no-identity",
    )


def _region_of(region: str | None, session: Any) -> str:
    found = region or session.get_config_variable("region")
    if not found:
        raise Refused(
            "no AWS region is set, and without one the global STS endpoint would be asked, which "
            "issues no web identity tokens; set the identity's region, or AWS_REGION",
            word="bad-request",
        )
    return str(found)


def _require_regional(url: str, call: _SignedCall, region: str, session: Any) -> None:
    """Refuse the global endpoint, naming what led there. Source: aws-api 2.2, 5."""
    if URL(url).host != GLOBAL_STS_HOST:
        return
    setting, next_step = _setting_of_global(call, region, session)
    raise Refused(
        f"{setting} leads to {url}, the global STS endpoint, which issues no web identity "
        f"tokens; {next_step}",
        word="bad-request",
    )


def _setting_of_global(call: _SignedCall, region: str, session: Any) -> tuple[str, str]:
    """Return the setting that leads to the global endpoint, and what to do about it."""
    if call.endpoint is not None:
        return call.operation.endpoint_variable, "set it to a regional endpoint, or unset it"
    if region == "aws-global":
        return "the region aws-global", "set one such as eu-central-1"
    if os.environ.get("AWS_STS_REGIONAL_ENDPOINTS"):
        return "AWS_STS_REGIONAL_ENDPOINTS=legacy", "set it to regional, or unset it"
    file = session.get_config_variable("config_file")
    return f"sts_regional_endpoints = legacy in {file}", "set it to regional, or remove it"


# The edge to botocore.


def client_settings(service: str, *, with_endpoint: bool) -> dict[str, Any]:
    """Return the settings of every botocore client; errors name *service*."""
    settings: dict[str, Any] = {
        "http_session_cls": type("Http", (OwnHttp,), {"service": service}),
        # The keeper is the only retrier: a retry here would send the same token again.
        "retries": {"mode": "standard", "total_max_attempts": 1},
        # "auto" would ask the instance metadata, which may be ours.
        "defaults_mode": "legacy",
    }
    if with_endpoint:
        # Neither goes together with an endpoint that is passed.
        settings |= {"use_fips_endpoint": False, "use_dualstack_endpoint": False}
    return settings


class OwnHttp:
    """An HTTP client for botocore that follows no redirect and limits what is read.

    botocore's own would send a token on to where a redirect points, read responses of any length,
    and expand entities in XML.
    """

    service = "AWS"
    """For error messages."""

    def __init__(self, *, verify: bool | str = True, **_: Any) -> None:
        """*verify* is a CA bundle, or True for the system's authorities."""
        self._ca_bundle = verify if isinstance(verify, str) else None
        self._tls: ssl.SSLContext | None = None
        self._http = HttpClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.close()

    async def send(self, request: Any) -> Any:
        from aiobotocore.awsrequest import AioAWSResponse

        url = URL(request.url, encoded=True)
        if self._ca_bundle and self._tls is None and url.scheme == "https":
            self._tls = await load_ca_bundle(self._ca_bundle)
        response = await self._http.send(
            request.method,
            url,
            upstream=f"{self.service} ({origin(url)})",
            body=request.body.encode() if isinstance(request.body, str) else request.body,
            headers={
                **{name: _text(value) for name, value in request.headers.items()},
                "Accept-Encoding": "identity",
            },
            tls=self._tls,
        )
        headers = {name.lower(): value for name, value in response.headers.items()}
        return AioAWSResponse(request.url, response.status, headers, _Body(response.body))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _Body:
    """A body in memory, read as an HTTP library's would be."""

    def __init__(self, body: bytes) -> None:
        try:
            parse_xml(body)
        except HostileXml:
            body = b""
        self._body = body

    async def read(self) -> bytes:
        return self._body
