"""Read requests from bytes, and write answers as bytes."""

import re
from http import HTTPStatus
from urllib.parse import unquote

import httptools

from broker.http.message import Answer, Request

BODY_BYTES = 64 * 1024
"""No surface reads a body: up to this much of one, chunk sizes and trailers included, is dropped,
so that the next request begins where this one ends (C-5)."""

MOST_HEADERS = 128

ONCE = frozenset(
    {
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "etag",
        "host",
        "max-forwards",
        "server",
        "transfer-encoding",
        "user-agent",
    }
)
"""Headers that make a request ambiguous when they come twice."""

VERSIONS = {"1.0": (1, 0), "1.1": (1, 1)}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

STATUS_LINES = {
    (version, status.value): f"HTTP/{version[0]}.{version[1]} {status.value} {status.phrase}\r\n"
    for version in VERSIONS.values()
    for status in HTTPStatus
}

ABSOLUTE_FORM = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.%]+\](?::[0-9]*)?|[^/?#\[\]]*)(?=[/?#]|$)"
)


class BadRequest(Exception):
    """What came is not a request, or one that two readers could understand differently."""


class HeadTooLong(Exception):
    """The request line and the headers are longer than the limit."""


class RequestParser:
    """Parses the bytes of one connection at a time.

    llhttp decides what HTTP is, with none of its leniencies. On top of that a request has a known
    version, one ``Host``, no header twice that must come once, and no two ways to tell its length.
    """

    __slots__ = (
        "_body_bytes",
        "_head",
        "_head_bytes",
        "_header_count",
        "_in_body",
        "_keep_alive",
        "_llhttp",
        "_request",
        "_target",
        "expects_continue",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: list[tuple[Request, bool]] = []
        """Complete requests, each with whether the connection may be kept."""
        self.expects_continue = False
        """Whether the client waits for permission to send the body."""
        self._head_bytes = 0
        self._body_bytes = 0
        self._in_body = False
        self._target = b""
        self._head = bytearray()
        """Names and values, a line each. A thousand clients may stop in the middle of a long head:
        as strings of their own, a hundred short headers take twice the memory."""
        self._header_count = 0
        self._llhttp = httptools.HttpRequestParser(self)

    @property
    def is_between_requests(self) -> bool:
        """Whether no part of a request is here."""
        return not self._head_bytes and not self._in_body

    def feed(self, data: bytes, *, header_bytes: int) -> None:
        """Take *data*; complete requests are appended to `requests`.

        A head may exceed *header_bytes* by the length of *data*.

        Raises:
            BadRequest: It cannot be understood. The parser is of no more use.
            HeadTooLong: The same.
        """
        if self._in_body:
            self._body_bytes += len(data)
            self.expects_continue = False
        else:
            self._head_bytes += len(data)
        try:
            while True:
                try:
                    self._llhttp.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    # Upgrades are declined: what follows is HTTP as before.
                    data = data[upgrade.args[0] :]
                else:
                    break
        except httptools.HttpParserError as error:
            raise BadRequest from error
        if self._head_bytes > header_bytes:
            raise HeadTooLong
        if self._in_body and self._body_bytes > BODY_BYTES:
            raise BadRequest

    # What httptools calls. An exception that leaves one of these ends `feed` as BadRequest.

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer
        if self._header_count == MOST_HEADERS:
            raise BadRequest
        self._header_count += 1
        self._head += b"%b\n%b\n" % (name.lower(), value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        parser, lines = self._llhttp, self._head.decode("latin-1").split("\n")
        headers = tuple(zip(lines[0:-1:2], lines[1::2], strict=True))
        version = VERSIONS.get(parser.get_http_version())
        if version is None:
            raise BadRequest
        by_name = dict(headers)
        if len(by_name) < len(headers):
            _refuse_repeated(headers)
        if version == (1, 1) and "host" not in by_name:
            raise BadRequest
        self._in_body = True
        self._body_bytes = 0
        self._head_bytes = 0
        if "transfer-encoding" in by_name or "content-length" in by_name:
            _refuse_unclear_length(by_name, version)
        self.expects_continue = (
            version == (1, 1) and by_name.get("expect", "").lower() == "100-continue"
        )
        method = parser.get_method().decode("ascii")
        path, query, authority = split_target(self._target.decode("ascii"))
        self._request = Request(
            method=method,
            path=path,
            query=query,
            headers=headers,
            http_version=version,
            authority=authority,
        )
        self._keep_alive = parser.should_keep_alive() and method != "CONNECT"
        self._target = b""
        self._head.clear()
        self._header_count = 0

    def on_message_complete(self) -> None:
        self._in_body = self.expects_continue = False
        self.requests.append((self._request, self._keep_alive))


def _refuse_repeated(headers: tuple[tuple[str, str], ...]) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen and name in ONCE:
            raise BadRequest
        seen.add(name)


def _refuse_unclear_length(headers: dict[str, str], version: tuple[int, int]) -> None:
    """Refuse a body whose end two readers could see in different places, or that is too long."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers and ("content-length" in headers or version == (1, 0)):
        raise BadRequest
    if not length.isdecimal() or not length.isascii() or int(length) > BODY_BYTES:
        raise BadRequest


def split_target(target: str) -> tuple[str, str, str | None]:
    """Return path, query and, of an absolute-form target (C-8), the authority.

    The path is UTF-8 after its percent-decoding, with U+FFFD for what is not. ``*`` and CONNECT's
    ``host:port`` stay as they are: no surface has such a path.

    Raises:
        BadRequest: The authority is not one.
    """
    authority = None
    if not target.startswith("/") and "://" in target:
        absolute = ABSOLUTE_FORM.match(target)
        if absolute is None:
            raise BadRequest
        authority = absolute[1]
        target = target[absolute.end() :]
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    return (unquote(path) if "%" in path else path), query, authority


def response_bytes(request: Request, answer: Answer, *, date: str, close: bool) -> bytes:
    """Return *answer* as it goes out: its length exact, no chunks, no header of a library's own.

    A HEAD gets the head of what a GET gets (C-35).
    """
    version = request.http_version
    lines = [STATUS_LINES[version, answer.status]]
    if answer.content_type is not None:
        lines.append(f"Content-Type: {answer.content_type}\r\n")
    lines.extend([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
    lines.append(f"Content-Length: {len(answer.body)}\r\nDate: {date}\r\n")
    if close:
        lines.append("Connection: close\r\n")
    elif version == (1, 0):
        lines.append("Connection: keep-alive\r\n")
    lines.append("\r\n")
    head = "".join(lines).encode("latin-1")
    return head if request.method == "HEAD" else head + answer.body
