"""AWS's query protocol: form parameters in, XML out, and its errors."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import web

from broker.sandbox.aws.sigv4 import WireRequest

_STATUS_OF: Mapping[str, int] = {
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "IDPRejectedClaim": 403,
    "InvalidClientTokenId": 403,
    "MissingAuthenticationToken": 403,
    "OptInRequired": 403,
    "OutboundWebIdentityFederationDisabledException": 403,
    "RegionDisabledException": 403,
    "SessionDurationEscalationException": 403,
    "SignatureDoesNotMatch": 403,
    "NoSuchEntity": 404,
    "RequestTimeout": 408,
    "FeatureDisabled": 404,
    "ConcurrentModification": 409,
    "DeleteConflict": 409,
    "EntityAlreadyExists": 409,
    "FeatureEnabled": 409,
    "LimitExceeded": 409,
    "InternalErrorException": 500,
    "InternalFailure": 500,
    "ServiceFailure": 500,
    "ServiceUnavailable": 503,
}
"""Statuses other than 400, by code. Source: aws-api.md 3 to 7."""

_CODE_OF = {
    403: "AccessDenied",
    408: "RequestTimeout",
    429: "Throttling",
    500: "InternalFailure",
    503: "ServiceUnavailable",
}

Result = Mapping[str, object]


class ApiError(Exception):
    """A refusal, by AWS's own code; *status* is the code's usual one unless given."""

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.stated_status = status
        self.status = status or _STATUS_OF.get(code, 400)


def parameters(request: WireRequest) -> dict[str, str]:
    """Return the form's fields, or the query's where there is no form."""
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    text = request.body.decode(errors="replace") if form else request.query
    return dict(parse_qsl(text, keep_blank_values=True))


def members(params: Mapping[str, str], name: str) -> list[str]:
    """Return the list parameter ``name.member.1``, ``name.member.2`` and so on."""
    values: list[str] = []
    while (value := params.get(f"{name}.member.{len(values) + 1}")) is not None:
        values.append(value)
    return values


def structures(params: Mapping[str, str], name: str) -> list[dict[str, str]]:
    """Return the list of structures ``name.member.1.Key`` and so on."""
    found: list[dict[str, str]] = []
    while True:
        prefix = f"{name}.member.{len(found) + 1}."
        one = {
            key.removeprefix(prefix): value
            for key, value in params.items()
            if key.startswith(prefix)
        }
        if not one:
            return found
        found.append(one)


def result(operation: str, members: Result | None, *, namespace: str) -> web.Response:
    """Answer 200; *namespace* is the service's XML namespace. Source: aws-api.md 3."""
    return _xml(
        200,
        f'<{operation}Response xmlns="{namespace}">'
        f"{'' if members is None else _element(f'{operation}Result', members)}"
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
        f"</{operation}Response>",
    )


def error(refusal: ApiError, *, namespace: str) -> web.Response:
    kind = "Receiver" if refusal.status >= 500 else "Sender"
    detail = {"Type": kind, "Code": refusal.code, "Message": refusal.message}
    return _xml(
        refusal.status,
        f'<ErrorResponse xmlns="{namespace}">{_element("Error", detail)}'
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>",
    )


def code_for_status(status: int) -> str:
    return _CODE_OF.get(status, "InternalFailure" if status >= 500 else "ValidationError")


def text(value: object) -> str:
    """Escape for XML; control characters, which XML cannot hold, become ``?``."""
    allowed = (c if c >= " " or c in "\t\n\r" else "?" for c in str(value))
    return escape("".join(allowed).encode("utf-8", "replace").decode())


def _element(name: str, value: object) -> str:
    if isinstance(value, bool):
        inner = "true" if value else "false"
    elif isinstance(value, Mapping):
        inner = "".join(_element(key, one) for key, one in value.items() if one is not None)
    elif isinstance(value, (list, tuple)):
        inner = "".join(_element("member", one) for one in value)
    else:
        inner = text(value)
    return f"<{name}>{inner}</{name}>"


def _xml(status: int, document: str) -> web.Response:
    return web.Response(status=status, text=document, content_type="text/xml")
