"""AWS's JSON 1.1 protocol: an operation in a header, JSON both ways. Knows no operation."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from broker.sandbox.aws.query import AwsError
from broker.sandbox.aws.sigv4 import Arrived
from broker.sandbox.keys import compact_json

_CODE_OF = {
    400: "InvalidParameterException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "TooManyRequestsException",
    500: "InternalErrorException",
    503: "ServiceUnavailableException",
}


def target_of(arrived: Arrived) -> tuple[str, str]:
    """Return which service and operation ``X-Amz-Target`` names; empty texts without one."""
    service, _, operation = arrived.headers.get("x-amz-target", "").rpartition(".")
    return service, operation


def members_of(arrived: Arrived) -> dict[str, object] | None:
    """Return the members of the JSON object that came, None when that is not what came."""
    try:
        value = json.loads(arrived.body or b"{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def result(members: Mapping[str, object]) -> web.Response:
    return _json(200, {name: value for name, value in members.items() if value is not None})


def error(refusal: AwsError) -> web.Response:
    """Answer as aws-api.md 7 has it."""
    return _json(refusal.status, {"__type": refusal.code, "message": refusal.message})


def code_for_status(status: int) -> str:
    fallback = "InternalErrorException" if status >= 500 else "InvalidParameterException"
    return _CODE_OF.get(status, fallback)


def _json(status: int, document: Mapping[str, object]) -> web.Response:
    return web.Response(
        status=status, text=compact_json(document), content_type="application/x-amz-json-1.1"
    )
