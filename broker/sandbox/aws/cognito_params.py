"""Parameters of Cognito's operations, refused in its own words. Asks for none itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from broker.sandbox.aws.constraints import complaint
from broker.sandbox.aws.query import AwsError

Params = Mapping[str, object]

ID = r"[\w-]+:[0-9a-f-]+"
ID_CHARACTERS = 55

_LOGINS, _LOGIN_CHARACTERS = 10, 1024


def invalid(shown: str, name: str, constraint: str) -> AwsError:
    return AwsError("ValidationException", complaint(shown, name, constraint))


def unreadable(name: str) -> AwsError:
    return AwsError("SerializationException", f"{name} is not of its type")


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
        raise AwsError("InvalidParameterException", "Invalid NextToken")
    return int(token)


def logins(params: Params) -> dict[str, str]:
    if params.get("Logins") is None:
        raise invalid("null", "Logins", "not be null")
    wanted = texts(params, "Logins")
    if len(wanted) > _LOGINS:
        raise invalid("'{…}'", "Logins", f"have length less than or equal to {_LOGINS}")
    for login in wanted.values():
        if not 1 <= len(login) <= _LOGIN_CHARACTERS:
            raise invalid(f"'{login}'", "logins", f"have length from 1 to {_LOGIN_CHARACTERS}")
    return wanted
