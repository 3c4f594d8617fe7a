"""Ask one HTTP question and read at most 1 MiB of the answer. Judges neither status nor body."""

import base64
import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from broker.lease import Unavailable

ANSWER_LIMIT_BYTES = 1 << 20
CONNECT_LIMIT_S = 5.0
ATTEMPT_LIMIT_S = 15.0
"""Source: namespace-api 9.3, last line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """One answer. Header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def open_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Return the session for `ask`: no cookies, no netrc. To be closed by whoever opened it.

    *tls* is what connections are verified with, the system's authorities by default.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def send_request(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    *,
    of: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    limit_s: float = ATTEMPT_LIMIT_S,
) -> HttpResponse:
    """Send one request and return the answer, whatever its status; redirects are answers too.

    *of* is whom the errors speak of; they carry no URL, because a path may hold a secret.

    Raises:
        Unavailable: No whole answer within *limit_s* seconds and 1 MiB.
    """
    proxy, proxy_headers = proxy_for(url)
    try:
        async with session.request(
            method,
            url,
            data=body,
            # A proxy reads its own header on the tunnel, or on the request where there is none.
            headers={**(headers or {}), **(proxy_headers if url.scheme == "http" else {})},
            proxy=proxy,
            proxy_headers=proxy_headers if proxy else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_LIMIT_S),
        ) as response:
            content = await _read_at_most(response, of=of)
            return HttpResponse(status=response.status, headers=response.headers, body=content)
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
        raise _unreachable(error, of=of, limit_s=limit_s) from error


async def _read_at_most(response: aiohttp.ClientResponse, *, of: str) -> bytes:
    """Return the body, chunked or not.

    Raises:
        Unavailable: It is longer than 1 MiB; the rest is not read.
    """
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_LIMIT_BYTES:
            response.close()
            raise Unavailable(
                f"{of} answered with more than 1 MiB; is that address right?", word="bad-answer"
            )
    return bytes(content)


def _unreachable(error: Exception, *, of: str, limit_s: float) -> Unavailable:
    """Sort what the HTTP library raised. Its text is not redacted: it may hold the URL."""
    match error:
        case TimeoutError():
            return Unavailable(f"{of} gave no answer within {limit_s:g} s", word="timeout")
        case aiohttp.ClientSSLError():
            return Unavailable(
                f"{of} has a certificate that is not trusted here, or speaks no TLS "
                f"({_reason(error)}); is a proxy in between, or a CA bundle missing?",
                word="tls",
            )
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return Unavailable(
                f"{of} was not reached: the proxy did not connect ({_reason(error)}); "
                "check HTTPS_PROXY and NO_PROXY",
                word="unreachable",
            )
        case aiohttp.ClientConnectionError() | OSError():
            return Unavailable(f"{of} was not reached ({_reason(error)})", word="unreachable")
        case _:
            return Unavailable(
                f"{of} gave no proper HTTP answer ({_reason(error)})", word="bad-answer"
            )


def _reason(error: BaseException) -> str:
    """Return why, from the operating system or by the error's kind, never by its text."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name does not resolve"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientHttpProxyError():
            return f"HTTP {error.status}"
    return type(error).__name__


def proxy_for(url: URL) -> tuple[URL | None, dict[str, str]]:
    """Return the proxy that the environment names for *url*, and the header it wants.

    Loopback is never proxied, link-local is, as for the vendor's tools.

    Source: namespace-api 2.1.
    """
    named = getproxies().get(url.scheme)
    host = url.host or ""
    if not named or is_loopback(host) or proxy_bypass(f"{host}:{url.port}"):
        return None, {}
    proxy = URL(named if "://" in named else f"http://{named}")
    if proxy.user is None:
        return proxy, {}
    login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
    return proxy.with_user(None), {"Proxy-Authorization": f"Basic {login}"}


def is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def may_be_plain(url: URL) -> bool:
    """Say whether a token may travel to or from *url*: by TLS, or without leaving the link."""
    if url.scheme == "https":
        return bool(url.host)
    address = _address(url.host or "")
    near = is_loopback(url.host or "") or (address is not None and address.is_link_local)
    return url.scheme == "http" and near


def origin(url: URL) -> str:
    """Return what of *url* may be redacted: a path or user part may hold a secret."""
    return str(url.origin())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
