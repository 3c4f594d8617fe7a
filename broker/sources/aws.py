"""AWS credentials for an ID token, by STS. The only source that imports botocore, and late."""

import asyncio
import os
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from broker.clock import Clock
from broker.credentials import AwsCredentials, IdToken, Role
from broker.lease import Lease, Refused, Source, SourceError, Stale, Unavailable
from broker.sources.aws_errors import AwsFault, sorted_fault
from broker.sources.durations import HOUR_S, Longest, Wanted
from broker.sources.quoting import shown
from broker.sources.rpc_errors import retry_after_s
from broker.sources.web import ask, open_session, origin

CALL_LIMIT_S = 15.0
"""The whole call, making the client included."""

DNS_SUFFIXES: Final[Mapping[str, str]] = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}
"""By how a region's name begins; every other is below amazonaws.com. A test holds this against
botocore's own table."""


class AssumedRole:
    """AWS credentials for one role, bought with a fresh ID token in every attempt."""

    def __init__(
        self, role: Role, *, token: Source[IdToken], sts: "Sts", warn: Callable[[str], None]
    ) -> None:
        """*warn* is told once, in a sentence, when the role does not allow the wanted duration."""
        self._role = role
        self._token = token
        self._sts = sts
        self._warn = warn
        self._duration = (
            Longest()
            if role.duration_s is None
            else Wanted(role.duration_s, too_long=self._warn_of_duration)
        )

    async def fetch(self) -> Lease[AwsCredentials]:
        """Issue credentials that last ``role.duration_s``, or what the role allows.

        Raises:
            Refused: The role, or AWS, does not admit this identity.
            Unavailable: STS, or Namespace, gave no proper answer.
        """
        return await self._duration.apply(self._assumed)

    async def _assumed(self, duration_s: int) -> Lease[AwsCredentials]:
        try:
            return await self._once(duration_s)
        except Stale:
            pass
        try:
            return await self._once(duration_s)
        except Stale as stale:
            raise Refused(
                f"{stale}, also with a second, fresh ID token; is this machine's clock right?",
                word="expired-token",
            ) from stale

    async def _once(self, duration_s: int) -> Lease[AwsCredentials]:
        token = await self._token.fetch()
        return await self._sts.assume_role(self._role, token.value, duration_s=duration_s)

    def _warn_of_duration(self, duration_s: int) -> None:
        self._warn(
            f"roles.{self._role.name}.duration_s: {self._role.arn} does not allow {duration_s} s, "
            f"so {HOUR_S} s is used; raise its MaxSessionDuration, or set duration_s to {HOUR_S} "
            'or "max"'
        )


class Sts:
    """STS over unsigned calls, one client per region, made when first needed.

    Reads neither the ambient credentials nor the shared AWS configuration, whose endpoint_url
    would redirect the call: what is passed here stands, beside AWS_CA_BUNDLE and the proxies.

    Source: aws-api 2.1, 2.2.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
        call_limit_s: float = CALL_LIMIT_S,
    ) -> None:
        """*endpoint* stands for every region's own. Use as a context manager, or `close` it."""
        self._call_limit_s = call_limit_s
        self._clock = clock
        self._endpoint = endpoint
        self._ca_bundle = ca_bundle
        self._clients: dict[str, Any] = {}
        self._one_at_a_time = asyncio.Lock()
        self._leaving = AsyncExitStack()

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
        """Close every connection. A later call opens new ones."""
        self._clients.clear()
        await self._leaving.aclose()

    async def assume_role(
        self, role: Role, token: IdToken, *, duration_s: int
    ) -> Lease[AwsCredentials]:
        """Call AssumeRoleWithWebIdentity once.

        Raises:
            DurationTooLong, Refused: A proper no.
            Stale: The ID token is no good any more, or not yet.
            Unavailable: No proper answer.

        Source: aws-api 3.
        """
        asked_at = self._clock.now()
        of = f"STS ({self._endpoint or role.region})"
        try:
            async with asyncio.timeout(self._call_limit_s):
                client = await self._client(role.region)
                answer = await client.assume_role_with_web_identity(
                    **_parameters(role, token, duration_s=duration_s)
                )
        # botocore's parsers raise bare KeyErrors and worse on bodies that they do not expect.
        except Exception as error:
            raise _sorted(error, role=role, token=token, of=of) from error
        return _lease_in(answer, role=role, asked_at=asked_at, of=of)

    async def _client(self, region: str) -> Any:
        async with self._one_at_a_time:
            if region not in self._clients:
                self._clients[region] = await self._new_client(region)
            return self._clients[region]

    async def _new_client(self, region: str) -> Any:
        # In a thread, because it takes a fifth of a second in which others are to be served.
        session, config = await asyncio.to_thread(_botocore)
        return await self._leaving.enter_async_context(
            session.create_client(
                "sts",
                region_name=region,
                endpoint_url=self._endpoint or regional_sts_url(region),
                verify=self._ca_bundle,
                config=config,
            )
        )


def regional_sts_url(region: str) -> str:
    """Return the region's own STS endpoint, never the global one.

    Raises:
        Refused: *region* is none.

    Source: aws-api 2.2.
    """
    if not re.fullmatch(r"[a-z]+(-[a-z]+)+-\d+", region, re.ASCII):
        raise Refused(
            f"{shown(region)!r} is no AWS region; set region to one such as eu-central-1",
            word="bad-request",
        )
    suffix = next(
        (suffix for start, suffix in DNS_SUFFIXES.items() if region.startswith(start)),
        "amazonaws.com",
    )
    return f"https://sts.{region}.{suffix}"


