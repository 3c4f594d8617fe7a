"""Send one HTTP request to a cloud and read at most 1 MiB of the response."""

import asyncio
import base64
import importlib
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from yarl import URL

from broker import __version__
from broker.clock import Clock, ClockSkew, SystemClock
from broker.files.off_loop import off_loop
from broker.lease import Refused, Unavailable

if TYPE_CHECKING:
    import aiohttp

RESPONSE_LIMIT_BYTES = 1 << 20
CONNECT_LIMIT_S = 5.0
ATTEMPT_LIMIT_S = 15.0
"""Source: namespace-api 9.3, last line."""

SKEW_LIMIT_S = 5.0
"""A request that took longer says too little about the clock."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """Status, headers (found in any case) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HttpClient:
    """One session for every request to either cloud: no cookies, no netrc, no redirects.

    Use as a context manager.
    """

    def __init__(self, *, clock: Clock | None = None, skew: ClockSkew | None = None) -> None:
        """*skew* is observed in the `Date` of responses to requests with ``reads_date``."""
        self.skew = skew or ClockSkew()
        self._clock = clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None

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
        """Close every connection. A later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        url: URL,
        *,
        upstream: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit_s: float = ATTEMPT_LIMIT_S,
        tls: ssl.SSLContext | None = None,
        reads_date: bool = False,
    ) -> HttpResponse:
        """Send one request and return the response, whatever its status, also a redirect.

        Errors name *upstream* and carry no URL, because a path may hold a secret. *tls* stands for
        the system's authorities.

        Raises:
            Unavailable: No whole response within *limit_s* seconds and 1 MiB.
            Refused: The proxy that the environment names is none.
        """
        proxy, proxy_headers = proxy_for(url)
        session = await self._opened()
        import aiohttp
        from aiohttp.http_exceptions import HttpProcessingError

        sent_at = self._clock.now()
        try:
            async with session.request(
                method,
                url,
                data=body,
                headers=headers,
                proxy=proxy,
                proxy_headers=proxy_headers,
                ssl=tls or True,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_LIMIT_S),
            ) as response:
                if reads_date:
                    self._observe_skew(response.headers.get("Date", ""), sent_at)
                content = await _read_at_most(response, upstream=upstream)
                return HttpResponse(status=response.status, headers=response.headers, body=content)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise _transport_error(error, upstream=upstream, limit_s=limit_s) from error

    async def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            # Late and in a thread: it takes a fifth of a second, in which leases that a restart
            # brought along are served.
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                headers={"User-Agent": f"namespace-broker/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _observe_skew(self, date: str, sent_at: datetime) -> None:
        server_at = _http_date(date)
        took = self._clock.now() - sent_at
        if server_at is not None and timedelta() <= took <= timedelta(seconds=SKEW_LIMIT_S):
            # A Date is cut to the second, and belongs to some moment of the exchange.
            self.skew.observe(sent_at + took / 2 - server_at - timedelta(seconds=0.5))


async def _read_at_most(response: "aiohttp.ClientResponse", *, upstream: str) -> bytes:
    """Return the body, chunked or not.

    Raises:
        Unavailable: It is longer than 1 MiB; the rest is not read.
    """
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > RESPONSE_LIMIT_BYTES:
            response.close()
            raise Unavailable(
                f"{upstream} answered with more than 1 MiB; is that address right?",
                word="bad-answer",
            )
    return bytes(content)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that *headers* ask for. A date counts from the response's own Date."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    until, since = _http_date(value), _http_date(headers.get("Date", ""))
    if until is None or since is None:
        return None
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo is not None else None


# Errors.


def _transport_error(error: Exception, *, upstream: str, limit_s: float) -> Unavailable:
    """Classify what the HTTP library raised. Its text is not shown: it may hold the URL."""
    import aiohttp

    match error:
        case TimeoutError():
            return Unavailable(f"{upstream} gave no answer within {limit_s:g} s", word="timeout")
        case aiohttp.ClientSSLError():
            return Unavailable(
                f"{upstream} has a certificate that is not trusted here, or speaks no TLS "
                f"({_reason(error)}); is a proxy in between, or a CA bundle missing?",
                word="tls",
            )
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return Unavailable(
                f"{upstream} was not reached: the proxy did not connect ({_reason(error)}); "
                "check HTTPS_PROXY and NO_PROXY",
                word="unreachable",
            )
        case aiohttp.ClientConnectionError() | OSError():
            return Unavailable(f"{upstream} was not reached ({_reason(error)})", word="unreachable")
        case _:
            return Unavailable(
                f"{upstream} gave no proper HTTP answer ({_reason(error)})", word="bad-answer"
            )


def _reason(error: BaseException) -> str:
    """Return why, from the operating system or by the error's kind, never by its text."""
    import aiohttp

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


