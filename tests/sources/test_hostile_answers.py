"""Whatever a hostile upstream answers ends soon, in one of our own errors, and in little memory."""

import asyncio
import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from broker.clock import SystemClock
from broker.credentials import NamespaceToken
from broker.lease import Lease, Refused, SourceError, Unavailable
from broker.sources.aws.assume_role import StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.web_identity import DeveloperTokenFor, IdentityPoolId, WebIdentityTokenFor
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import identity_source
from tests.support.sources import (
    REGION,
    Holding,
    http_answer,
    jwt_of,
    some_id_token,
    some_role,
    spec_of,
)

MIB = 1 << 20
MEMORY_LIMIT = 24 * MIB
"""The answer itself is at most 1 MiB, as bytes, as text and as what is parsed from it."""

CALL_LIMIT_S = 2.0
"""Short, because some of them answer for as long as they are listened to."""

Answer = Callable[[], Iterable[bytes]]


def whole(status: int, body: bytes, *headers: str) -> Answer:
    return lambda: [http_answer(status, body, *headers)]


def raw(*parts: bytes) -> Answer:
    return lambda: parts


def endless(head: bytes, part: bytes) -> Answer:
    """Answer with 64 MiB, should anybody read so far."""
    return lambda: itertools.chain([head], itertools.repeat(part, 64 * MIB // len(part)))


def document(subset: str, text: str = "&a;") -> bytes:
    return (
        f"<?xml version='1.0'?><!DOCTYPE x [{subset}]><AssumeRoleWithWebIdentityResponse>"
        "<AssumeRoleWithWebIdentityResult><Credentials>"
        f"<AccessKeyId>{text}</AccessKeyId><SecretAccessKey>{text}</SecretAccessKey>"
        f"<SessionToken>{text}</SessionToken><Expiration>2031-05-01T12:00:00Z</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    ).encode()


def credentials(text: str) -> bytes:
    return document("", text).replace(b"<!DOCTYPE x []>", b"")


OK = b"HTTP/1.1 200 OK\r\n"
LAUGHS = "".join(f"<!ENTITY {chr(98 + n)} '{('&' + chr(97 + n) + ';') * 10}'>" for n in range(9))
KINDS: dict[str, Answer] = {
    "nothing": raw(),
    "half a status line": raw(b"HTTP/1.1 2"),
    "HTTP/0.9": raw(b"ok\n"),
    "HTTP/2": raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d"),
    "a TLS alert": raw(b"\x15\x03\x01\x00\x02\x02\x28"),
    "a status of 20 digits": raw(b"HTTP/1.1 20000000000000000000 OK\r\n\r\n"),
    "100 Continue without end": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1024),
    "a header of many MiB": endless(OK + b"X: ", b"y" * 65536),
    "headers without end": endless(OK, b"X: y\r\n" * 4096),
    "a negative length": raw(OK + b"Content-Length: -1\r\n\r\n"),
    "a length of an exabyte": raw(OK + b"Content-Length: 1000000000000000000\r\n\r\nx"),
    "two lengths": raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "a length and chunks": raw(
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    ),
    "a chunk of an exabyte": raw(OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nx"),
    "a chunk of negative size": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n"),
    "a chunk's size without end": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "chunks of one byte without end": endless(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 4096
    ),
    "a body without end": endless(OK + b"Connection: close\r\n\r\n", b"x" * 65536),
    "a gzip bomb": whole(200, gzip.compress(b"x" * 64 * MIB), "Content-Encoding: gzip"),
    "a deflate bomb": whole(200, zlib.compress(b"x" * 64 * MIB), "Content-Encoding: deflate"),
    "a coding of its own": whole(200, b"x", "Content-Encoding: x-own"),
    "a redirect to itself": whole(302, b"", "Location: /"),
    "a redirect to a file": whole(307, b"", "Location: file:///etc/passwd"),
    "cookies": whole(200, b"{}", *(f"Set-Cookie: a{n}=b" for n in range(100))),
    "a pause of ages": whole(429, b"{}", "Retry-After: " + "9" * 400),
    "a message of 900 KiB": whole(400, b'{"code":7,"message":"' + b"\\u001b" * 150_000 + b'"}'),
    "entities that multiply": whole(200, document(f"<!ENTITY a 'ha'>{LAUGHS}", "&j;")),
    "entities that multiply, in an error": whole(403, document(f"<!ENTITY a 'ha'>{LAUGHS}", "&j;")),
    "one large entity many times": whole(
        200, document(f"<!ENTITY a '{'x' * 100_000}'>", "&a;" * 10_000)
    ),
    "an entity that is a file": whole(200, document("<!ENTITY a SYSTEM 'file:///etc/hostname'>")),
    "a document type elsewhere": whole(
        200, document("<!ENTITY % a SYSTEM 'http://127.0.0.1:1/'>%a;")
    ),
    "entities in UTF-16": whole(
        200, document(f"<!ENTITY a 'ha'>{LAUGHS}", "&j;").decode().encode("utf-16")
    ),
    "XML of 200,000 levels": whole(200, b"<a>" * 200_000 + b"</a>" * 60_000),
    "XML of 250,000 elements": whole(200, b"<a>" + b"<a/>" * 250_000 + b"</a>"),
    "XML of 80,000 attributes": whole(
        200, b"<a " + b" ".join(b"a%d=''" % n for n in range(80_000)) + b"/>"
    ),
    "keys with line ends in them": whole(200, credentials("x&#10;Set-Cookie: y")),
    "JSON of 500,000 levels": whole(200, b"[" * 500_000),
    "JSON of 100,000 members": whole(
        200, b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}"
    ),
    "a number of a million digits": whole(200, b'{"id_token":' + b"9" * 1_000_000 + b"}"),
    "half a surrogate": whole(200, b'{"id_token":"\\ud800","tenant_token":"\\ud800"}'),
    "a token of a million levels": whole(
        200, f'{{"id_token":"{jwt_of(["x"])[:-1]}{"W1tb" * 200_000}.x"}}'.encode()
    ),
}


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Serve *answer* to every request on loopback, as far as it is read; yield the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in answer():
                writer.write(part)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def of_sts(url: str, http: HttpClient, chain: CredentialChain) -> object:
    sts = StsClient(http, clock=SystemClock(), endpoint=url, call_limit_s=CALL_LIMIT_S)
    return await sts.assume_role(some_role(), some_id_token(), duration_s=3600)


async def of_namespace(url: str, http: HttpClient, chain: CredentialChain) -> object:
    clock = SystemClock()
    bearer = Lease(value=NamespaceToken(bearer="nsrt_x"), issued_at=clock.now(), expires_at=None)
    iam = NamespaceIam(http, url, call_limit_s=CALL_LIMIT_S)
    return await IdTokenFor("aud", bearer=Holding(bearer), iam=iam, clock=clock).fetch()


async def of_the_metadata_service(url: str, http: HttpClient, chain: CredentialChain) -> object:
    source = identity_source(
        source="auto",
        token_file=None,
        token_spec=None,
        environ={"NSC_TOKEN_SPEC": spec_of({"version": "v1", "metadata_url": url})},
        iam=NamespaceIam(http, url),
        http=http,
        clock=SystemClock(),
        metadata_limit_s=CALL_LIMIT_S,
    )
    return await source.fetch()


async def of_sts_to_a_signed_call(url: str, http: HttpClient, chain: CredentialChain) -> object:
    source = WebIdentityTokenFor(
        "aud", chain=chain, clock=SystemClock(), region=REGION, endpoint=url
    )
    return await source.fetch()


async def of_cognito(url: str, http: HttpClient, chain: CredentialChain) -> object:
    pool = IdentityPoolId(region=REGION, guid="6f0a")
    source = DeveloperTokenFor("ws_1", pool=pool, chain=chain, clock=SystemClock(), endpoint=url)
    return await source.fetch()


Asks = Callable[[str, HttpClient, CredentialChain], Awaitable[object]]


@pytest.fixture
async def chain(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CredentialChain]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    async with CredentialChain(clock=SystemClock(), call_limit_s=CALL_LIMIT_S * 2) as chain:
        yield chain


@pytest.mark.parametrize(
    "asks",
    [of_sts, of_namespace, of_the_metadata_service, of_sts_to_a_signed_call, of_cognito],
    ids=lambda asks: asks.__name__,
)
async def test_a_hostile_answer_is_an_error_of_ours_in_little_memory(
    asks: Asks, http: HttpClient, chain: CredentialChain
) -> None:
    # Once before, for what is imported and kept by the first call.
    with pytest.raises(SourceError):
        await asks("http://127.0.0.1:1", http, chain)

    for kind, answer in KINDS.items():
        async with serving(answer) as url:
            tracemalloc.start()
            try:
                async with asyncio.timeout(30):
                    with pytest.raises(SourceError) as error:
                        await asks(url, http, chain)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

        assert isinstance(error.value, Unavailable | Refused), kind
        assert peak < MEMORY_LIMIT, (kind, peak / MIB)
        assert str(error.value).isprintable(), kind
        assert len(str(error.value)) < 1500, kind
