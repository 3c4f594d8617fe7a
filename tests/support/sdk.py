"""Requests as SDKs put them on the wire, byte by byte."""

from tests.support.surfaces import SECRET, TOKEN_PATH
from tests.support.wire import Reply, Wire


def raw(method: str, path: str, *lines: str, host: str | None = "127.0.0.1") -> bytes:
    """Return one HTTP/1.1 request without a body."""
    hosts = () if host is None else (f"Host: {host}",)
    return "\r\n".join((f"{method} {path} HTTP/1.1", *hosts, *lines, "", "")).encode("latin-1")


def put_token(ttl: str | None = "21600", *lines: str, path: str = TOKEN_PATH) -> bytes:
    asked = () if ttl is None else (f"X-aws-ec2-metadata-token-ttl-seconds: {ttl}",)
    return raw("PUT", path, *asked, *lines)


def with_token(token: str) -> str:
    return f"X-aws-ec2-metadata-token: {token}"


async def token_from(wire: Wire, ttl: str = "21600") -> str:
    reply = await wire.send(put_token(ttl))
    assert reply.status == 200
    return reply.body.decode("ascii")


async def v2(wire: Wire, path: str, *lines: str, method: str = "GET") -> Reply:
    """Ask by IMDSv2, with a session token of its own."""
    token = await token_from(wire)
    return await wire.send(raw(method, path, with_token(token), *lines))


async def v2_text(wire: Wire, path: str) -> str:
    """Return what is there.

    Raises:
        AssertionError: It was not answered with 200.
    """
    reply = await v2(wire, path)
    assert reply.status == 200, (path, reply)
    return reply.body.decode("ascii")


def get_container(path: str, *lines: str) -> bytes:
    """Ask the container endpoint with the good token."""
    return raw("GET", path, f"Authorization: {SECRET}", *lines)
