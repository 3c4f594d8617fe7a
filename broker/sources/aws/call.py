"""The edge to botocore that every call goes over: what it sends by, and what its errors mean.
Chooses neither identity nor operation."""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Self

import aiohttp
from yarl import URL

from broker.lease import Refused, SourceError, Unavailable
from broker.sources.aws.errors import AwsFault
from broker.sources.namespace.errors import retry_after_s
from broker.sources.quoting import shown
from broker.sources.web import ask, open_session, origin


def client_settings(service: str, *, with_endpoint: bool) -> dict[str, Any]:
    """Return what every client is made with. *service* is whom its errors speak of."""
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
    """What botocore sends by, in place of its own: that one follows redirects, with a token
    in its hands, and reads answers of any length."""

    service = "AWS"
    """Whom the errors speak of."""

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
            of=f"{self.service} ({origin(url)})",
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


def sorted_call(
    error: Exception,
    *,
    of: str,
    answered: Callable[[AwsFault], SourceError],
    check: str,
    endpoint_named_by: str,
    hiding: Iterable[str] = (),
) -> SourceError:
    """Return what to raise for whatever a call to *of* raised.

    *answered* sorts what the service said, *check* is the next step where the call was not even
    sent, *endpoint_named_by* the variable that may name the wrong address.

    Source: aws-api 2.4, 10.
    """
    import botocore.exceptions as known

    match error:
        case SourceError():
            return error
        case known.ClientError():
            return answered(fault_in(error))
        case TimeoutError():
            return Unavailable(f"{of} gave no answer in time", word="timeout")
        case known.BotoCoreError():
            return Refused(
                f"{of} was not called: {shown(error, hiding=hiding)}; {check}", word="bad-request"
            )
    return Unavailable(
        f"{of} gave no proper answer ({type(error).__name__}); is that AWS, or a proxy? check "
        f"{endpoint_named_by} if it stays so",
        word="bad-answer",
    )


def fault_in(error: Any) -> AwsFault:
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
