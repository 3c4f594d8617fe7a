"""Sort Namespace's refusals: which are passing, which are final, which mean a stale token. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from broker.credentials import json_object
from broker.lease import Refused, SourceError, Stale, Unavailable
from broker.sources.http_client import HttpResponse, retry_after_s
from broker.sources.jwt import text_field
from broker.sources.redact import redacted

CODES: Final[Mapping[str, int]] = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""Source: namespace-api 9.2."""

_NAMES = {number: name for name, number in CODES.items()}

_PASSING: Final[Mapping[int, str]] = {
    CODES["UNKNOWN"]: "upstream-error",
    CODES["DEADLINE_EXCEEDED"]: "timeout",
    CODES["RESOURCE_EXHAUSTED"]: "throttled",
    CODES["ABORTED"]: "upstream-error",
    CODES["INTERNAL"]: "upstream-error",
    CODES["UNAVAILABLE"]: "upstream-error",
}
"""What is worth asking again, and its class word. Everything else is a proper no."""

_FINAL_WORDS: Final[Mapping[int, str]] = {
    CODES["PERMISSION_DENIED"]: "access-denied",
    CODES["NOT_FOUND"]: "not-found",
    CODES["UNIMPLEMENTED"]: "not-found",
}

_STATUS_ALONE: Final[Mapping[int, str]] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "INTERNAL",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""What a status means without a body that says more. Source: namespace-api 9.1 (5), 9.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcStatus:
    """A refusal, whichever way it was spelled. ``missing`` are permissions, ``type/action``;
    ``by_status`` says that nobody but an HTTP status told us."""

    code: int
    message: str
    missing: tuple[str, ...] = ()
    by_status: bool = False

    @property
    def name(self) -> str:
        return _NAMES[self.code]


def fault_in(reply: HttpResponse) -> GrpcStatus:
    """Return what a reply other than 200 says, by the first spelling that it fits.

    Source: namespace-api 9.1; its third spelling, a protobuf in a header, is not read.
    """
    return _in_body(reply) or _in_headers(reply) or _in_status(reply)


def api_error(
    reply: HttpResponse, *, of: str, next_steps: Mapping[str, str], hiding: Iterable[str]
) -> SourceError:
    """Return the error for a reply other than 200 to the call *of*, to be raised.

    *next_steps* says by code name what the operator is to do; the rest have general ones.
    """
    fault = fault_in(reply)
    what = f"{of} was answered with {_spelled(fault, reply, hiding=hiding)}"
    if fault.code == CODES["UNAUTHENTICATED"]:
        return Stale(what)
    if fault.code in _PASSING:
        return Unavailable(
            what + _passing_step(fault),
            word=_passing_word(fault, reply),
            retry_after_s=retry_after_s(reply.headers),
        )
    step = next_steps.get(fault.name, "check the configuration and NSC_IAM_ENDPOINT")
    return Refused(f"{what}; {step}", word=_FINAL_WORDS.get(fault.code, "bad-request"))


def _in_body(reply: HttpResponse) -> GrpcStatus | None:
    document = json_object(reply.body)
    code = _code(document.get("code")) if document else None
    if document is None or code is None:
        return None
    return GrpcStatus(
        code=code, message=text_field(document, "message") or "", missing=_missing_in(document)
    )


def _code(value: object) -> int | None:
    if isinstance(value, str):
        name = value.upper()
        return CODES.get("CANCELLED" if name == "CANCELED" else name)
    return value if type(value) is int and value in _NAMES else None


def _missing_in(document: Mapping[str, object]) -> tuple[str, ...]:
    """Return the permissions that a PermissionDeniedError among the details lists."""
    details = document.get("details")
    entries: list[str] = []
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict):
            continue
        debug = detail.get("debug")
        told = debug if isinstance(debug, dict) else detail
        listed = told.get("missing_access_permissions", told.get("missingAccessPermissions"))
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict):
                kind = text_field(one, "resource_type", "resourceType") or "?"
                entries.append(f"{kind}/{text_field(one, 'action') or '?'}")
    return tuple(entries)


def _in_headers(reply: HttpResponse) -> GrpcStatus | None:
    status, message = reply.headers.get("Grpc-Status"), reply.headers.get("Grpc-Message")
    if status is None or message is None or not re.fullmatch(r"[0-9]{1,2}", status):
        return None
    return GrpcStatus(code=int(status), message=unquote(message)) if int(status) in _NAMES else None


def _in_status(reply: HttpResponse) -> GrpcStatus:
    name = _STATUS_ALONE.get(reply.status, "UNAVAILABLE" if reply.status >= 500 else "UNKNOWN")
    return GrpcStatus(
        code=CODES[name], message=reply.body.decode("utf-8", "replace"), by_status=True
    )


def _spelled(fault: GrpcStatus, reply: HttpResponse, *, hiding: Iterable[str]) -> str:
    what = f"HTTP {reply.status}" if fault.by_status else fault.name
    said = redacted(fault.message, hiding=hiding)
    missing = f"; missing: {redacted(', '.join(fault.missing))}" if fault.missing else ""
    return f"{what}{': ' if said else ''}{said}{missing}"


def _passing_step(fault: GrpcStatus) -> str:
    if fault.by_status and fault.name not in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        return "; is that Namespace, or a proxy? check NSC_IAM_ENDPOINT if it stays so"
    return ""


def _passing_word(fault: GrpcStatus, reply: HttpResponse) -> str:
    if fault.by_status and reply.status < 500 and fault.name in ("UNKNOWN", "INTERNAL"):
        return "bad-answer"
    return _PASSING[fault.code]
