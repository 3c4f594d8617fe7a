"""Answers that are errors, in the form each surface's clients read. Says nothing of why: reasons go
to our own channels, and no input is echoed."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from broker.http.message import Answer

EC2_SERVER: Mapping[str, str] = MappingProxyType({"Server": "EC2ws"})
"""The header of every IMDS answer: some clients know the service by it (C-10)."""


def page(
    status: int, *, route: str = "other", role: str = "none", refusal: str | None = None
) -> Answer:
    """Return an error as EC2 gives it: an XHTML page. Its spaces keep CRT, which takes the body of
    any status but 401 for a role list, from finding a role name in it.

    Source: sdk-client-contract C-56, C-62.
    """
    title = f"{status} - {HTTPStatus(status).phrase}"
    text = (
        '<?xml version="1.0" encoding="iso-8859-1"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        f"<head><title>{title}</title></head>\n"
        f"<body><h1>{title}</h1></body>\n"
        "</html>\n"
    )
    return Answer(
        status=status,
        body=text.encode("ascii"),
        content_type="text/html",
        headers=EC2_SERVER,
        route=route,
        role=role,
        refusal=refusal,
    )


def not_allowed(allow: str, *, route: str) -> Answer:
    """Return 405 as EC2 gives it, without a body; *allow* is the ``Allow`` header.

    Source: sdk-client-contract C-27, C-35, C-62.
    """
    return Answer(status=405, headers={**EC2_SERVER, "Allow": allow}, route=route)


def problem(
    status: int,
    message: str,
    *,
    allow: str | None = None,
    route: str = "container",
    role: str = "none",
    refusal: str | None = None,
) -> Answer:
    """Return an error as JSON, spelled for both readers: Go and Java read the lower-case names,
    JavaScript the others.

    Source: sdk-client-contract C-63.
    """
    code = HTTPStatus(status).phrase.replace(" ", "")
    body = {"code": code, "message": message, "Code": code, "Message": message}
    return Answer(
        status=status,
        body=json.dumps(body).encode("ascii"),
        content_type="application/json",
        headers={} if allow is None else {"Allow": allow},
        route=route,
        role=role,
        refusal=refusal,
    )
