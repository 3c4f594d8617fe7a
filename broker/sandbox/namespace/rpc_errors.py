"""Namespace's errors: gRPC codes, and their five representations over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from aiohttp import web

from broker.sandbox.faults import ErrorShape
from broker.sandbox.keys import compact_json

CODES: Mapping[str, tuple[int, int]] = {
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 409),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}
"""Name, to number and usual HTTP status. Source: namespace-api.md 9.2."""

_NAMES = {number: name for name, (number, _) in CODES.items()}


class RpcError(Exception):
    """A refusal by one of Namespace's methods; *code* is a name of :data:`CODES`."""

    def __init__(
        self, code: str, message: str, *, details: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)


def permission_denied(resource_type: str, action: str) -> RpcError:
    """Return the error that names the missing permission. Source: namespace-api.md 9.1."""
    detail = {
        "@type": "type.googleapis.com/namespace.cloud.iam.v1beta.PermissionDeniedError",
        "missing_access_permissions": [{"resource_type": resource_type, "action": action}],
    }
    message = f"missing permission {resource_type}/{action}"
    return RpcError("PERMISSION_DENIED", message, details=[detail])


def error_response(
    error: RpcError, *, shape: ErrorShape, status: int | None = None
) -> web.Response:
    """Return *error* as a response, in one of the shapes of namespace-api.md 9.1."""
    number, usual_status = CODES.get(error.code, (2, 500))
    status = status or usual_status
    if shape == "http-status":
        return web.Response(status=status, text=error.message)
    if shape == "grpc-headers":
        headers = {"Grpc-Status": str(number), "Grpc-Message": quote(error.message, safe=" ")}
        return web.Response(status=status, headers=headers)
    if shape == "details-bin":
        packed = base64.b64encode(_protobuf_status(number, error.message)).decode().rstrip("=")
        return web.Response(status=status, headers={"Grpc-Status-Details-Bin": packed})
    code: object = number if shape == "status" else _connect_name(error.code)
    document: dict[str, object] = {"code": code, "message": error.message}
    if error.details:
        document["details"] = list(error.details)
    return web.Response(status=status, text=compact_json(document), content_type="application/json")


def code_name(code: str | int) -> str:
    """Return the name of a code, given as a number or as a name in any case."""
    return _NAMES.get(code, "UNKNOWN") if isinstance(code, int) else code.upper()


def code_for_status(status: int) -> str:
    named = (name for name, (_, usual) in CODES.items() if usual == status)
    return next(named, "UNKNOWN")


def _connect_name(code: str) -> str:
    return "canceled" if code == "CANCELLED" else code.lower()


def _protobuf_status(number: int, message: str) -> bytes:
    """Encode google.rpc.Status: field 1 the code (varint), field 2 the message (bytes)."""
    text = message.encode()
    return b"\x08" + _varint(number) + b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
