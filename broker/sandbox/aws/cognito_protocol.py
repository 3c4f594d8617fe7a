"""Cognito's protocol (AWS JSON 1.1: an operation in a header, JSON both ways) and parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from aiohttp import web

from broker.sandbox.aws.constraints import complaint
from broker.sandbox.aws.query import ApiError
from broker.sandbox.aws.sigv4 import WireRequest
from broker.sandbox.keys import compact_json

Params = Mapping[str, object]

ID = r"[\w-]+:[0-9a-f-]+"
ID_CHARACTERS = 55

_LOGINS, _LOGIN_CHARACTERS = 10, 1024


def invalid(shown: str, name: str, constraint: str) -> ApiError:
    return ApiError("ValidationException", complaint(shown, name, constraint))


def unreadable(name: str) -> ApiError:
    return ApiError("SerializationException", f"{name} is not of its type")


def text(params: Params, name: str, *, most: int, pattern: str) -> str:
    value = params.get(name)
    if value is None:
        raise invalid("null", name, "not be null")
    if not isinstance(value, str):
        raise unreadable(name)
    if not 1 <= len(value) <= most:
        raise invalid(f"'{value}'", name, f"have length from 1 to {most}")
    if not re.fullmatch(pattern, value, re.ASCII):
        raise invalid(f"'{value}'", name, f"satisfy regular expression pattern: {pattern}")
    return value


def texts(params: Params, name: str) -> dict[str, str]:
    value = params.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise unreadable(name)
    return value


def whole(params: Params, name: str, *, most: int, default: int | None = None) -> int:
    value = params.get(name, default)
    if value is None:
        raise invalid("null", name, "not be null")
    if type(value) is not int:
        raise unreadable(name)
    if value < 1:
        raise invalid(f"'{value}'", name, "have value greater than or equal to 1")
    if value > most:
        raise invalid(f"'{value}'", name, f"have value less than or equal to {most}")
    return value


def pool_id(params: Params) -> str:
    return text(params, "IdentityPoolId", most=ID_CHARACTERS, pattern=ID)


def start_of(params: Params) -> int:
    if "NextToken" not in params:
        return 0
    token = text(params, "NextToken", most=65535, pattern=r"\S+")
    if not re.fullmatch(r"\d{1,9}", token, re.ASCII):
        raise ApiError("InvalidParameterException", "Invalid NextToken")
    return int(token)


def logins(params: Params) -> dict[str, str]:
    if params.get("Logins") is None:
        raise invalid("null", "Logins", "not be null")
    logins = texts(params, "Logins")
    if len(logins) > _LOGINS:
        raise invalid("'{…}'", "Logins", f"have length less than or equal to {_LOGINS}")
    for login in logins.values():
        if not 1 <= len(login) <= _LOGIN_CHARACTERS:
            raise invalid(f"'{login}'", "logins", f"have length from 1 to {_LOGIN_CHARACTERS}")
    return logins


_CODE_OF = {
    400: "InvalidParameterException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "TooManyRequestsException",
    500: "InternalErrorException",
    503: "ServiceUnavailableException",
}


def target_of(request: WireRequest) -> tuple[str, str]:
    """Return the service and operation in ``X-Amz-Target``; empty texts without one."""
    service, _, operation = request.headers.get("x-amz-target", "").rpartition(".")
    return service, operation


def members_of(request: WireRequest) -> dict[str, object] | None:
    """Return the members of the JSON object in the body, None where there is none."""
    try:
        value = json.loads(request.body or b"{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def result(members: Mapping[str, object]) -> web.Response:
    return _json(200, {name: value for name, value in members.items() if value is not None})


def error(refusal: ApiError) -> web.Response:
    """Answer as aws-api.md 7 has it."""
    return _json(refusal.status, {"__type": refusal.code, "message": refusal.message})


def code_for_status(status: int) -> str:
    fallback = "InternalErrorException" if status >= 500 else "InvalidParameterException"
    return _CODE_OF.get(status, fallback)


def _json(status: int, document: Mapping[str, object]) -> web.Response:
    return web.Response(
        status=status, text=compact_json(document), content_type="application/x-amz-json-1.1"
    )
