"""Which keys the configuration file has and of what type. One struct per table; no limits here."""

import difflib
import json
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from broker.config.errors import ConfigError, shown
from broker.config.model import Algorithm, IdentitySource, LogFormat, LogLevel

Table = Mapping[str, Any]
T = TypeVar("T", bound=msgspec.Struct)

STS_AUDIENCE = "sts.amazonaws.com"


class IdentityTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[identities.NAME]``"""

    source: IdentitySource = "auto"
    path: str | None = None
    workspace: str | None = None
    audience: str | None = None
    algorithm: Algorithm | None = None
    duration_s: int | None = None
    region: str | None = None
    profile: str | None = None
    identity_pool: str | None = None
    developer_provider: str | None = None


class RoleTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[roles.NAME]``"""

    arn: str | None = None
    identity: str = "default"
    audience: str = STS_AUDIENCE
    duration_s: int | Literal["max"] = 3600
    region: str | None = None
    session_name: str | None = None
    policy: str | None = None
    policy_file: str | None = None
    policy_arns: list[str] = []


class ImdsTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[imds]``"""

    listen: list[str] | None = None
    v1: bool = False
    hop_limit: int | None = None
    instance_id: str | None = None


class ContainerTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[container]``"""

    listen: list[str] | None = None
    token_file: str | None = None
    token_group: str | None = None
    tokens: dict[str, str] = {}


class OpsTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[ops]``"""

    listen: list[str] | None = None


class NamespaceTokenTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[namespace_tokens.IDENTITY]``"""

    file: str | None = None
    group: str | None = None
    http: bool = False


class IdTokenTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[id_tokens.NAME]``"""

    audience: str | None = None
    file: str | None = None
    identity: str = "default"
    role: str | None = None


class WhoTable(msgspec.Struct, frozen=True, kw_only=True):
    """``who`` of ``[[rules]]``"""

    user: str | None = None
    uid: int | None = None
    group: str | None = None
    unit: str | None = None
    user_unit: str | None = None
    container: str | None = None
    exe: str | None = None
    cidr: str | None = None
    token: str | None = None
    any_local: bool | None = None


class RuleTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[rules]]``"""

    who: Any = None
    roles: list[str] | None = None
    default_role: str | None = None
    policy: str | None = None
    tags: dict[str, str] = {}
    namespace_tokens: list[str] = []
    id_token_audiences: list[str] = []


class GuardTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[guard]``"""

    allowed_hosts: list[str] = []
    max_connections: int = 1024
    max_connections_per_caller: int = 64
    header_bytes: int = 16384
    header_timeout_s: float = 5
    idle_timeout_s: float = 75


class AuditTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[audit]``"""

    to: str | None = None


class LogTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[log]``"""

    format: LogFormat = "auto"
    level: LogLevel = "info"


class TopTable(msgspec.Struct, frozen=True, kw_only=True):
    """The file itself. Its tables are read one by one, so that errors can name their place."""

    default_role: str | None = None
    region: str | None = None
    availability_zone: str | None = None
    state_dir: str | None = None
    identities: dict[str, Any] = {}
    roles: dict[str, Any] = {}
    namespace_tokens: dict[str, Any] = {}
    id_tokens: dict[str, Any] = {}
    imds: dict[str, Any] = {}
    container: dict[str, Any] = {}
    ops: dict[str, Any] = {}
    rules: Any = ()
    guard: dict[str, Any] = {}
    audit: dict[str, Any] = {}
    log: dict[str, Any] = {}


def read(kind: type[T], table: object, *, place: str) -> T:
    """Return *table* as a *kind*; *place* is the path of the table, empty for the file itself.

    Raises:
        ConfigError: No table, an unknown key, or a value of another type; with the key's path.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(place, f"is {kind_of(table)}", f"write it as a table: [{place}]")
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name in table:
        if name not in fields:
            raise ConfigError(below(place, name), "is no key here", advice(name, list(fields)))
    values = {
        name: typed(value, fields[name], place=below(place, name)) for name, value in table.items()
    }
    return kind(**values)


def typed(value: object, wanted: Any, *, place: str) -> object:
    try:
        converted: object = msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise ConfigError(place, f"is {kind_of(value)}", f"give {described(wanted)}") from error
    return converted


def advice(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"


def below(place: str, name: str) -> str:
    """Return the path of a key in TOML's own spelling: quoted where it must be."""
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name[:100])
    return f"{place}.{key}" if place else key


def kind_of(value: object) -> str:
    """Return what a TOML value is, and which, for an error."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float() | str():
            return shown(value)
        case list():
            return "a list"
        case Mapping():
            return "a table"
    return "a date or time"


def described(wanted: Any) -> str:
    """Return what a key takes, in words."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(described(one) for one in arguments if one is not type(None))
    if origin is Literal:
        words = [json.dumps(word) for word in arguments]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if origin is Annotated:
        return described(arguments[0])
    if origin is list:
        return 'a list of texts, like ["..."]'
    if origin is dict:
        return "a table" if arguments[1] is Any else 'a table of texts, like { name = "..." }'
    return {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}[
        wanted
    ]
