"""HTTP as text: a request's target to path and query, an answer to bytes. Pure; knows no socket."""

import re
from http import HTTPStatus
from urllib.parse import unquote

from broker.http.message import Answer, Request

STATUS_LINES = {
    (version, status.value): f"HTTP/{version[0]}.{version[1]} {status.value} {status.phrase}\r\n"
    for version in ((1, 0), (1, 1))
    for status in HTTPStatus
}
AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")


def split_target(target: str) -> tuple[str, str]:
    """Return path and query of a request line's target, in origin-form or absolute-form (C-8).

    ``*`` and CONNECT's ``host:port`` stay as they are: no surface has such a path.
    """
    if not target.isascii():
        target = target.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not target.startswith("/"):
        authority = AUTHORITY.match(target)
        if authority:
            target = target[authority.end() :]
            if not target.startswith("/"):
                target = "/" + target
    path, _, query = target.partition("?")
    return (unquote(path) if "%" in path else path), query


def bytes_of(request: Request, answer: Answer, *, date: str, end: bool) -> bytes:
    """Return *answer* as it goes out: length exact, no chunks, nothing of the library's own.

    To a HEAD, the head of what a GET gets (C-35).
    """
    version = (1, 0) if request.http_version == (1, 0) else (1, 1)
    lines = [STATUS_LINES[version, answer.status]]
    if answer.content_type is not None:
        lines.append(f"Content-Type: {answer.content_type}\r\n")
    lines.extend([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
    lines.append(f"Content-Length: {len(answer.body)}\r\nDate: {date}\r\n")
    if end:
        lines.append("Connection: close\r\n")
    elif version == (1, 0):
        lines.append("Connection: keep-alive\r\n")
    lines.append("\r\n")
    head = "".join(lines).encode("latin-1")
    return head if request.method == "HEAD" else head + answer.body