def _botocore() -> tuple[Any, Any]:
    """Return a session that reads no file of the user's, and the configuration for its clients."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore import UNSIGNED

    session = AioSession(
        session_vars={
            # name: (key in the file, variable, default, conversion)
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    config = AioConfig(
        http_session_cls=OwnHttp,
        signature_version=UNSIGNED,
        # The keeper is the only retrier: a retry here would send the same ID token again.
        retries={"mode": "standard", "total_max_attempts": 1},
        # "auto" would ask the instance metadata, which may be ours.
        defaults_mode="legacy",
        # Neither goes together with an endpoint that is passed.
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
    )
    return session, config


class OwnHttp:
    """What botocore sends by, in place of its own: that one follows redirects, with the ID token
    in its hands, and reads answers of any length."""

    def __init__(self, *, verify: bool | str = True, **_: Any) -> None:
        """*verify* is a CA bundle, or True for botocore's own; the rest is of no use here."""
        self._verify = verify
        self._session: aiohttp.ClientSession | None = None
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _opened(self, url: URL) -> aiohttp.ClientSession:
        async with self._one_at_a_time:
            if self._session is None:
                is_tls = url.scheme == "https"
                self._session = open_session(
                    await asyncio.to_thread(_tls, self._verify) if is_tls else None
                )
            return self._session

    async def send(self, request: Any) -> Any:
        from aiobotocore.awsrequest import AioAWSResponse

        url = URL(request.url, encoded=True)
        body = request.body.encode() if isinstance(request.body, str) else request.body
        reply = await ask(
            await self._opened(url),
            request.method,
            url,
            of=f"STS ({origin(url)})",
            body=body,
            headers={
                **{name: _text(value) for name, value in request.headers.items()},
                "Accept-Encoding": "identity",
            },
        )
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return AioAWSResponse(request.url, reply.status, headers, _AlreadyRead(reply.body))


def _tls(verify: bool | str) -> ssl.SSLContext:
    """Return what connections are verified with. Reads a quarter of a megabyte."""
    from botocore.httpsession import get_cert_path

    bundle = get_cert_path(verify)
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:  # a bundle that is none is an SSLError, which is one too
        raise Refused(
            f"the CA bundle {bundle} cannot be used ({error.strerror or error}); "
            "correct AWS_CA_BUNDLE",
            word="tls",
        ) from error


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _AlreadyRead:
    """A body in memory, read as an HTTP library's would be."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


def _parameters(role: Role, token: IdToken, *, duration_s: int) -> dict[str, Any]:
    optional = {
        "Policy": role.policy,
        "PolicyArns": [{"arn": arn} for arn in role.policy_arns] or None,
    }
    return {
        "RoleArn": role.arn,
        "RoleSessionName": role.session_name or token.session_name,
        "WebIdentityToken": token.jwt,
        "DurationSeconds": duration_s,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _lease_in(answer: object, *, role: Role, asked_at: datetime, of: str) -> Lease[AwsCredentials]:
    found = answer.get("Credentials") if isinstance(answer, dict) else None
    keys = found if isinstance(found, dict) else {}
    texts = [keys.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    expires_at = keys.get("Expiration")
    if not all(_is_a_key(text) for text in texts) or not isinstance(expires_at, datetime):
        raise Unavailable(f"{of} answered without proper credentials", word="bad-answer")
    access_key_id, secret_access_key, session_token = map(str, texts)
    return Lease(
        value=AwsCredentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            role_arn=role.arn,
        ),
        issued_at=asked_at,
        # Aware already, but perhaps in the zone of this machine. Source: aws-api 2.5.
        expires_at=expires_at.astimezone(UTC),
    )


def _is_a_key(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[!-~]+", text) is not None


def _sorted(error: Exception, *, role: Role, token: IdToken, of: str) -> SourceError:
    """Return what to raise for whatever the call raised. Source: aws-api 2.4, 10."""
    import botocore.exceptions as known

    match error:
        case SourceError():
            return error
        case known.ClientError():
            return sorted_fault(_fault_in(error), role=role, token=token, of=of)
        case TimeoutError():
            return Unavailable(f"{of} gave no answer in time", word="timeout")
        case known.BotoCoreError():
            return Refused(
                f"{of} was not called: {shown(error, hiding=[token.jwt])}; "
                f"check roles.{role.name} in the configuration",
                word="bad-request",
            )
    return Unavailable(
        f"{of} gave no proper answer ({type(error).__name__}); is that AWS, or a proxy? check "
        "AWS_ENDPOINT_URL_STS if it stays so",
        word="bad-answer",
    )


def _fault_in(error: Any) -> AwsFault:
    """Read a ClientError defensively: a proxy's page makes one without code or message."""
    response = error.response if isinstance(error.response, dict) else {}
    told = response.get("Error") or {}
    about = response.get("ResponseMetadata") or {}
    code = told.get("Code")
    return AwsFault(
        code=str(code) if code else None,
        message=str(told.get("Message") or ""),
        status=int(about.get("HTTPStatusCode") or 0),
        retry_after_s=retry_after_s(
            {
                "Retry-After": str(about.get("HTTPHeaders", {}).get("retry-after", "")),
                "Date": str(about.get("HTTPHeaders", {}).get("date", "")),
            }
        ),
    )
