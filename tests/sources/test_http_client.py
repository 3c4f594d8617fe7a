"""One question, at most 1 MiB of answer; proxies and where plain http may go."""

import base64
import gzip
import json

import aiohttp
import pytest
from yarl import URL

from broker.lease import Unavailable
from broker.sources.http_client import may_be_plain, origin, proxy_for, send_request
from tests.support.sources import answering, chunked_answer, http_answer

MIB = 1 << 20


async def asked(http: aiohttp.ClientSession, answer: bytes) -> bytes:
    async with answering(answer) as url:
        return (await send_request(http, "GET", URL(url), of="upstream")).body


async def test_an_answer_of_just_1_mib_is_read(http: aiohttp.ClientSession) -> None:
    assert len(await asked(http, http_answer(200, b"x" * MIB))) == MIB
    assert len(await asked(http, chunked_answer(200, b"x" * 1024, times=1024))) == MIB


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(200, b"x" * (MIB + 1)),
        http_answer(200, b"x" * (10 * MIB)),
        chunked_answer(200, b"x" * 65536, times=160),
        http_answer(200, gzip.compress(b"x" * (10 * MIB)), "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (10 * MIB),
    ],
    ids=["one byte more", "10 MiB", "10 MiB chunked", "10 MiB packed", "10 MiB without a length"],
)
async def test_a_longer_answer_is_cut_off(http: aiohttp.ClientSession, answer: bytes) -> None:
    with pytest.raises(Unavailable, match="more than 1 MiB") as error:
        await asked(http, answer)

    assert error.value.word == "bad-answer"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_what_is_no_http_is_unavailable(http: aiohttp.ClientSession, answer: bytes) -> None:
    with pytest.raises(Unavailable) as error:
        await asked(http, answer)

    assert error.value.word in ("bad-answer", "unreachable")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://iam.example.com/x", "http://proxy:3128"),
        ("http://169.254.169.254/x", "http://plain:3128"),
        ("https://here.internal/x", None),
        ("https://127.0.0.1:1/x", None),
        ("http://127.8.9.1:1/x", None),
        ("http://localhost:1/x", None),
        ("http://[::1]:1/x", None),
    ],
)
def test_the_environments_proxy_is_used_but_never_for_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p@proxy:3128")
    monkeypatch.setenv("http_proxy", "plain:3128")
    monkeypatch.setenv("NO_PROXY", "internal")

    found, headers = proxy_for(URL(url))

    assert (None if found is None else str(found).rstrip("/")) == proxy
    if proxy == "http://proxy:3128":
        login = base64.b64decode(headers["Proxy-Authorization"].removeprefix("Basic "))
        assert login == b"user:p"


async def test_a_proxy_receives_the_request_and_its_own_login(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    def echoing(asked: bytes) -> bytes:
        return http_answer(200, asked)

    async with answering(echoing) as url:
        monkeypatch.setenv("http_proxy", url.replace("http://", "http://user:p@"))

        reply = await send_request(http, "GET", URL("http://upstream.example/x"), of="upstream")

    assert reply.body.startswith(b"GET http://upstream.example/x HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpw\r\n" in reply.body


async def test_a_proxy_that_refuses_a_tunnel_is_named(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    seen: list[bytes] = []

    def refusing(asked: bytes) -> bytes:
        seen.append(asked)
        return http_answer(407, b"")

    async with answering(refusing) as url:
        monkeypatch.setenv("https_proxy", url.replace("http://", "http://user:p@"))

        with pytest.raises(Unavailable, match=r"the proxy did not connect .*check HTTPS_PROXY"):
            await send_request(http, "GET", URL("https://upstream.example/x"), of="upstream")

    assert seen[0].startswith(b"CONNECT upstream.example:443 ")
    assert b"Proxy-Authorization: Basic dXNlcjpw\r\n" in seen[0]


async def test_redirects_are_answers_like_others(http: aiohttp.ClientSession) -> None:
    async with answering(http_answer(302, b"", "Location: http://127.0.0.1:1/")) as url:
        reply = await send_request(http, "GET", URL(url), of="upstream")

    assert (reply.status, reply.headers["location"]) == (302, "http://127.0.0.1:1/")


async def test_a_cookie_is_not_sent_back(http: aiohttp.ClientSession) -> None:
    def echoing(asked: bytes) -> bytes:
        return http_answer(200, json.dumps(asked.decode()).encode(), "Set-Cookie: a=b")

    async with answering(echoing) as url:
        replies = [await send_request(http, "GET", URL(url), of="upstream") for _ in range(2)]

    assert all("ookie" not in reply.body.decode() for reply in replies)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://example.com/", True),
        ("http://127.0.0.1/", True),
        ("http://169.254.1.1/", True),
        ("http://example.com/", False),
        ("http://10.0.0.1/", False),
        ("ftp://127.0.0.1/", False),
        ("/path", False),
    ],
)
def test_a_token_travels_by_tls_or_on_this_link(url: str, plain: bool) -> None:
    assert may_be_plain(URL(url)) is plain


def test_only_the_origin_of_an_address_is_shown() -> None:
    assert origin(URL("https://user:p@example.com:8443/SECRET?q")) == "https://example.com:8443"
