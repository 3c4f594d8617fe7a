"""Classify Namespace's errors: transient, stale token or final."""

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

_TRANSIENT: Final[Mapping[int, str]] = {
    CODES["UNKNOWN"]: "upstream-error",
    CODES["DEADLINE_EXCEEDED"]: "timeout",
    CODES["RESOURCE_EXHAUSTED"]: "throttled",
    CODES["ABORTED"]: "upstream-error",
    CODES["INTERNAL"]: "upstream-error",
    CODES["UNAVAILABLE"]: "upstream-error",
}
"""The codes that are worth a retry, and their class words. Every other is final."""

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
"""The code for a status without a body that says more. Source: namespace-api 9.1 (5), 9.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcStatus:
    """An error, in whichever form it came.

    ``missing`` are permissions, ``type/action``; ``by_status``: only the HTTP status is known.
    """

    code: int
    message: str
    missing: tuple[str, ...] = ()
    by_status: bool = False

    @property
    def name(self) -> str:
        return _NAMES[self.code]


def parse_error(response: HttpResponse) -> GrpcStatus:
    """Return the error in a response other than 200, in the first form that fits.

    Source: namespace-api 9.1; its third form, a protobuf in a header, is not read.
    """
    return _in_body(response) or _in_headers(response) or _in_status(response)


def api_error(
    response: HttpResponse, *, upstream: str, next_steps: Mapping[str, str], hiding: Iterable[str]
) -> SourceError:
    """Return the error to raise for a response other than 200 from *upstream*.

    *next_steps* has what the operator should do, by code name; other codes have general ones.
    """
    status = parse_error(response)
    what = f"{upstream} was answered with {_describe(status, response, hiding=hiding)}"
    if status.code == CODES["UNAUTHENTICATED"]:
        return Stale(what)
    if status.code in _TRANSIENT:
        return Unavailable(
            what + _transient_step(status),
            word=_transient_word(status, response),
            retry_after_s=retry_after_s(response.headers),
        )
    step = next_steps.get(status.name, "check the configuration and NSC_IAM_ENDPOINT")
    return Refused(f"{what}; {step}", word=_FINAL_WORDS.get(status.code, "bad-request"))


def _in_body(response: HttpResponse) -> GrpcStatus | None:
    document = json_object(response.body)
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
        fields = debug if isinstance(debug, dict) else detail
        listed = fields.get("missing_access_permissions", fields.get("missingAccessPermissions"))
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict):
                kind = text_field(one, "resource_type", "resourceType") or "?"
                entries.append(f"{kind}/{text_field(one, 'action') or '?'}")
    return tuple(entries)


def _in_headers(response: HttpResponse) -> GrpcStatus | None:
    status, message = response.headers.get("Grpc-Status"), response.headers.get("Grpc-Message")
    if status is None or message is None or not re.fullmatch(r"[0-9]{1,2}", status):
        return None
    return GrpcStatus(code=int(status), message=unquote(message)) if int(status) in _NAMES else None


def _in_status(response: HttpResponse) -> GrpcStatus:
    name = _STATUS_ALONE.get(
        response.status, "UNAVAILABLE" if response.status >= 500 else "UNKNOWN"
    )
    return GrpcStatus(
        code=CODES[name], message=response.body.decode("utf-8", "replace"), by_status=True
    )


def _describe(status: GrpcStatus, response: HttpResponse, *, hiding: Iterable[str]) -> str:
    what = f"HTTP {response.status}" if status.by_status else status.name
    message = redacted(status.message, hiding=hiding)
    missing = f"; missing: {redacted(', '.join(status.missing))}" if status.missing else ""
    return f"{what}{': ' if message else ''}{message}{missing}"


def _transient_step(status: GrpcStatus) -> str:
    if status.by_status and status.name not in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        return "; is that Namespace, or a proxy? check NSC_IAM_ENDPOINT if it stays so"
    return ""


def _transient_word(status: GrpcStatus, response: HttpResponse) -> str:
    if status.by_status and response.status < 500 and status.name in ("UNKNOWN", "INTERNAL"):
        return "bad-answer"
    return _TRANSIENT[status.code]
