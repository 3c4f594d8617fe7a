"""S3 behind the sandbox's signature check: moto's server, in a thread of this process."""

from __future__ import annotations

import asyncio
import io
import logging
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from yarl import URL

from broker.sandbox.aws.query import text
from broker.sandbox.aws.sigv4 import WireRequest

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "host", "expect", "date", "server"}
)

_STATUS_OF: Mapping[str, int] = {
    "AccessDenied": 403,
    "InvalidAccessKeyId": 403,
    "NotImplemented": 501,
    "RequestTimeTooSkewed": 403,
    "SignatureDoesNotMatch": 403,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "SlowDown": 503,
}

_BUCKET_OPERATIONS: Mapping[str, str] = {
    "PUT": "CreateBucket",
    "DELETE": "DeleteBucket",
    "HEAD": "HeadBucket",
    "GET": "ListObjects",
    "POST": "PostObject",
}
_OBJECT_OPERATIONS: Mapping[str, str] = {
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
    "HEAD": "HeadObject",
    "GET": "GetObject",
}
_BY_PARAMETER: Mapping[tuple[str, str], str] = {
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "uploadId"): "ListParts",
    ("POST", "delete"): "DeleteObjects",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("PUT", "uploadId"): "UploadPart",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}


class MotoS3:
    """moto's server. Buckets belong to the process: starting another server deletes them."""

    def __init__(self) -> None:
        self._server: ThreadedMotoServer | None = None
        self._http: aiohttp.ClientSession | None = None
        self._url = ""

    async def start(self) -> None:
        """Import and start moto, which takes about a second.

        Raises:
            ModuleNotFoundError: moto is not installed.
        """
        self._server = await asyncio.to_thread(_start_moto)
        host, port = self._server.get_host_and_port()
        self._url = f"http://{host}:{port}"
        self._http = aiohttp.ClientSession(auto_decompress=False)
        async with self._http.post(f"{self._url}/moto-api/reset") as response:
            response.raise_for_status()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    async def forward(self, request: WireRequest, *, account: str) -> web.Response:
        """Forward a verified request unchanged to that account's S3."""
        assert self._http is not None
        headers = {k: v for k, v in request.headers.items() if k not in _HOP_BY_HOP}
        async with self._http.request(
            request.method,
            URL(self._url + request.target, encoded=True),
            headers=headers | {"x-moto-account-id": account},
            data=io.BytesIO(request.body),
            skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
            allow_redirects=False,
        ) as response:
            body = await response.read()
            kept = [(k, v) for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP]
        if request.method != "HEAD":
            kept = [(k, v) for k, v in kept if k.lower() != "content-length"]
        answer = web.Response(status=response.status, body=body or None)
        answer.headers.popall("Content-Type", None)
        answer.headers.extend(kept)
        return answer


def operation_name(request: WireRequest) -> str:
    """Name the operation as the API reference does, from method, path and query."""
    parameters = {pair.partition("=")[0] for pair in request.query.split("&")}
    for (method, parameter), name in _BY_PARAMETER.items():
        if method == request.method and parameter in parameters:
            return name
    bucket, _, key = request.path.strip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    if key:
        copies = request.method == "PUT" and "x-amz-copy-source" in request.headers
        return "CopyObject" if copies else _OBJECT_OPERATIONS.get(request.method, "PostObject")
    if request.method == "GET" and "list-type" in parameters:
        return "ListObjectsV2"
    return _BUCKET_OPERATIONS.get(request.method, request.method)


def error(code: str, message: str, *, method: str, status: int | None = None) -> web.Response:
    """Return S3's error; answers to HEAD have no body."""
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{text(code)}</Code><Message>{text(message)}</Message>"
        f"<RequestId>{uuid.uuid4().hex[:16].upper()}</RequestId></Error>"
    )
    status = status or _STATUS_OF.get(code, 400)
    if method == "HEAD":
        return web.Response(status=status)
    return web.Response(status=status, text=document, content_type="application/xml")


def code_for_status(status: int) -> str:
    named = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
    return named.get(status, "InternalError" if status >= 500 else "InvalidRequest")


def _start_moto() -> ThreadedMotoServer:
    from moto.server import ThreadedMotoServer  # a second, and only in the demo extra

    # Its server writes a line per request; the sandbox has its own record.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    return server
