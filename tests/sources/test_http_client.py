"""One request, at most 1 MiB of response; proxies, and where plain http may go."""

import base64
import gzip
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from yarl import URL

from broker.clock import ClockSkew
from broker.lease import Refused, Unavailable
from broker.sources.http_client import HttpClient, may_be_plain, origin, proxy_for
from tests.support.fakes import FakeClock
from tests.support.sources import answering, chunked_answer, http_answer

MIB = 1 << 20


async def asked(http: HttpClient, answer: bytes) -> bytes:
    async with answering(answer) as url:
        return (await http.send("GET", URL(url), upstream="upstream")).body


async def test_an_answer_of_just_1_mib_is_read(http: HttpClient) -> None:
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
async def test_a_longer_answer_is_cut_off(http: HttpClient, answer: bytes) -> None:
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
async def test_what_is_no_http_is_unavailable(http: HttpClient, answer: bytes) -> None:
    with pytest.raises(Unavailable) as error:
        await asked(http, answer)

    assert error.value.word in ("bad-answer", "unreachable")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://iam.example.com/x", "http://proxy:3128"),
        ("http://169.254.169.254/x", None),
        ("https://here.internal/x", None),
        ("https://127.0.0.1:1/x", None),
        ("http://127.8.9.1:1/x", None),
        ("http://localhost:1/x", None),
        ("http://[::1]:1/x", None),
    ],
)
def test_the_environments_proxy_is_used_for_tls_and_never_for_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p@proxy:3128")
    monkeypatch.setenv("http_proxy", "plain:3128")
    monkeypatch.setenv("NO_PROXY", "internal")

    found, headers = proxy_for(URL(url))

    assert (None if found is None else str(found).rstrip("/")) == proxy
    if proxy == "http://proxy:3128":
        assert headers is not None
        login = base64.b64decode(headers["Proxy-Authorization"].removeprefix("Basic "))
        assert login == b"user:p"


async def test_the_secret_path_of_a_token_never_goes_to_a_proxy(
    monkeypatch: pytest.MonkeyPatch, http: HttpClient
) -> None:
    seen: list[bytes] = []

    def noting(asked: bytes) -> bytes:
        seen.append(asked)
        return http_answer(200, b"")

    async with answering(noting) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("HTTPS_PROXY", url)

        with suppress(Unavailable):
            await http.send("GET", URL("http://169.254.7.7:1/SECRET"), upstream="it", limit_s=0.5)

    assert seen == []


@pytest.mark.parametrize(
    ("entry", "host", "is_direct"),
    [
        ("*", "iam.example.com", True),
        ("example.com", "iam.example.com", True),
        ("example.com", "example.com", True),
        (".example.com", "iam.example.com", True),
        ("*.example.com", "iam.example.com", True),
        ("example.com", "badexample.com", False),
        ("EXAMPLE.com", "iam.Example.com", True),
        ("example.com:443", "example.com", True),
        ("example.com:8443", "example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "[fd00::1]", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("[fd00::1]:443", "[fd00::1]", True),
        ("10.1.2", "10.1.2.3", False),
        ("nonsense/99, other , example.com", "example.com", True),
        ("2.3", "10.1.2.3", False),
        ("", "example.com", False),
        (".", "example.com", False),
    ],
)
def test_no_proxy_is_read_as_go_and_curl_read_it(
    monkeypatch: pytest.MonkeyPatch, entry: str, host: str, is_direct: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entry)

    found, _ = proxy_for(URL(f"https://{host}/"))

    assert (found is None) is is_direct


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:notaport", "http://", "socks5://x:1", "http://u:secret@:x"]
)
async def test_a_proxy_that_is_none_is_refused_by_its_variable_without_its_value(
    monkeypatch: pytest.MonkeyPatch, http: HttpClient, text: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)

    with pytest.raises(Refused, match="HTTPS_PROXY names no http proxy; set it to") as error:
        await http.send("GET", URL("https://upstream.example/"), upstream="upstream")

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("ahead_s", "date"),
    [
        (-600, "Thu, 01 Jan 2026 00:10:00 GMT"),
        (600, "Wed, 31 Dec 2025 23:50:00 GMT"),
        (0, "Thu, 01 Jan 2026 00:00:10 GMT"),
    ],
)
async def test_how_far_this_clock_is_ahead_is_read_from_the_date_of_a_response(
    ahead_s: int, date: str
) -> None:
    clock, skew = FakeClock(datetime(2026, 1, 1, tzinfo=UTC)), ClockSkew()

    async with (
        answering(http_answer(200, b"", f"Date: {date}")) as url,
        HttpClient(clock=clock, skew=skew) as http,
    ):
        await http.send("GET", URL(url), upstream="upstream")
        before = skew.ahead
        await http.send("GET", URL(url), upstream="upstream", reads_date=True)

    assert before == timedelta()
    assert abs(skew.ahead - timedelta(seconds=ahead_s)) <= timedelta(seconds=1)


@pytest.mark.parametrize("header", ["X: y", "Date: soon", "Date: ", "Date: 99999"])
async def test_a_response_without_a_proper_date_says_nothing_about_the_clock(header: str) -> None:
    skew = ClockSkew()
    skew.observe(timedelta(hours=1))

    async with answering(http_answer(200, b"", header)) as url, HttpClient(skew=skew) as http:
        await http.send("GET", URL(url), upstream="upstream", reads_date=True)

    assert skew.ahead == timedelta(hours=1)


async def test_a_proxy_that_refuses_a_tunnel_is_named(
    monkeypatch: pytest.MonkeyPatch, http: HttpClient
) -> None:
    seen: list[bytes] = []

    def refusing(asked: bytes) -> bytes:
        seen.append(asked)
        return http_answer(407, b"")

    async with answering(refusing) as url:
        monkeypatch.setenv("https_proxy", url.replace("http://", "http://user:p@"))

        with pytest.raises(Unavailable, match=r"the proxy did not connect .*check HTTPS_PROXY"):
            await http.send("GET", URL("https://upstream.example/x"), upstream="upstream")

    assert seen[0].startswith(b"CONNECT upstream.example:443 ")
    assert b"Proxy-Authorization: Basic dXNlcjpw\r\n" in seen[0]


async def test_redirects_are_answers_like_others(http: HttpClient) -> None:
    async with answering(http_answer(302, b"", "Location: http://127.0.0.1:1/")) as url:
        reply = await http.send("GET", URL(url), upstream="upstream")

    assert (reply.status, reply.headers["location"]) == (302, "http://127.0.0.1:1/")


async def test_a_cookie_is_not_sent_back(http: HttpClient) -> None:
    def echoing(asked: bytes) -> bytes:
        return http_answer(200, json.dumps(asked.decode()).encode(), "Set-Cookie: a=b")

    async with answering(echoing) as url:
        replies = [await http.send("GET", URL(url), upstream="upstream") for _ in range(2)]

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