# TLS.


async def load_ca_bundle(path: str) -> ssl.SSLContext:
    """Read a bundle of authorities, off the event loop: it may have a quarter of a megabyte.

    Raises:
        Refused: It is none.
        Unavailable: It was not read in time.
    """
    try:
        return await off_loop(partial(ssl.create_default_context, cafile=path))
    except TimeoutError as error:
        raise Unavailable(f"the CA bundle {path} was not read: {error}", word="timeout") from error
    except OSError as error:  # a bundle that is none is an SSLError, which is one too
        raise Refused(
            f"the CA bundle {path} cannot be used ({error.strerror or error}); "
            "correct AWS_CA_BUNDLE",
            word="tls",
        ) from error


# Proxies.


def proxy_for(url: URL) -> tuple[URL | None, dict[str, str] | None]:
    """Return the proxy that the environment names for *url*, and the header that it wants.

    Only TLS goes through a proxy: what travels without never leaves this host or its link, and its
    path may hold the secret that protects a token.

    Raises:
        Refused: The variable names no proxy that can be used.

    Source: namespace-api 2.1.
    """
    variable, text = _environment("HTTPS_PROXY")
    host = url.host or ""
    if not text or url.scheme != "https" or is_loopback(host) or _is_direct(host, url.port):
        return None, None
    proxy = _parse_proxy(text, variable=variable)
    if proxy.user is None:
        return proxy, None
    login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
    return proxy.with_user(None), {"Proxy-Authorization": f"Basic {login}"}


def _environment(name: str) -> tuple[str, str]:
    """Return the spelling of *name* that is set, and its value; curl prefers lower case."""
    for spelling in (name.lower(), name):
        if text := os.environ.get(spelling, "").strip():
            return spelling, text
    return name, ""


def _parse_proxy(text: str, *, variable: str) -> URL:
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        is_usable = proxy.scheme in ("http", "https") and bool(proxy.host)
    except ValueError:
        is_usable = False
    if not is_usable:
        # The value is not quoted: it may hold a password.
        raise Refused(
            f"{variable} names no http proxy; set it to http://HOST:PORT, or unset it",
            word="bad-request",
        )
    return proxy


def _is_direct(host: str, port: int | None) -> bool:
    """Return whether NO_PROXY keeps *host* from the proxy, as Go and curl read it.

    An entry is a name with everything below it (with a dot before it, in Go, only what is below),
    an address, a network (CIDR), or ``*``; a port after it narrows it.
    """
    _, text = _environment("NO_PROXY")
    return any(_covers(entry.lower(), host, port) for entry in re.split(r"[,\s]+", text) if entry)


def _covers(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, own = host.lower().rstrip("."), _address(host)
    network = _network(entry)
    if network is not None:
        return own is not None and own in network
    entry, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    address = _address(entry.strip("[]"))
    if address is not None or own is not None:
        return address == own
    suffix = entry.removeprefix("*").strip(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False) if "/" in entry else None
    except ValueError:
        return None


def _split_port(entry: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d{1,5})", entry)
    return (found[1], int(found[2])) if found else (entry, None)


# Addresses.


def is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def may_be_plain(url: URL) -> bool:
    """Return whether a token may travel to *url*: by TLS, or without leaving the link."""
    if url.scheme == "https":
        return bool(url.host)
    address = _address(url.host or "")
    near = is_loopback(url.host or "") or (address is not None and address.is_link_local)
    return url.scheme == "http" and near


def origin(url: URL) -> str:
    """Return what of *url* may be shown: a path or user part may hold a secret."""
    return str(url.origin())


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
